//! A real agent in a temporary place and a runtime directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::binaries::binaries;
use crate::clock::{Clock, Rule};
use crate::daemon::Daemon;
use crate::hub::{TestHub, read_yaml, write_yaml};
use crate::operator::{Ended, run};
use crate::{ORG, wait};

/// An agent with a state directory, a runtime directory on tmpfs, and logs at trace level.
#[derive(Debug)]
pub struct TestAgent {
    // Before the places: the process ends first.
    daemon: Option<Daemon>,
    place: TempDir,
    runtime: TempDir,
    rule: Rule,
}

impl TestAgent {
    /// A node that is enrolled and runs.
    #[must_use]
    pub fn start(hub: &TestHub, node: &str, properties: &[(&str, Value)]) -> Self {
        let mut agent = Self::enrolled(hub, node, properties);
        agent.run();
        agent
    }

    /// A node that is enrolled and does not run yet.
    ///
    /// # Panics
    /// When the hub refuses.
    #[must_use]
    pub fn enrolled(hub: &TestHub, node: &str, properties: &[(&str, Value)]) -> Self {
        let agent = Self::new(hub, node, properties);
        let ended = agent.enrol(&hub.token(node));
        assert_eq!(ended.code, 0, "enrol: {ended:?}");
        agent
    }

    /// A node with a configuration and nothing else.
    ///
    /// # Panics
    /// When there is no place for it.
    #[must_use]
    pub fn new(hub: &TestHub, node: &str, properties: &[(&str, Value)]) -> Self {
        let place = tempfile::Builder::new()
            .prefix("edge-secrets-agent-")
            .tempdir();
        let runtime = tempfile::Builder::new()
            .prefix("edge-secrets-run-")
            .tempdir_in(TMPFS);
        let agent = Self {
            daemon: None,
            place: place.expect("a place"),
            runtime: runtime.expect("a place on tmpfs"),
            rule: Rule::default(),
        };
        fs::create_dir_all(agent.state_dir()).expect("a state directory");
        // The agent watches the configuration's directory: its log must not stand there.
        fs::create_dir_all(agent.place().join("etc")).expect("a directory");
        let properties: serde_json::Map<_, _> = properties
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone()))
            .collect();
        let config = serde_json::json!({
            "hub": { "url": hub.url() },
            "node": { "id": node, "properties": properties },
            "state_dir": agent.state_dir(),
            "runtime_dir": agent.runtime_dir(),
            // It is one; a mount of root's would outlive a killed agent.
            "tmpfs": { "mount": "never" },
            "log": { "level": "trace" },
        });
        // JSON is YAML.
        fs::write(agent.config(), config.to_string()).expect("a configuration");
        agent
    }

    /// Whatever is started from now on goes by this clock.
    pub fn go_by(&mut self, clock: &Clock) {
        self.rule = clock.rule();
    }

    /// Changes the configuration.
    pub fn reconfigure(&self, change: impl FnOnce(&mut serde_yaml::Value)) {
        let mut config = read_yaml(&self.config());
        change(&mut config);
        write_yaml(&self.config(), &config);
    }

    /// `edge-secrets-agent --config …` with more arguments.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&binaries().agent);
        command.arg("--config").arg(self.config()).args(args);
        self.rule.apply(&mut command);
        command
    }

    /// Runs a command to its end.
    #[must_use]
    pub fn ended(&self, args: &[&str]) -> Ended {
        run(&mut self.command(args), b"")
    }

    /// Enrols.
    #[must_use]
    pub fn enrol(&self, token: &str) -> Ended {
        run(
            &mut self.command(&["enroll", "--token", "-"]),
            token.as_bytes(),
        )
    }

    /// Enrols in the place of a former identity.
    #[must_use]
    pub fn enrol_anew(&self, token: &str) -> Ended {
        run(
            &mut self.command(&["enroll", "--token", "-", "--force"]),
            token.as_bytes(),
        )
    }

    /// Runs the daemon.
    pub fn run(&mut self) {
        self.daemon = Some(Daemon::start(&mut self.command(&["run"]), &self.log()));
    }

    /// Runs the daemon by another command, in a namespace for example.
    pub fn run_as(&mut self, command: &mut Command) {
        self.daemon = Some(Daemon::start(command, &self.log()));
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.daemon.take().expect("a running agent").kill();
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(&mut self) -> ExitStatus {
        self.daemon.take().expect("a running agent").stop()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.daemon.take().expect("a running agent").wait()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.daemon
            .as_ref()
            .expect("a running agent")
            .signal(signal);
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.daemon.as_ref().expect("a running agent").pid()
    }

    /// Waits until the service is delivered, with the agent's own command.
    ///
    /// # Panics
    /// When it is not.
    pub fn await_service(&self, url: &str) {
        let service = format!("{ORG}/{url}");
        self.await_status("it answers", |_| true);
        let timeout = format!("{}s", wait::DEADLINE.as_secs());
        let ended = self.ended(&["wait", &service, "--timeout", &timeout]);
        assert_eq!(ended.code, 0, "wait {service}: {ended:?}");
    }

    /// What the agent says of itself; `None` while it does not answer.
    #[must_use]
    pub fn status(&self) -> Option<Value> {
        let ended = self.ended(&["status", "-o", "json"]);
        serde_json::from_str(&ended.stdout)
            .ok()
            .filter(|_| ended.code == 0)
    }

    /// Waits until the agent says so. Looks whenever the agent has logged something.
    pub fn await_status(&self, what: &str, done: impl Fn(&Value) -> bool) {
        let mut last = None;
        wait::until(&self.log(), what, || {
            let status = self.status();
            let found = status.as_ref().is_some_and(&done);
            last = status;
            found
        });
    }

    /// Waits until the hub is (not) connected.
    pub fn await_hub(&self, state: &str) {
        self.await_status(&format!("the hub is {state}"), |s| {
            s["hub"]["state"] == state
        });
    }

    /// Waits until the log holds `text`.
    pub fn await_log(&self, text: &str) {
        wait::until(&self.log(), &format!("the log says {text:?}"), || {
            self.log_text().contains(text)
        });
    }

    /// Empties the log of an agent that does not run, so that what it says next can be awaited.
    ///
    /// # Panics
    /// When it runs, or the log cannot be written.
    pub fn forget_log(&self) {
        assert!(self.daemon.is_none(), "the log is being written");
        std::fs::write(self.log(), "").expect("an empty log");
    }

    /// How often the log says `text`.
    #[must_use]
    pub fn times_logged(&self, text: &str) -> usize {
        self.log_text().matches(text).count()
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.place.path().join("etc/agent.yaml")
    }

    /// Everything the agent has but the runtime directory, its log included.
    #[must_use]
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// The state directory.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.place.path().join("state")
    }

    /// The runtime directory.
    #[must_use]
    pub fn runtime_dir(&self) -> &Path {
        self.runtime.path()
    }

    /// The log file.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.place.path().join("agent.log")
    }

    /// What was logged so far.
    #[must_use]
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    /// Where a consumer reads.
    #[must_use]
    pub fn consumer(&self, url: &str, consumer: &str) -> PathBuf {
        self.consumer_of(ORG, url, consumer)
    }

    /// The same of another organisation's service.
    #[must_use]
    pub fn consumer_of(&self, org: &str, url: &str, consumer: &str) -> PathBuf {
        self.runtime
            .path()
            .join("services")
            .join(org)
            .join(url)
            .join(consumer)
    }

    /// The generations that lie in a consumer's directory, without the one that is served.
    #[must_use]
    pub fn superseded(dir: &Path) -> Vec<String> {
        let served = fs::read_link(dir.join("..data")).ok();
        let Ok(entries) = fs::read_dir(dir) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with("..") && name != "..data")
            .filter(|name| served.as_deref() != Some(Path::new(name)))
            .collect()
    }
}

/// Where an ordinary user finds a tmpfs.
pub const TMPFS: &str = "/dev/shm";
