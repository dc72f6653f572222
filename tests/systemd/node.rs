//! A machine that is hub and node in one.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use edge_secrets_tests::ORG;
use edge_secrets_tests::nspawn::Machine;
use edge_secrets_tests::samples::{plain_service, policy};
use serde_json::Value;

use crate::NOTIFIES;

/// The service of most trials, with one secret. Its consumer is `main`.
pub(crate) const URL: &str = "com.example.uplink";

/// Where that service's files are.
pub(crate) const DIR: &str = "/run/edge-secrets/services/myorg/com.example.uplink/main";

/// The secret as the service calls it.
pub(crate) const NAME: &str = "cred";

/// Where the administrator says what `URL`'s consumer gets.
pub(crate) const PROFILE: &str = "/etc/edge-secrets/services.d/uplink.yaml";

/// A machine with hub and agent from their packages.
pub(crate) struct Node(Machine);

impl Node {
    /// Booted, the hub serves, the node is enrolled and its agent runs. Nothing is deployed.
    pub(crate) fn start() -> Self {
        let node = Self::enrolled();
        node.ok(&["systemctl", "start", AGENT]);
        node
    }

    /// The same before the agent's first start.
    pub(crate) fn enrolled() -> Self {
        let mut machine = Machine::new(true);
        if !NOTIFIES {
            let drop_in = "[Service]\nType=exec\nWatchdogSec=0\n";
            machine.write(
                "/etc/systemd/system/edge-secrets-agent.service.d/type.conf",
                drop_in,
            );
        }
        machine.write(CONFIG, CONFIGURATION);
        machine.boot();
        let node = Self(machine);
        node.serve();
        let token = node.ok(&["edge-secrets", "node", "token", "edge-01"]);
        let ended = node.run(&["edge-secrets-agent", "enroll", "--token", "-"], token);
        assert_eq!(ended.code, 0, "enroll: {ended:?}");
        node
    }

    /// Makes the hub, as its own user, and waits until it serves.
    fn serve(&self) {
        let data = ["--data-dir", "/var/lib/edge-secrets-hub"];
        let listen = ["--org", ORG, "--listen", "127.0.0.1:8443"];
        let init = [
            "runuser",
            "-u",
            "edge-secrets-hub",
            "--",
            "edge-secrets-hub",
            "init",
        ];
        self.ok(&[&init[..], &data, &listen].concat());
        self.ok(&["systemctl", "start", HUB]);
        self.until_says(HUB, "listening on");
    }

    /// Sets the secret that `deploy` binds.
    pub(crate) fn set(&self, value: &str) {
        let args = [
            "edge-secrets",
            "secret",
            "set",
            "uplink",
            "--value-file",
            "-",
        ];
        let ended = self.run(&args, value);
        assert_eq!(ended.code, 0, "{ended:?}");
    }

    /// Publishes the service and the policy that places it here.
    pub(crate) fn deploy(&self) {
        self.publish(&plain_service(URL, &[NAME]));
        self.place();
    }

    /// Publishes a service definition.
    pub(crate) fn publish(&self, definition: &Value) {
        let ended = self.run(
            &["edge-secrets", "service", "publish", "-"],
            definition.to_string(),
        );
        assert_eq!(ended.code, 0, "{ended:?}");
    }

    /// Places `URL` here.
    pub(crate) fn place(&self) {
        let policy = policy(URL, &["site == berlin"], &[(NAME, "uplink")]);
        let args = ["edge-secrets", "policy", "publish", "uplink", "-"];
        let ended = self.run(&args, policy.to_string());
        assert_eq!(ended.code, 0, "{ended:?}");
    }

    /// Withdraws it.
    pub(crate) fn withdraw(&self) {
        self.ok(&["edge-secrets", "--yes", "policy", "rm", "uplink"]);
    }

    /// Sets, deploys, and waits until it is delivered.
    pub(crate) fn delivered(&self, value: &str) {
        self.set(value);
        self.deploy();
        self.await_service();
    }

    /// Waits until `URL` has everything, also while the agent is only starting.
    pub(crate) fn await_service(&self) {
        let wait = ["edge-secrets-agent", "wait", URL, "--timeout", "100s"];
        self.until("the service is delivered", || self.run(&wait, "").code == 0);
    }

    /// Waits until the file holds this.
    pub(crate) fn await_value(&self, name: &str, value: &str) {
        edge_secrets_tests::wait::content(&self.path(DIR).join(name), value.as_bytes());
    }

    /// Waits until the agent, where it runs, has read the profiles that are written meanwhile. They must be
    /// others than those in force.
    pub(crate) fn reads_profiles(&self, write: impl FnOnce()) {
        let runs = self.show(AGENT, "ActiveState") == "active";
        let read = || self.journal(AGENT).matches("Profiles read.").count();
        let before = read();
        write();
        if runs {
            self.until("the agent has read the profiles", || read() > before);
        }
    }

    /// Writes a profile of `URL` and waits until the agent has read it, where it runs.
    pub(crate) fn profile(&self, text: &str) {
        self.reads_profiles(|| {
            let text = format!("service: {ORG}/{URL}\nconsumer: main\n{text}");
            self.write(PROFILE, text);
        });
    }

    /// The same for what is delivered already: what is there is no news to whoever is to hear of changes.
    pub(crate) fn later_profile(&self, text: &str) {
        self.profile(text);
        self.await_status("the profile is read", |_| {
            self.consumer()["profile"].is_string()
        });
    }

    /// Writes a unit and lets systemd read it.
    pub(crate) fn unit(&self, name: &str, text: &str) {
        self.write(&format!("/etc/systemd/system/{name}"), text);
        self.ok(&["systemctl", "daemon-reload"]);
    }

    /// What the agent says of itself.
    pub(crate) fn status(&self) -> Value {
        let ended = self.run(&["edge-secrets-agent", "status", "-o", "json"], "");
        serde_json::from_str(&ended.stdout).unwrap_or_default()
    }

    /// Waits until the agent says so.
    pub(crate) fn await_status(&self, what: &str, done: impl Fn(&Value) -> bool) {
        self.until(what, || done(&self.status()));
    }

    /// The one consumer's part of the status.
    pub(crate) fn consumer(&self) -> Value {
        self.status()["services"][0]["consumers"][0].clone()
    }

    /// Boots again.
    pub(crate) fn reboot(&mut self) {
        self.power_off();
        self.boot();
    }
}

impl Deref for Node {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.0
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Machine {
        &mut self.0
    }
}

/// What is waited for where nothing shows that it has happened: longer than an action's debounce.
pub(crate) const A_MOMENT: Duration = Duration::from_secs(1);
pub(crate) const AGENT: &str = "edge-secrets-agent.service";
pub(crate) const SOCKET: &str = "edge-secrets-credentials.socket";
pub(crate) const HUB: &str = "edge-secrets-hub.service";
pub(crate) const CONFIG: &str = "/etc/edge-secrets/agent.yaml";
const CONFIGURATION: &str = r#"
hub: { url: "https://127.0.0.1:8443" }
node: { id: edge-01, properties: { site: berlin, tier: prod } }
"#;
