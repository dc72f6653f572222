//! A stand-in for a secrets manager beside a hub: it serves for as long as a test holds it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use edge_secrets_fakes::{App, Fault, Server};
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{ORG, wait};

/// A secrets manager of a test's own, spoken to over real HTTPS.
pub struct StandIn<A: App> {
    // Before the runtime that it is served on.
    server: Server<A>,
    _runtime: Runtime,
    place: TempDir,
}

impl<A: App> StandIn<A> {
    /// Serves it. The certificate of its authority lies beside it as `ca.pem`.
    pub(crate) fn serve(app: A) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let server = runtime.block_on(Server::start(app));
        let place = tempfile::Builder::new()
            .prefix("edge-secrets-manager-")
            .tempdir()
            .expect("a place");
        let stand_in = Self {
            server,
            _runtime: runtime,
            place,
        };
        stand_in.file("ca.pem", stand_in.server.pki().certificate());
        stand_in
    }

    /// Puts it into a hub's configuration, looked at every second; `paths` is what the organisation
    /// may reach, `settings` what its kind alone has.
    pub(crate) fn enlist(
        &self,
        hub: &mut serde_yaml::Value,
        (name, kind): (&str, &str),
        paths: &[&str],
        settings: &Value,
    ) {
        let manager = json!({
            "name": name,
            "orgs": { ORG: paths },
            "poll": "1s",
            "requests_per_second": 500,
            kind: settings,
        });
        let manager = serde_yaml::to_value(manager).expect("YAML");
        hub["managers"] = serde_yaml::Value::Sequence(vec![manager]);
    }

    /// The server, with its clock, faults and log.
    #[must_use]
    pub fn server(&self) -> &Server<A> {
        &self.server
    }

    /// Looks at it, or changes it behind everybody's back.
    pub fn with<T>(&self, look: impl FnOnce(&mut A) -> T) -> T {
        self.server.with(look)
    }

    /// What its clock says.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.server.clock.now()
    }

    /// Everything goes wrong like this until it heals.
    pub fn suffer(&self, fault: Fault) {
        self.server.faults.always(fault);
    }

    /// Everything goes well again.
    pub fn heal(&self) {
        self.server.faults.heal();
    }

    /// Waits until it is as wanted; looks whenever the hub of this log has something to say.
    pub fn until(&self, log: &Path, what: &str, wanted: impl Fn(&Self) -> bool) {
        wait::until(log, what, || wanted(self));
    }

    /// Waits until the hub of this log has asked it for so many things more.
    pub fn asked_again(&self, log: &Path, times: usize) {
        let before = self.server.log.count(|_| true);
        wait::until(log, "it is asked again and again", || {
            self.server.log.count(|_| true) >= before + times
        });
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.place.path().join(name).display().to_string()
    }

    /// A file that nobody else can read.
    pub(crate) fn file(&self, name: &str, content: &str) {
        let path = self.place.path().join(name);
        fs::write(&path, content).expect("a writable place");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("private");
    }
}
