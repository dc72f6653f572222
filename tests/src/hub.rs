//! A real hub in a temporary place.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::binaries::binaries;
use crate::client::{Client, Credentials};
use crate::clock::{Clock, Rule};
use crate::daemon::Daemon;
use crate::node::{AdminApi, RawNode};
use crate::operator::{Ended, Operator, run};
use crate::{ORG, port};

/// A hub with a data directory, a port that it keeps over restarts, and logs at trace level.
#[derive(Debug)]
pub struct TestHub {
    // Before the place: the process ends first.
    daemon: Option<Daemon>,
    place: TempDir,
    port: u16,
    rule: Rule,
}

impl TestHub {
    /// A new hub that serves.
    #[must_use]
    pub fn start() -> Self {
        Self::configured(|_| ())
    }

    /// A new hub whose `hub.yaml` was changed before it served.
    ///
    /// # Panics
    /// When it does not serve.
    #[must_use]
    pub fn configured(change: impl FnOnce(&mut serde_yaml::Value)) -> Self {
        let mut hub = Self::placed();
        let ended = hub.init();
        assert_eq!(ended.code, 0, "init: {ended:?}");
        let mut config = read_yaml(&hub.config());
        config["log"]["level"] = "trace".into();
        change(&mut config);
        write_yaml(&hub.config(), &config);
        hub.serve();
        hub
    }

    /// An empty place and a port.
    fn placed() -> Self {
        let mut place = tempfile::Builder::new();
        place.prefix("edge-secrets-hub-");
        Self {
            daemon: None,
            place: place.tempdir().expect("a place"),
            port: port::reserve(),
            rule: Rule::default(),
        }
    }

    /// The hub when it serves again, and its operator's commands, go by this clock.
    pub fn go_by(&mut self, clock: &Clock) {
        self.rule = clock.rule();
    }

    /// A hub restored from the backup at `from`, with a passphrase in a file, which serves beside the one that
    /// the backup is of.
    ///
    /// # Panics
    /// When it cannot be restored or does not serve.
    #[must_use]
    pub fn restored(from: &Path, passphrase: &Path) -> Self {
        let mut hub = Self::placed();
        let mut command = Command::new(&binaries().hub);
        command.arg("restore").arg("--from").arg(from);
        command.arg("--passphrase-file").arg(passphrase);
        command.arg("--data-dir").arg(hub.data_dir());
        let ended = run(&mut command, b"");
        assert_eq!(ended.code, 0, "restore: {ended:?}");
        let mut config = read_yaml(&hub.config());
        config["listen"] = format!("127.0.0.1:{}", hub.port).into();
        write_yaml(&hub.config(), &config);
        let context = hub.data_dir().join("admin.yaml");
        let mut admin = read_yaml(&context);
        admin["hub"] = hub.url().into();
        write_yaml(&context, &admin);
        hub.serve();
        hub
    }

    /// Runs `init` in the hub's place.
    #[must_use]
    pub fn init(&self) -> Ended {
        let mut command = Command::new(&binaries().hub);
        command
            .arg("init")
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--org", ORG, "--listen"])
            .arg(format!("127.0.0.1:{}", self.port));
        run(&mut command, b"")
    }

    /// The command that serves this hub.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&binaries().hub);
        command.arg("serve").arg("--config").arg(self.config());
        self.rule.apply(&mut command);
        command
    }

    /// Serves again, after [`kill`](Self::kill) or [`stop`](Self::stop).
    ///
    /// # Panics
    /// When it does not.
    pub fn serve(&mut self) {
        self.serve_by(&mut self.command());
    }

    /// Serves by another command, under a tracer for example.
    ///
    /// # Panics
    /// When it does not.
    pub fn serve_by(&mut self, command: &mut Command) {
        let daemon = Daemon::start(command, &self.log());
        let line = daemon.line();
        assert_eq!(line, format!("listening on 127.0.0.1:{}", self.port));
        self.daemon = Some(daemon);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.daemon.take().expect("a running hub").kill();
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(&mut self) -> ExitStatus {
        self.daemon.take().expect("a running hub").stop()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> ExitStatus {
        self.daemon.take().expect("a running hub").wait()
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.daemon.as_ref().expect("a running hub").pid()
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.place.path().join("data")
    }

    /// Everything the hub has, its log included.
    #[must_use]
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// `hub.yaml`.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.data_dir().join("hub.yaml")
    }

    /// The log file.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.place.path().join("hub.log")
    }

    /// What was logged so far.
    #[must_use]
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    /// Waits until the log holds `text`.
    pub fn await_log(&self, text: &str) {
        crate::wait::until(&self.log(), &format!("the log says {text:?}"), || {
            self.log_text().contains(text)
        });
    }

    /// The administrator, through the real command.
    #[must_use]
    pub fn operator(&self) -> Operator {
        Operator::new(&self.data_dir().join("admin.yaml")).ruled(&self.rule)
    }

    /// Adds a user and gives their command.
    #[must_use]
    pub fn user(&self, name: &str, role: &str) -> Operator {
        let context = self.place.path().join(format!("{name}.yaml"));
        let out = context.to_str().expect("a plain path");
        self.operator()
            .ok(&["user", "add", name, "--role", role, "--out", out], "");
        Operator::new(&context)
    }

    /// Adds another organisation, for which the hub is started anew, and gives its administrator's
    /// command.
    ///
    /// # Panics
    /// When there is none then.
    pub fn add_org(&mut self, org: &str) -> Operator {
        assert!(self.stop().success());
        let out = self.place.path().join(org);
        let mut command = Command::new(&binaries().hub);
        command.args(["add-org", org, "--config"]);
        command.arg(self.config()).arg("--out").arg(&out);
        let ended = run(&mut command, b"");
        assert_eq!(ended.code, 0, "add-org: {ended:?}");
        self.serve();
        Operator::new(&out.join("admin.yaml"))
    }

    /// The administrator's own connection.
    #[must_use]
    pub fn admin(&self) -> AdminApi {
        AdminApi::connect(self.port, &Context::load(self.operator().context()))
    }

    /// The hub's CA certificate, PEM.
    #[must_use]
    pub fn ca(&self) -> String {
        Context::load(self.operator().context()).ca
    }

    /// A new enrolment token.
    #[must_use]
    pub fn token(&self, node: &str) -> String {
        let answer = self.operator().json(&["node", "token", node]);
        answer["token"].as_str().expect("a token").to_owned()
    }

    /// A node that a test speaks for itself.
    #[must_use]
    pub fn raw_node(&self, node: &str, properties: &[(&str, Value)]) -> RawNode {
        RawNode::enrol(self, node, properties)
    }

    /// A connection without any certificate.
    #[must_use]
    pub fn stranger(&self) -> Client {
        Client::connect(self.port, Some(&self.ca()), None).expect("a connection")
    }

    /// Waits until every node that `policy` touches has applied it, and there are `nodes` of them.
    pub fn await_rollout(&self, policy: &str, nodes: u64) {
        self.admin().await_rollout(
            policy,
            &format!("{nodes} nodes have applied it"),
            |rollout| rollout["total"] == nodes && rollout["applied"] == nodes,
        );
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            drop(daemon);
        } else if std::thread::panicking() {
            eprintln!(
                "--- {}:\n{}",
                self.log().display(),
                crate::wait::tail(&self.log())
            );
        }
    }
}

/// A context file of the operator's command.
#[derive(Clone)]
pub struct Context {
    /// The hub's address.
    pub hub: String,
    /// Who.
    pub user: String,
    /// The CA certificate, PEM.
    pub ca: String,
    /// Certificate and key.
    pub credentials: Credentials,
}

impl Context {
    /// Reads it.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        let yaml = read_yaml(path);
        let text = |key: &str| {
            yaml[key]
                .as_str()
                .unwrap_or_else(|| panic!("{key}"))
                .to_owned()
        };
        // PEM where it stands, or a path.
        let pem = |key: &str| {
            let text = text(key);
            if text.contains("-----BEGIN") {
                return text;
            }
            let dir = path.parent().expect("a directory");
            fs::read_to_string(dir.join(text)).expect("a PEM file")
        };
        Self {
            hub: text("hub"),
            user: text("user"),
            ca: pem("ca"),
            credentials: Credentials {
                chain: pem("certificate"),
                key: pem("key"),
            },
        }
    }
}

/// Reads YAML.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn read_yaml(path: &Path) -> serde_yaml::Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Writes YAML.
///
/// # Panics
/// When it cannot.
pub fn write_yaml(path: &Path, value: &serde_yaml::Value) {
    fs::write(path, serde_yaml::to_string(value).expect("YAML")).expect("a writable file");
}

/// How long a long poll waits at the hub.
pub(crate) const POLL: Duration = Duration::from_secs(20);
