//! A stand-in for IBM Cloud Secrets Manager and its IAM beside a hub.

use edge_secrets_fakes::ibm::Ibm;
use serde_json::{Value, json};

use crate::stand_in::StandIn;

/// An instance with the default group, and the API key that a hub comes with.
pub type TestIbm = StandIn<Ibm>;

impl StandIn<Ibm> {
    /// A new one that serves.
    #[must_use]
    pub fn start() -> Self {
        let ibm = Self::serve(Ibm::new(API_KEY));
        ibm.file("api-key", API_KEY);
        ibm
    }

    /// Puts it into a hub's configuration as `ibm`; `paths` is what the organisation may reach.
    pub fn configure(&self, hub: &mut serde_yaml::Value, paths: &[&str]) {
        let url = self.server().url();
        let settings = json!({
            "url": url,
            "iam_url": url,
            "api_key": self.path("api-key"),
            "ca_file": self.path("ca.pem"),
            "write": true,
            "access_groups": ["AccessGroupId-edge"],
        });
        self.enlist(hub, ("ibm", "ibm_cloud"), paths, &settings);
    }

    /// Adds a secret as the body of a create says it; its id.
    pub fn seed(&self, body: &Value) -> String {
        let now = self.now();
        self.with(|ibm| ibm.seed(body, now))
    }

    /// Gives a secret another value, as a rotation does.
    pub fn rotate(&self, id: &str, body: &Value) {
        let now = self.now();
        self.with(|ibm| ibm.rotate(id, body, now));
    }

    /// Sets `reuse_api_key` of a secret.
    pub fn set_reuse(&self, id: &str, reuse: bool) {
        self.with(|ibm| ibm.secret(id).reuse = reuse);
    }

    /// The id of the secret that was made last.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn newest(&self) -> String {
        self.with(|ibm| ibm.secrets.last().expect("a secret").id.clone())
    }

    /// How many values it gave out.
    #[must_use]
    pub fn given(&self) -> usize {
        self.with(|ibm| ibm.given)
    }

    /// How many API keys it made. One is made with its secret.
    #[must_use]
    pub fn minted(&self) -> usize {
        self.with(|ibm| ibm.account.minted)
    }

    /// Whether a key that was made lets in.
    #[must_use]
    pub fn key_works(&self, key: &str) -> bool {
        let now = self.now();
        self.with(|ibm| ibm.account.works(key, now))
    }
}

const API_KEY: &str = "the-key-of-the-hub";
