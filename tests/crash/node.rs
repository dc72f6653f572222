//! A node whose agent runs under the tracer, with its hub.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use edge_secrets_tests::cut::{Act, Cut, Order};
use edge_secrets_tests::node::AdminApi;
use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::scan::Scanner;
use edge_secrets_tests::{Canary, TestAgent, TestHub, wait};
use http::Method;

use crate::listing::listing;

/// A hub, and a node that reads two names of one secret.
pub(crate) struct Node {
    pub(crate) agent: TestAgent,
    pub(crate) hub: TestHub,
    pub(crate) admin: AdminApi,
    pub(crate) cut: Option<Cut>,
    /// Where the service manager would give credentials to the agent.
    credentials: Option<PathBuf>,
    /// What readers had before the change that is under way, and what they are to have after it.
    pub(crate) before: Option<Canary>,
    pub(crate) wanted: Option<Canary>,
    /// What the secret's value is.
    set: Canary,
    /// What nobody is to have any more.
    gone: Vec<Canary>,
    /// The files of the sealed cache whose versions are superseded.
    superseded: Vec<OsString>,
}

impl Node {
    /// Enrolled, with a secret and a service, and no policy; not running.
    pub(crate) fn new() -> Self {
        let hub = TestHub::start();
        let agent = TestAgent::enrolled(&hub, "edge-01", &[]);
        // Nobody reads here while something is superseded.
        agent.reconfigure(|config| {
            config["wipe"] = serde_yaml::from_str("{ grace: 0s }").expect("YAML");
        });
        let operator = hub.operator();
        operator.publish_service(&plain_service(URL, &["a", "b"]));
        let mut admin = hub.admin();
        let first = Canary::new();
        admin.set("pair", first.value().as_bytes());
        Self {
            agent,
            hub,
            admin,
            cut: None,
            credentials: None,
            before: None,
            wanted: None,
            set: first,
            gone: Vec::new(),
            superseded: Vec::new(),
        }
    }

    /// From now on the agent is given a key that it can encrypt its sealing key under.
    pub(crate) fn give_credential(&mut self) {
        let dir = self.agent.place().join("credentials");
        fs::create_dir(&dir).expect("a directory");
        fs::write(dir.join("edge-secrets-key"), [7; 32]).expect("a credential");
        self.credentials = Some(dir);
    }

    /// Runs the agent; `order` is in force from its first change on.
    pub(crate) fn run(&mut self, order: Order) {
        let mut command = self.agent.command(&["run"]);
        command.envs(self.environment());
        self.run_by(&command, order);
    }

    /// The same, where only what is changed in this directory counts.
    pub(crate) fn run_counting(&mut self, dir: &Path, order: Order) {
        let command = self.agent.command(&["run"]);
        self.run_tracing(&command, &[dir], order);
    }

    fn environment(&self) -> Option<(&'static str, PathBuf)> {
        let dir = self.credentials.clone()?;
        Some(("CREDENTIALS_DIRECTORY", dir))
    }

    /// Runs the agent where there is no network at all.
    pub(crate) fn run_alone(&mut self, order: Order) {
        let agent = self.agent.command(&["run"]);
        let mut command = Command::new("unshare");
        command.arg("--net").arg(agent.get_program());
        command.args(agent.get_args()).envs(self.environment());
        self.run_by(&command, order);
    }

    fn run_by(&mut self, command: &Command, order: Order) {
        let (state, runtime) = (self.agent.state_dir(), self.agent.runtime_dir().to_owned());
        self.run_tracing(command, &[&state, &runtime], order);
    }

    fn run_tracing(&mut self, command: &Command, dirs: &[&Path], order: Order) {
        // What was said in a former life was looked at then.
        self.agent.forget_log();
        let (cut, mut command) = Cut::command(self.agent.place(), dirs, order, command);
        self.agent.run_as(&mut command);
        self.cut = Some(cut);
    }

    /// The tracer of the agent that runs.
    pub(crate) fn cut(&self) -> &Cut {
        self.cut.as_ref().expect("a traced agent")
    }

    /// Waits until the agent is dead, and takes its tracer away. What the last change was; `None` where the agent did not come to its
    /// end, and runs on.
    pub(crate) fn end(&mut self) -> Option<String> {
        let said = self.cut().end_or_spare(PATIENCE)?;
        self.agent.kill();
        self.cut = None;
        Some(said)
    }

    /// Kills the agent, wherever it is.
    pub(crate) fn kill(&mut self) {
        self.cut().kill();
        self.agent.kill();
        self.cut = None;
    }

    /// Publishes the policy.
    pub(crate) fn deploy(&mut self) {
        let policy = policy(URL, &[], &[("a", "pair"), ("b", "pair")]);
        let answer = self.admin.put("policies/pair", &policy);
        assert_eq!(answer.status, 200, "{answer}");
        self.before = None;
        self.wanted = Some(self.set.clone());
    }

    /// Withdraws it.
    pub(crate) fn withdraw(&mut self) {
        let path = self.admin.path("policies/pair");
        let answer = self.admin.client.send(Method::DELETE, &path, &[], "");
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{answer}");
        self.before = self.wanted.take();
    }

    /// Sets another value.
    pub(crate) fn rotate(&mut self) {
        self.superseded = self.sealed();
        let next = Canary::new();
        self.admin.set("pair", next.value().as_bytes());
        self.set = next.clone();
        self.before = self.wanted.replace(next);
    }

    /// The secret is to be there again, as it was set.
    pub(crate) fn bring_back(&mut self) {
        self.before = None;
        self.wanted = Some(self.set.clone());
    }

    /// Waits until readers find what they are to have.
    pub(crate) fn await_wanted(&self, what: &str) {
        let dir = self.agent.consumer(URL, "main");
        let wanted = self.wanted.as_ref().expect("a value");
        wait::until(&dir, what, || shows(&dir, wanted));
    }

    /// Every value that this node had or is to have.
    pub(crate) fn all(&self) -> Vec<&Canary> {
        let canaries = self.gone.iter().chain(&self.before);
        canaries.chain(&self.wanted).chain([&self.set]).collect()
    }

    /// Waits until everything is as the hub says, nothing else is left and the agent has no more to do, and
    /// looks at that.
    pub(crate) fn settle(&mut self, whole: &Whole, what: &str) {
        if self.wanted.is_some() {
            self.hub.await_rollout("pair", 1);
        }
        self.settle_listing(whole, what);
        self.await_cached(what);
        self.assert_wanted(what);
        let absent: Vec<_> = self.gone.iter().chain(&self.before).collect();
        if !absent.is_empty() {
            let scan = Scanner::new(&absent).files(self.agent.runtime_dir());
            assert!(scan.hits.is_empty(), "{what}: on tmpfs: {:#?}", scan.hits);
        }
        self.assert_nothing_in_clear(what);
        if self.wanted.is_some() {
            self.gone.extend(self.before.take());
            // Looked for in vain again and again is enough.
            let old = self.gone.len().saturating_sub(KEPT);
            self.gone.drain(..old);
        }
        self.before = None;
    }

    /// As [`settle`](Self::settle), without a hub.
    pub(crate) fn settle_alone(&mut self, whole: &Whole, what: &str) {
        self.settle_listing(whole, what);
        self.assert_wanted(what);
        self.assert_nothing_in_clear(what);
    }

    pub(crate) fn settle_listing(&self, whole: &Whole, what: &str) {
        let mut last = Vec::new();
        let settled = self.looks(|names| {
            last = names;
            if let Some(prefix) = whole.but_for {
                last.retain(|name| !name.starts_with(prefix));
            }
            last == whole.names
        });
        let wanted = &whole.names;
        assert!(
            settled,
            "{what}: it stays at {last:#?}\ninstead of {wanted:#?}"
        );
    }

    /// Whether what stands in the node's directories becomes so.
    fn looks(&self, mut so: impl FnMut(Vec<String>) -> bool) -> bool {
        let end = Instant::now() + wait::DEADLINE;
        let trash = self.agent.runtime_dir().join("trash");
        // The last change may be anywhere: so it is looked again now and then.
        while !wait::within(&trash, NOW_AND_THEN, &mut || so(everything(&self.agent))) {
            if Instant::now() > end {
                return false;
            }
        }
        true
    }

    /// Waits until the agent makes a change at such a path, counted from the last order.
    pub(crate) fn await_act(&self, name: &str, what: &str) {
        let made = |act: &Act| act.path.ends_with(name);
        let seen = self.looks(|_| self.cut().acts().iter().any(made));
        assert!(seen, "{what}");
    }

    /// Waits until changes fail from this one on: which it is, and whether what readers see was changed by then. Not
    /// every one is of what is tried: the agent also notes now and then when it heard of its hub.
    pub(crate) fn await_failing(&self, at: usize, what: &str) -> (Act, bool) {
        let mut acts = Vec::new();
        let seen = self.looks(|_| {
            acts = self.cut().acts();
            acts.len() >= at
        });
        assert!(seen, "{what}: {} changes", acts.len());
        let act = acts.swap_remove(at - 1);
        acts.truncate(at - 1);
        let swapped = acts.iter().any(|act| act.path.ends_with("..data"));
        (act, swapped)
    }

    /// Whether the hub was told that the newest value is applied.
    pub(crate) fn applied(&mut self) -> bool {
        let rollout = self.admin.get("policies/pair/rollout");
        rollout["applied"] == 1
    }

    /// Readers find what they are to have.
    pub(crate) fn assert_wanted(&self, what: &str) {
        let dir = self.agent.consumer(URL, "main");
        match &self.wanted {
            Some(wanted) => assert!(shows(&dir, wanted), "{what}: not the newest value"),
            None => assert!(!dir.join("..data").exists(), "{what}: it is there still"),
        }
    }

    /// Readers find what they had.
    pub(crate) fn assert_before(&self, what: &str) {
        self.assert_between(&[self.before.as_ref()], what);
    }

    /// While nothing was there at first: readers find nothing or all.
    pub(crate) fn assert_partly_booted(&self, what: &str) {
        self.assert_between(&[None, self.wanted.as_ref()], what);
    }

    /// Waits until the agent says that the deployment failed, and why.
    pub(crate) fn await_failed(&self, why: &str, what: &str) {
        self.agent.await_status(what, |status| {
            let service = &status["services"][0];
            service["state"] == "failed" && service.to_string().contains(why)
        });
    }

    /// Waits until it says why the cache is not as it should be.
    pub(crate) fn await_cache_error(&self, why: &str, what: &str) {
        self.agent.await_status(what, |status| {
            let error = status["cache"]["error"].as_str();
            error.is_some_and(|error| error.contains(why))
        });
    }

    /// Waits until the cache keeps the newest version. Readers had it before, and an agent that could not
    /// write it yet would still change something by itself.
    fn await_cached(&self, what: &str) {
        let held = |name: &OsString| self.superseded.contains(name);
        self.agent.await_status(what, |status| {
            status["cache"]["error"].is_null() && !self.sealed().iter().any(held)
        });
    }

    /// The files of the sealed cache, each named after one version of one value.
    fn sealed(&self) -> Vec<OsString> {
        let Ok(entries) = fs::read_dir(self.agent.state_dir().join("cache")) else {
            return Vec::new();
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        names
            .filter(|name| name.as_encoded_bytes().ends_with(b".sealed"))
            .collect()
    }

    /// Readers find what they had or what they are to have, as a whole.
    pub(crate) fn assert_readable(&self, what: &str) {
        self.assert_between(&[self.before.as_ref(), self.wanted.as_ref()], what);
    }

    fn assert_between(&self, may: &[Option<&Canary>], what: &str) {
        let dir = self.agent.consumer(URL, "main");
        let data = dir.join("..data");
        if !data.is_dir() {
            assert!(
                may.iter().any(|may| may.is_none()),
                "{what}: nothing is there"
            );
            for name in NAMES {
                let path = dir.join(name);
                assert!(!path.exists(), "{what}: {} alone", path.display());
            }
            return;
        }
        let read = |path: PathBuf| match fs::read(&path) {
            Ok(content) => content,
            Err(error) => panic!("{what}: {}: {error}", path.display()),
        };
        let content = read(data.join("a"));
        assert!(content == read(data.join("b")), "{what}: mixed");
        let mut known = may.iter().copied().flatten();
        assert!(
            known.any(|canary| canary.value().as_bytes() == content),
            "{what}: {} bytes that are neither old nor new",
            content.len()
        );
        for name in NAMES {
            match fs::read(dir.join(name)) {
                Ok(by_path) => assert!(by_path == content, "{what}: {name} by its path"),
                // Their first links come after the swap, their last go before it.
                Err(_) if may.iter().any(|may| may.is_none()) => {}
                Err(error) => panic!("{what}: {name} by its path: {error}"),
            }
        }
    }

    /// No value is on disk or in the log.
    pub(crate) fn assert_nothing_in_clear(&self, what: &str) {
        let scan = Scanner::new(&self.all()).files(self.agent.place());
        scan.assert_clean(what);
    }

    /// What a power cut leaves: the agent is dead already.
    pub(crate) fn lose_memory(&self) {
        for entry in fs::read_dir(self.agent.runtime_dir()).expect("readable") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => fs::remove_dir_all(path).expect("removed"),
                false => fs::remove_file(path).expect("removed"),
            }
        }
    }
}

/// The names of all that is on a node which was never killed.
pub(crate) struct Whole {
    names: Vec<String>,
    /// What may be there as well.
    but_for: Option<&'static str>,
}

impl Whole {
    /// As it is when nothing is deployed: waits for that.
    pub(crate) fn when_bare(node: &Node) -> Self {
        // Directories of services stay; what is in them, and what is kept of them, does not.
        let left = |name: &String| {
            ["/main", "/trash/", ".sealed"]
                .iter()
                .any(|part| name.contains(part))
                && !name.ends_with("services/myorg/com.example.pair/main")
        };
        assert!(
            node.looks(|names| !names.iter().any(left)),
            "something is left"
        );
        Self::of(node)
    }

    /// As it is now.
    pub(crate) fn of(node: &Node) -> Self {
        Self {
            names: everything(&node.agent),
            but_for: None,
        }
    }

    /// The same, whatever has names that begin so.
    pub(crate) fn but_for(mut self, prefix: &'static str) -> Self {
        self.names.retain(|name| !name.starts_with(prefix));
        self.but_for = Some(prefix);
        self
    }
}

fn everything(agent: &TestAgent) -> Vec<String> {
    let mut names = listing(agent.runtime_dir());
    names.extend(listing(&agent.state_dir()));
    names
}

/// Whether the consumer's directory shows this value under both names.
pub(crate) fn shows(dir: &Path, canary: &Canary) -> bool {
    let value = canary.value();
    let is = |name| fs::read(dir.join(name)).is_ok_and(|content| content == value.as_bytes());
    NAMES.into_iter().all(is)
}

pub(crate) const URL: &str = "com.example.pair";
const NAMES: [&str; 2] = ["a", "b"];
/// How long an agent may take to come to a point. One that does not is counted as not reached.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const NOW_AND_THEN: Duration = Duration::from_millis(50);
/// How many superseded values are looked for again and again.
const KEPT: usize = 4;
