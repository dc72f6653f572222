//! A runtime directory on real tmpfs, a hub that seals whatever it is asked for, and a reader.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_secrets_protocol::binding::{
    Bindings, BoundSecret, Consumer, ConsumerSecret, Deployment, FetchItem, FetchResult, Format,
    SecretState,
};
use edge_secrets_protocol::sealed::Place;
use edge_secrets_protocol::{Code, Fields, Generation, NodeId, OrgId, Problem, SealingKey, Secret};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use tempfile::TempDir;

use crate::clock::{BootTime, Now};
use crate::consumers::profile::Profile;
use crate::consumers::profiles::Profiles;
use crate::ends::Desired;
use crate::reconcile::{Reconciler, RuntimeError, RuntimeOptions};

pub(crate) const GRACE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    dir: TempDir,
    org: OrgId,
    node: NodeId,
    key: SealingKey,
    refused: BTreeMap<String, Code>,
    reconciler: Option<Reconciler>,
    profiles: Arc<Profiles>,
    apis: bool,
    now: Now,
    /// Sealing takes a while: loops over many worlds share what is sealed.
    cache: BTreeMap<FetchItem, FetchResult>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::at(tempfile::tempdir_in("/dev/shm").unwrap())
    }

    pub(crate) fn at(dir: TempDir) -> Self {
        let mut world = Self {
            dir,
            org: "myorg".parse().unwrap(),
            node: "edge-01".parse().unwrap(),
            key: SealingKey::generate(),
            refused: BTreeMap::new(),
            reconciler: None,
            profiles: Arc::default(),
            apis: false,
            now: Now {
                wall: "2026-01-01T00:00:00Z".parse().unwrap(),
                boot: BootTime::LONG_AGO.after(Duration::from_secs(1000)),
            },
            cache: BTreeMap::new(),
        };
        world.reconciler = Some(world.try_open().unwrap());
        world
    }

    /// Another runtime directory for the same node.
    pub(crate) fn renew(&mut self) {
        self.stop();
        self.dir = tempfile::tempdir_in("/dev/shm").unwrap();
        self.restart();
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn now(&self) -> Now {
        self.now
    }

    pub(crate) fn later(&mut self) {
        self.pass(Duration::from_secs(60));
    }

    /// Time passes, and the agent sleeps.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now.wall += time;
        self.now.boot = self.now.boot.after(time);
    }

    /// Whatever ends until then does, at its time, without a hub.
    pub(crate) fn wait(&mut self, time: Duration) {
        let until = self.now.boot.after(time);
        loop {
            let now = self.now;
            let next = self.reconciler().next_end(now);
            let Some(at) = next.filter(|at| *at <= until) else {
                break;
            };
            self.pass(at.since(self.now.boot));
            let now = self.now;
            self.reconciler().expire(now);
        }
        self.pass(until.since(self.now.boot));
    }

    pub(crate) fn reconciler(&mut self) -> &mut Reconciler {
        self.reconciler.as_mut().unwrap()
    }

    pub(crate) fn try_open(&self) -> Result<Reconciler, RuntimeError> {
        open(self.dir.path())
    }

    pub(crate) fn stop(&mut self) {
        self.reconciler = None;
    }

    pub(crate) fn restart(&mut self) {
        self.stop();
        self.reconciler = Some(self.try_open().unwrap());
        let (profiles, apis) = (self.profiles.clone(), self.apis);
        self.reconciler().serve_apis(apis);
        self.reconciler().shape_by(profiles);
    }

    /// Whether every consumer has a secrets API, also after every restart.
    pub(crate) fn serve_apis(&mut self, apis: bool) {
        self.apis = apis;
        self.reconciler().serve_apis(apis);
    }

    /// The administrator's profiles, also after every restart.
    pub(crate) fn shape(&mut self, profiles: Vec<Profile>) {
        self.profiles = Arc::new(Profiles::of_these(profiles));
        let profiles = self.profiles.clone();
        self.reconciler().shape_by(profiles);
    }

    pub(crate) fn refuse(&mut self, name: &str, code: Code) {
        self.refused.insert(name.into(), code);
    }

    pub(crate) fn allow(&mut self, name: &str) {
        self.refused.remove(name);
    }

    pub(crate) fn replace_key(&mut self, key: SealingKey) -> SealingKey {
        self.cache.clear();
        std::mem::replace(&mut self.key, key)
    }

    /// What the agent's loop does with bindings. Gives the number of values fetched.
    pub(crate) fn apply(&mut self, bindings: &Bindings) -> usize {
        let mut items = self.desire(bindings);
        let mut count = 0;
        while !items.is_empty() {
            count += items.len();
            self.answer(&items);
            items = self.reconciler().again();
        }
        count
    }

    pub(crate) fn desire(&mut self, bindings: &Bindings) -> Vec<FetchItem> {
        let now = self.now;
        let desired = Desired::new(bindings.clone(), now);
        self.reconciler().desire(&desired, now)
    }

    pub(crate) fn answer(&mut self, items: &[FetchItem]) {
        let answers = self.sealed(items);
        let key = std::mem::replace(&mut self.key, SealingKey::generate());
        self.deliver_with(&[&key], &answers);
        self.key = key;
    }

    pub(crate) fn deliver_with(
        &mut self,
        keys: &[&SealingKey],
        answers: &[(FetchItem, FetchResult)],
    ) {
        let reconciler = self.reconciler.as_mut().unwrap();
        reconciler.deliver(&self.org, &self.node, keys, answers, self.now);
    }

    pub(crate) fn sealed(&mut self, items: &[FetchItem]) -> Vec<(FetchItem, FetchResult)> {
        let mut answers = Vec::new();
        for item in items {
            let result = match self.refused.get(item.name.as_str()) {
                Some(code) => FetchResult::Problem(Problem::new(*code, "as the test wants it")),
                None => match self.cache.get(item) {
                    Some(result) => result.clone(),
                    None => {
                        let result = self.seal(item);
                        self.cache.insert(item.clone(), result.clone());
                        result
                    }
                },
            };
            answers.push((item.clone(), result));
        }
        answers
    }

    fn seal(&self, item: &FetchItem) -> FetchResult {
        let value = payload(item.name.as_str(), item.version.as_str());
        let place = Place::Node {
            org: &self.org,
            node: &self.node,
            service: &item.service,
            name: &item.name,
            version: &item.version,
        };
        FetchResult::Sealed(self.key.public().seal(&place, &value).unwrap())
    }

    pub(crate) fn home(&self, service: &str) -> PathBuf {
        self.dir
            .path()
            .join("services/myorg")
            .join(service)
            .join("main")
    }

    pub(crate) fn read(&self, service: &str, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.home(service).join(name))
    }

    /// Where `..data` points to.
    pub(crate) fn data(&self, service: &str) -> OsString {
        fs::read_link(self.home(service).join("..data"))
            .unwrap()
            .into()
    }

    pub(crate) fn generations(&self, service: &str) -> usize {
        let Ok(entries) = fs::read_dir(self.home(service)) else {
            return 0;
        };
        let names = entries.map(|entry| entry.unwrap().file_name());
        names
            .filter(|name| name.to_str().unwrap().starts_with("..g"))
            .count()
    }

    /// Ticks until nothing is on its way out, as if time passed.
    pub(crate) fn finish_wiping(&mut self) {
        let mut now = Instant::now();
        while let Some(next) = self.reconciler().tick(now) {
            assert!(next > now, "a tick at its time must get on");
            now = next;
        }
    }

    /// Every regular file in the runtime directory.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut dirs = vec![self.dir.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    dirs.push(entry.path());
                } else if kind.is_file() && entry.file_name() != "lock" {
                    files.push((entry.path(), fs::read(entry.path()).unwrap()));
                }
            }
        }
        files
    }

    /// No file and no link, whatever directories remain for mounts.
    pub(crate) fn assert_nothing_is_left(&self) {
        let mut dirs = vec![self.dir.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    let name = entry.file_name();
                    assert!(
                        !name.to_str().unwrap().starts_with(".."),
                        "{name:?} is left"
                    );
                    dirs.push(entry.path());
                } else {
                    assert_eq!(
                        entry.file_name(),
                        "lock",
                        "{} is left",
                        entry.path().display()
                    );
                }
            }
        }
    }
}

pub(crate) fn open(dir: &Path) -> Result<Reconciler, RuntimeError> {
    Reconciler::open(&RuntimeOptions {
        dir: dir.to_owned(),
        mount: false,
        size: 16 << 20,
        grace: GRACE,
    })
}

pub(crate) fn bindings(
    generation: u64,
    deployments: impl IntoIterator<Item = Deployment>,
) -> Bindings {
    Bindings {
        generation: Generation(generation),
        deployments: deployments.into_iter().collect(),
        ..Bindings::default()
    }
}

/// The deployment with a secret that lives so long.
pub(crate) fn lease(mut deployment: Deployment, name: &str, life: Duration) -> Deployment {
    let mut secrets = deployment.secrets.iter_mut();
    let secret = secrets.find(|secret| secret.name.as_str() == name).unwrap();
    secret.expires_in_ms = Some(life.as_millis().try_into().unwrap());
    deployment
}

/// A deployment with one consumer, `main`, that reads every secret as JSON.
pub(crate) fn deployment(id: &str, service: &str, secrets: &[(&str, &str)]) -> Deployment {
    let bound = secrets.iter().map(|(name, version)| BoundSecret {
        name: name.parse().unwrap(),
        state: SecretState::Ready {
            version: version.parse().unwrap(),
        },
        expires_at: None,
        expires_in_ms: None,
    });
    let read = secrets.iter().map(|(name, _)| ConsumerSecret {
        name: name.parse().unwrap(),
        format: Format::Json,
        mode: None,
    });
    Deployment {
        id: id.parse().unwrap(),
        service: format!("myorg/{service}").parse().unwrap(),
        service_version: "1.0.0".into(),
        policy: format!("policy-{id}").parse().unwrap(),
        secrets: bound.collect(),
        consumers: vec![Consumer {
            name: "main".parse().unwrap(),
            secrets: read.collect(),
        }],
    }
}

fn payload(name: &str, version: &str) -> Secret {
    let value = format!("canary {name} {version}");
    if name == "two-fields" {
        let fields = [
            ("a".parse().unwrap(), value.as_bytes()),
            ("b".parse().unwrap(), value.as_bytes()),
        ];
        return Fields::encode(&fields).unwrap();
    }
    Fields::encode(&[("value".parse().unwrap(), value.as_bytes())]).unwrap()
}

/// What the file of a secret should hold.
pub(crate) fn json(name: &str, version: &str) -> Vec<u8> {
    let value = format!("canary {name} {version}");
    serde_json::to_vec(&BTreeMap::from([("value", value)])).unwrap()
}

/// A directory on a file system that values must not be written to.
pub(crate) fn not_tmpfs() -> TempDir {
    let candidates = [
        std::env::temp_dir(),
        PathBuf::from("/var/tmp"),
        PathBuf::from(env!("CARGO_MANIFEST_DIR")),
    ];
    let disk = candidates.iter().find(|path| {
        statfs(path.as_path()).is_ok_and(|stat| stat.filesystem_type() != TMPFS_MAGIC)
    });
    let disk = disk.expect("no directory here is on a disk: set TMPDIR to one");
    tempfile::tempdir_in(disk).unwrap()
}
