//! A stand-in for Secret Server (PIM) beside a hub.

use edge_secrets_fakes::log::Call;
use edge_secrets_fakes::secret_server::{Item, SecretServer, Stored};
use serde_json::json;

use crate::stand_in::StandIn;

/// A Secret Server with the account that a hub logs in with.
pub type TestSecretServer = StandIn<SecretServer>;

impl StandIn<SecretServer> {
    /// A new one that serves.
    #[must_use]
    pub fn start() -> Self {
        let app = SecretServer::new();
        let (username, password) = (app.username.clone(), app.password.clone());
        let server = Self::serve(app);
        server.file("username", &username);
        server.file("password", &password);
        server
    }

    /// Puts it into a hub's configuration as `pim`; `paths` is what the organisation may reach.
    pub fn configure(&self, hub: &mut serde_yaml::Value, paths: &[&str]) {
        let mut settings = json!({
            "url": format!("{}/SecretServer", self.server().url()),
            "username": self.path("username"),
            "password": self.path("password"),
            "ca_file": self.path("ca.pem"),
        });
        if let Some(domain) = self.with(|server| server.domain.clone()) {
            settings["domain"] = domain.into();
        }
        self.enlist(hub, ("pim", "secret_server"), paths, &settings);
    }

    /// Adds a secret to a folder; its number.
    pub fn add(&self, folder: &str, name: &str, items: &[Item]) -> u64 {
        self.with(|server| server.add(folder, name, items))
    }

    /// Changes a secret, or looks at it, without a trace.
    pub fn secret<T>(&self, id: u64, change: impl FnOnce(&mut Stored) -> T) -> T {
        self.with(|server| change(server.secret(id)))
    }

    /// A person changes a field.
    pub fn edit(&self, id: u64, slug: &str, value: &str) {
        let now = self.now();
        self.with(|server| server.edit(id, slug, value, now));
    }

    /// The manager changes a field by itself.
    pub fn rotate(&self, id: u64, slug: &str, value: &str) {
        let now = self.now();
        self.with(|server| server.rotate(id, slug, value, now));
    }

    /// How many times a secret was checked out.
    #[must_use]
    pub fn checkouts(&self) -> usize {
        self.with(|server| server.checkouts)
    }

    /// Every read of a value so far, of whole secrets and of single fields.
    #[must_use]
    pub fn reads(&self) -> Vec<Call> {
        let mut calls = self.server().log.calls();
        calls.retain(is_read);
        calls
    }
}

fn is_read(call: &Call) -> bool {
    let Some((_, rest)) = call.path.split_once("/secrets/") else {
        return false;
    };
    match rest.split('/').collect::<Vec<_>>().as_slice() {
        [id] => id.parse::<u64>().is_ok(),
        [_, part, ..] => matches!(*part, "fields" | "restricted"),
        [] => false,
    }
}
