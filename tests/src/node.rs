//! Speaking the protocol by hand: as an administrator, and as a node that asks for what it likes.

use std::time::Instant;

use edge_secrets_protocol::binding::{
    Bindings, FetchItem, FetchRequest, FetchResponse, FetchResult, SecretState,
};
use edge_secrets_protocol::enroll::{EnrollRequest, Identity};
use edge_secrets_protocol::node::{NodeFacts, Property};
use edge_secrets_protocol::sealed::Place;
use edge_secrets_protocol::{Fields, NodeId, OrgId, PublicKey, SealingKey, Secret, UserId, routes};
use http::Method;
use serde_json::{Value, json};

use crate::ORG;
use crate::client::{Answer, Client, Credentials};
use crate::hub::{Context, POLL, TestHub};
use crate::wait::DEADLINE;

/// A user's connection to the admin API. Values are sealed as the operator's command seals them.
pub struct AdminApi {
    /// The connection.
    pub client: Client,
    org: OrgId,
    user: UserId,
    sealing_key: PublicKey,
}

impl AdminApi {
    /// Connects as the context says.
    ///
    /// # Panics
    /// When the hub does not answer.
    #[must_use]
    pub fn connect(port: u16, context: &Context) -> Self {
        let client = Client::connect(port, Some(&context.ca), Some(&context.credentials));
        Self::over(client.expect("a connection"))
    }

    /// Uses this connection.
    ///
    /// # Panics
    /// When the hub does not answer.
    #[must_use]
    pub fn over(mut client: Client) -> Self {
        let info: Value = client.get("/v1/hub").expect("an answer").ok();
        let parse = |key: &str| info[key].as_str().expect("a text").to_owned();
        Self {
            client,
            org: parse("org").parse().expect("an organisation"),
            user: parse("user").parse().expect("a user"),
            sealing_key: parse("sealing_key").try_into().expect("a key"),
        }
    }

    /// The path of something of the organisation.
    #[must_use]
    pub fn path(&self, rest: &str) -> String {
        format!("/v1/orgs/{}/{rest}", self.org)
    }

    /// The body that sets a secret, sealed.
    ///
    /// # Panics
    /// When the fields are none.
    #[must_use]
    pub fn sealed(&self, reference: &str, fields: &[(&str, &[u8])]) -> Value {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.parse().expect("a field name"), *value))
            .collect();
        let payload = Fields::encode(&fields).expect("a payload");
        let place = Place::Set {
            org: &self.org,
            user: &self.user,
            reference,
        };
        json!({ "sealed": self.sealing_key.seal(&place, &payload).expect("sealed") })
    }

    /// Sets a secret with the one field `value`, and gives the answer.
    pub fn set(&mut self, reference: &str, value: &[u8]) -> Value {
        let body = self.sealed(reference, &[("value", value)]);
        self.put(&format!("secrets/{reference}"), &body).ok()
    }

    /// `PUT` below the organisation.
    ///
    /// # Panics
    /// When the connection ends.
    pub fn put(&mut self, rest: &str, body: &Value) -> Answer {
        let path = self.path(rest);
        self.client
            .json(Method::PUT, &path, body)
            .expect("an answer")
    }

    /// `POST` below the organisation.
    ///
    /// # Panics
    /// When the connection ends.
    pub fn post(&mut self, rest: &str, body: &Value) -> Answer {
        let path = self.path(rest);
        self.client
            .json(Method::POST, &path, body)
            .expect("an answer")
    }

    /// `GET` below the organisation, which must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub fn get(&mut self, rest: &str) -> Value {
        let path = self.path(rest);
        self.client.get(&path).expect("an answer").ok()
    }

    /// What the hub counts.
    ///
    /// # Panics
    /// When it does not say.
    pub fn metrics(&mut self) -> String {
        let answer = self.client.get("/v1/metrics").expect("an answer");
        assert_eq!(answer.status, 200, "{answer}");
        String::from_utf8(answer.body).expect("text")
    }

    /// Waits, by long poll, until a policy's rollout is as wanted.
    ///
    /// # Panics
    /// After [`DEADLINE`].
    pub fn await_rollout(&mut self, policy: &str, what: &str, done: impl Fn(&Value) -> bool) {
        let start = Instant::now();
        let mut rollout = self.get(&format!("policies/{policy}/rollout"));
        while !done(&rollout) {
            assert!(start.elapsed() < DEADLINE, "waited for: {what}; {rollout}");
            let tag = rollout["tag"].as_str().expect("a tag").to_owned();
            let wait = POLL.as_secs();
            rollout = self.get(&format!(
                "policies/{policy}/rollout?after={tag}&wait={wait}"
            ));
        }
    }
}

/// A node with real keys and a real certificate, but no agent: it asks for what a test wants.
pub struct RawNode {
    /// The connection.
    pub client: Client,
    /// Its certificate and key.
    pub credentials: Credentials,
    /// Where values are sealed to.
    pub key: SealingKey,
    org: OrgId,
    node: NodeId,
}

impl RawNode {
    /// Enrols with a new token.
    ///
    /// # Panics
    /// When the hub refuses.
    #[must_use]
    pub fn enrol(hub: &TestHub, node: &str, properties: &[(&str, Value)]) -> Self {
        let key_pair = rcgen::KeyPair::generate().expect("a key");
        let key = SealingKey::generate();
        let body = enrol_body(&hub.token(node), &key_pair, &key, properties);
        let answer = hub.stranger().json(Method::POST, routes::ENROLL, &body);
        let identity: Identity = answer.expect("an answer").ok();
        let credentials = Credentials {
            chain: identity.certificate,
            key: key_pair.serialize_pem(),
        };
        Self {
            client: Self::connect(hub, &credentials),
            credentials,
            key,
            org: identity.org,
            node: identity.node,
        }
    }

    /// Connects again.
    pub fn reconnect(&mut self, hub: &TestHub) {
        self.client = Self::connect(hub, &self.credentials);
    }

    fn connect(hub: &TestHub, credentials: &Credentials) -> Client {
        Client::connect(hub.port(), Some(&hub.ca()), Some(credentials)).expect("a connection")
    }

    /// What to fetch of its own: in the version that its bindings name now.
    ///
    /// # Panics
    /// When nothing binds it.
    pub fn bound(&mut self, service: &str, name: &str) -> FetchItem {
        let bindings: Bindings = self.client.get(routes::BINDINGS).expect("an answer").ok();
        let mut item = item(service, name, "0");
        let of_service = bindings
            .deployments
            .iter()
            .filter(|d| d.service == item.service);
        for secret in of_service.flat_map(|deployment| &deployment.secrets) {
            if let (true, SecretState::Ready { version }) =
                (secret.name == item.name, &secret.state)
            {
                item.version = version.clone();
                return item;
            }
        }
        panic!("{service}/{name} is not bound and ready: {bindings:?}");
    }

    /// Asks for values.
    ///
    /// # Panics
    /// When the connection ends.
    pub fn fetch(&mut self, items: &[FetchItem]) -> Answer {
        let request = FetchRequest {
            items: items.to_vec(),
        };
        self.client
            .json(Method::POST, routes::SECRETS, &request)
            .expect("an answer")
    }

    /// Asks for one value: opened, or the problem as JSON.
    ///
    /// # Errors
    /// With the problem.
    ///
    /// # Panics
    /// When the answer is neither.
    pub fn fetch_one(&mut self, item: &FetchItem) -> Result<Secret, Value> {
        let mut response: FetchResponse = self.fetch(std::slice::from_ref(item)).ok();
        assert_eq!(response.items.len(), 1);
        match response.items.remove(0) {
            FetchResult::Problem(problem) => Err(serde_json::to_value(problem).expect("JSON")),
            FetchResult::Sealed(sealed) => {
                let place = Place::Node {
                    org: &self.org,
                    node: &self.node,
                    service: &item.service,
                    name: &item.name,
                    version: &item.version,
                };
                Ok(sealed.open(&self.key, &place).expect("sealed to this node"))
            }
        }
    }
}

/// The body of an enrolment.
///
/// # Panics
/// When a property is none.
#[must_use]
pub fn enrol_body(
    token: &str,
    key_pair: &rcgen::KeyPair,
    key: &SealingKey,
    properties: &[(&str, Value)],
) -> EnrollRequest {
    let csr = rcgen::CertificateParams::default()
        .serialize_request(key_pair)
        .expect("a request");
    let property = |(name, value): &(&str, Value)| Property {
        name: (*name).into(),
        value: value.clone(),
        kind: None,
    };
    EnrollRequest {
        token: token.into(),
        csr: csr.pem().expect("PEM"),
        sealing_key: key.public(),
        facts: NodeFacts {
            properties: properties.iter().map(property).collect(),
            agent_version: "0.0.0".into(),
            ..NodeFacts::default()
        },
    }
}

/// What to fetch.
///
/// # Panics
/// When a part is no name.
#[must_use]
pub fn item(service: &str, name: &str, version: &str) -> FetchItem {
    FetchItem {
        service: format!("{ORG}/{service}").parse().expect("a service"),
        name: name.parse().expect("a secret name"),
        version: version.parse().expect("a version"),
    }
}
