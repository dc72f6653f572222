//! What the hub makes and sets there, where it may.

use data_encoding::BASE64;
use edge_secrets_protocol::{Fields, Secret, SecretVersion};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use zeroize::Zeroizing;

use super::IbmCloud;
use super::api::ENGINE;
use super::describe::version_of;
use super::lookup::DEFAULT;
use super::place::{Named, Place, SecretType};
use super::wire::Made;
use crate::route::at;
use crate::{Engine, Fault, ManagerError, NewCredential};

impl IbmCloud {
    /// Makes the service able to make keys: its engine for `iam_credentials` gets this API key, whose
    /// service id may create service ids and keys. [`Fault::Denied`] without the role Manager.
    pub(super) async fn configure_engine(
        &self,
        name: &str,
        api_key: &Secret,
    ) -> Result<Engine, ManagerError> {
        if !is_configuration(name) {
            return Err(invalid(
                "a configuration is called by 2 to 128 of A-Z a-z 0-9 . _ -, a letter or digit first \
                 and last",
            ));
        }
        let api_key = std::str::from_utf8(api_key.expose())
            .map_err(|_| invalid("the engine's API key is no text"))?;
        let new = json(&NewEngine {
            config_type: ENGINE,
            name,
            api_key,
            disabled: false,
        })?;
        let made = self.api.post(at("/api/v2/configurations", &[]), &new).await;
        let replaced = match made {
            Ok(_) => false,
            Err(error) if error.fault == Fault::Conflict => {
                let change = json(&NewKey {
                    api_key,
                    disabled: false,
                })?;
                let route = at("/api/v2/configurations/{name}", &[name]);
                let changed = self.api.patch_engine(route, &change).await;
                changed.map_err(|error| of_another_name(name, error))?;
                true
            }
            Err(error) => return Err(unknown(error)),
        };
        Ok(Engine {
            kind: ENGINE,
            replaced,
        })
    }

    pub(super) async fn create_credential(
        &self,
        place: &Place,
        new: &NewCredential,
    ) -> Result<(), ManagerError> {
        let named = match place {
            Place::Named(named) if named.kind == SecretType::IamCredentials => named,
            _ => {
                return Err(invalid(
                    "credentials are made as <group>/iam_credentials/<name>",
                ));
            }
        };
        check(new)?;
        self.expect_allowed(new)?;
        let group = self.group_for(named).await?;
        let body = json(&NewSecret {
            secret_type: named.kind.as_str(),
            name: &named.name,
            description: &new.description,
            secret_group_id: &group,
            labels: &new.labels,
            ttl: new.ttl_seconds.to_string(),
            access_groups: &new.access_groups,
            service_id: new.service_id.as_deref(),
            reuse_api_key: new.reuse,
        })?;
        // The answer has a first key in it, which is dropped unread.
        let reply = self.api.post(at("/api/v2/secrets", &[]), &body).await;
        let made: Made = reply.map_err(unknown)?.json()?;
        self.known.learn_id(named, &made.id);
        Ok(())
    }

    /// Whoever may make credentials here must not choose by that what they may do.
    fn expect_allowed(&self, new: &NewCredential) -> Result<(), ManagerError> {
        let groups = new.access_groups.iter();
        let groups = groups.map(|group| (group, &self.access_groups, "access_groups"));
        let id = new.service_id.iter();
        let id = id.map(|id| (id, &self.service_ids, "service_ids"));
        match groups
            .chain(id)
            .find(|(named, allowed, _)| !allowed.contains(named))
        {
            None => Ok(()),
            Some((named, _, key)) => Err(ManagerError::new(
                Fault::OutOfPolicy,
                format!(
                    "no credentials are made for {named} here: the hub's configuration lists what they \
                     may be made for under `{key}` of `ibm_cloud`"
                ),
            )),
        }
    }

    /// Between the look at the current version and the new one another may come: the service cannot
    /// be asked to compare.
    pub(super) async fn set_value(
        &self,
        place: &Place,
        payload: &Secret,
        expected: Option<Option<SecretVersion>>,
    ) -> Result<SecretVersion, ManagerError> {
        let there = match (&expected, self.metadata(place).await) {
            (Some(None), Ok(_)) => return Err(conflict("it is there already")),
            (Some(Some(_)), Err(error)) if is_absent(&error) => {
                return Err(conflict("it is not there any more"));
            }
            (_, Ok((metadata, _))) => Some(metadata),
            (_, Err(error)) if is_absent(&error) => None,
            (_, Err(error)) => return Err(error),
        };
        let kind = match (&there, place) {
            (Some(metadata), _) => metadata.secret_type,
            (None, Place::Named(named)) => named.kind,
            (None, Place::Id(_)) => return Err(invalid("a new secret needs a name, not an id")),
        };
        let value = Value::of(kind, payload)?;
        let id = match &there {
            Some(metadata) => metadata.id.clone(),
            None => return self.create_value(place, &value).await,
        };
        if let Some(Some(expected)) = &expected {
            let current = self.current(&id).await?;
            if current.is_none_or(|current| current.id != expected.as_str()) {
                return Err(conflict("its current version is another one"));
            }
        }
        let body = json(&value)?;
        let route = at("/api/v2/secrets/{id}/versions", &[&id]);
        let reply = self.api.post(route, &body).await.map_err(unknown)?;
        self.known.forget(&id);
        version_of(&reply.json::<Made>()?.id)
    }

    async fn create_value(
        &self,
        place: &Place,
        value: &Value<'_>,
    ) -> Result<SecretVersion, ManagerError> {
        let Place::Named(named) = place else {
            return Err(invalid("a new secret needs a name, not an id"));
        };
        let group = self.group_for(named).await?;
        let body = json(&NewValue {
            secret_type: named.kind.as_str(),
            name: &named.name,
            secret_group_id: &group,
            value,
        })?;
        let reply = self.api.post(at("/api/v2/secrets", &[]), &body).await;
        let made: Made = reply.map_err(unknown)?.json()?;
        self.known.learn_id(named, &made.id);
        match self.current(&made.id).await? {
            Some(current) => version_of(&current.id),
            None => Err(conflict("it was removed again at once")),
        }
    }

    async fn group_for(&self, named: &Named) -> Result<String, ManagerError> {
        if named.group == DEFAULT {
            return Ok(DEFAULT.into());
        }
        self.group_id(&named.group).await?.ok_or_else(|| {
            ManagerError::new(
                Fault::Missing,
                format!(
                    "there is no secret group {:?} that the hub sees: make it first",
                    named.group
                ),
            )
        })
    }
}

#[derive(Serialize)]
struct NewEngine<'a> {
    config_type: &'a str,
    name: &'a str,
    api_key: &'a str,
    disabled: bool,
}

#[derive(Serialize)]
struct NewKey<'a> {
    api_key: &'a str,
    disabled: bool,
}

#[derive(Serialize)]
struct NewSecret<'a> {
    secret_type: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    secret_group_id: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    labels: &'a [String],
    ttl: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    access_groups: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    service_id: Option<&'a str>,
    reuse_api_key: bool,
}

#[derive(Serialize)]
struct NewValue<'a> {
    secret_type: &'a str,
    name: &'a str,
    secret_group_id: &'a str,
    #[serde(flatten)]
    value: &'a Value<'a>,
}

/// A value as a body has it. It has no `Debug`.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Value<'a> {
    Payload(Text<'a>),
    Data(Members<'a>),
}

/// Text as it is, bytes as the service keeps files.
#[derive(Serialize)]
#[serde(untagged)]
enum Text<'a> {
    Plain(&'a str),
    Binary(Zeroized),
}

struct Zeroized(Zeroizing<String>);

struct Members<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Value<'a> {
    fn of(kind: SecretType, payload: &'a Secret) -> Result<Self, ManagerError> {
        let fields =
            Fields::decode(payload.expose()).map_err(|_| invalid("the payload is none"))?;
        match kind {
            SecretType::Arbitrary => {
                let value = fields.expose_value().ok_or_else(|| {
                    invalid("an arbitrary secret has one field, `value`: take the type kv for more")
                })?;
                Ok(Self::Payload(Text::of(value)))
            }
            SecretType::Kv => {
                let mut members = Vec::new();
                for (name, value) in fields.expose() {
                    let value = std::str::from_utf8(value)
                        .map_err(|_| invalid("a field of a kv secret is text"))?;
                    members.push((name, value));
                }
                Ok(Self::Data(Members(members)))
            }
            _ => Err(ManagerError::new(
                Fault::Unsupported,
                "only the types arbitrary and kv are set from here: set it at its manager",
            )),
        }
    }
}

impl<'a> Text<'a> {
    fn of(value: &'a [u8]) -> Self {
        match std::str::from_utf8(value) {
            // Text that looks like such a file would come back as another value.
            Ok(text) if !text.starts_with("data:") => Self::Plain(text),
            _ => {
                let mut uri = Zeroizing::new(String::with_capacity(64 + value.len() / 3 * 4 + 4));
                uri.push_str("data:application/octet-stream;base64,");
                BASE64.encode_append(value, &mut uri);
                Self::Binary(Zeroized(uri))
            }
        }
    }
}

impl Serialize for Zeroized {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn check(new: &NewCredential) -> Result<(), ManagerError> {
    if !(60..=90 * 86_400).contains(&new.ttl_seconds) {
        return Err(invalid("a key lives for a minute to 90 days"));
    }
    let groups = new.access_groups.len();
    match (&new.service_id, groups) {
        (Some(_), 0) | (None, 1..=10) => {}
        _ => {
            return Err(invalid(
                "a key is a member of 1 to 10 access groups, or of one service id",
            ));
        }
    }
    let fits = |label: &String| (2..=64).contains(&label.chars().count());
    if new.labels.len() > 30 || !new.labels.iter().all(fits) {
        return Err(invalid(
            "there are at most 30 labels, of 2 to 64 characters each",
        ));
    }
    Ok(())
}

fn is_configuration(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let whole = |c: char| c.is_ascii_alphanumeric();
    (2..=128).contains(&name.len())
        && name.chars().all(plain)
        && name.starts_with(whole)
        && name.ends_with(whole)
}

/// It took no engine of this name, and has none of this name.
fn of_another_name(name: &str, error: ManagerError) -> ManagerError {
    match error.fault {
        Fault::Missing => conflict(&format!(
            "it takes no engine {name}, and has none of that name to change: give the name of the one \
             that it has"
        )),
        _ => unknown(error),
    }
}

fn json(value: &impl Serialize) -> Result<Secret, ManagerError> {
    serde_json::to_vec(value)
        .map(Secret::new)
        .map_err(|_| invalid("the value makes no JSON"))
}

/// A call that changes something, and whose answer is lost, may have been done.
fn unknown(error: ManagerError) -> ManagerError {
    match error.fault {
        Fault::TimedOut => ManagerError {
            fault: Fault::OutcomeUnknown,
            ..error
        },
        _ => error,
    }
}

fn is_absent(error: &ManagerError) -> bool {
    matches!(error.fault, Fault::Missing | Fault::NotFoundOrDenied)
}

fn invalid(why: &str) -> ManagerError {
    ManagerError::new(Fault::Invalid, why)
}

fn conflict(why: &str) -> ManagerError {
    ManagerError::new(Fault::Conflict, why)
}
