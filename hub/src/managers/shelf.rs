//! A manager in memory, for tests: it counts what it is asked, and fails or hangs when it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use edge_secrets_protocol::{Fields, OrgId, Secret, SecretVersion};
use tokio::sync::watch;

use super::gate::Limits;
use super::guarded::{Guarded, Settings};
use super::{
    Description, Effect, Engine, Fault, Health, Kind, LeaseHandle, ListQuery, Listed, ManagerError,
    Minted, NewCredential, Page, SecretManager, Target, Term, Version,
};

/// Secrets by path, and what becomes of calls.
pub(crate) struct Shelf {
    state: Mutex<State>,
    asked: watch::Sender<usize>,
    hung: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    secrets: BTreeMap<String, Kept>,
    /// Every call so far, as `what path`.
    calls: Vec<String>,
    /// Every call fails with this.
    fault: Option<ManagerError>,
    /// Calls for a path fail with this; so often still, or always.
    faults: BTreeMap<String, (Fault, Option<usize>)>,
    /// Its listings have labels.
    labels: bool,
    /// It looks for texts.
    searches: bool,
    /// The keys of engines, by name.
    engines: BTreeMap<String, Vec<u8>>,
}

struct Kept {
    version: usize,
    effect: Effect,
    fields: Vec<(String, String)>,
}

impl Shelf {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            asked: watch::Sender::new(0),
            hung: watch::Sender::new(false),
        })
    }

    /// It as the manager of this name, with this path policy.
    pub(crate) fn guarded(self: &Arc<Self>, name: &str, orgs: &str, poll: Duration) -> Guarded {
        let settings = Settings {
            paths: serde_yaml::from_str(orgs).unwrap(),
            limits: Limits {
                concurrent: 8,
                per_second: 10_000,
            },
            poll,
            ..Settings::default()
        };
        Guarded::new(name.parse().unwrap(), Arc::clone(self) as _, settings)
    }

    /// Sets a secret: its next version.
    pub(crate) fn put(&self, path: &str, fields: &[(&str, &str)]) {
        let mut state = self.state.lock().unwrap();
        let kept = state.secrets.entry(path.into()).or_insert(Kept {
            version: 0,
            effect: Effect::Pure,
            fields: Vec::new(),
        });
        kept.version += 1;
        kept.fields = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
    }

    /// Reading this has an effect.
    pub(crate) fn leased(&self, path: &str, effect: Effect) {
        self.put(path, &[]);
        let mut state = self.state.lock().unwrap();
        state.secrets.get_mut(path).unwrap().effect = effect;
    }

    /// It looks for texts from now on.
    pub(crate) fn can_search(&self) {
        self.state.lock().unwrap().searches = true;
    }

    /// Its listings have labels from now on.
    pub(crate) fn tells_labels(&self) {
        self.state.lock().unwrap().labels = true;
    }

    /// The key of an engine.
    pub(crate) fn engine(&self, name: &str) -> Option<Vec<u8>> {
        self.state.lock().unwrap().engines.get(name).cloned()
    }

    pub(crate) fn remove(&self, path: &str) {
        self.state.lock().unwrap().secrets.remove(path);
    }

    /// It is in trouble as a whole, and says for how long.
    pub(crate) fn suffer(&self, fault: Option<Fault>, after: Option<Duration>) {
        let error = fault.map(|fault| ManagerError::new(fault, "on purpose").after(after));
        self.state.lock().unwrap().fault = error;
    }

    /// Calls for this one fail: so often, or always.
    pub(crate) fn fail(&self, path: &str, fault: Fault, times: Option<usize>) {
        let mut state = self.state.lock().unwrap();
        state.faults.insert(path.into(), (fault, times));
    }

    /// Calls for this one fail no more.
    pub(crate) fn heal(&self, path: &str) {
        self.state.lock().unwrap().faults.remove(path);
    }

    /// Calls are taken and not answered until it is said otherwise.
    pub(crate) fn hang(&self, hung: bool) {
        self.hung.send_replace(hung);
    }

    /// How often it was asked exactly this: `describe team/db`.
    pub(crate) fn count(&self, call: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.calls.iter().filter(|made| *made == call).count()
    }

    /// Every call so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }

    /// Waits until it was asked what is wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&Self) -> bool) {
        let mut asked = self.asked.subscribe();
        let waiting = async {
            while !wanted(self) {
                asked.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(LONG, waiting).await.is_err() {
            panic!("never: {:#?}", self.calls());
        }
    }

    async fn take(&self, what: &str, path: &str) -> Result<(), ManagerError> {
        let failed = {
            let mut state = self.state.lock().unwrap();
            state.calls.push(format!("{what} {path}"));
            let whole = state.fault.clone();
            whole.or_else(|| state.fault_of(path))
        };
        self.asked.send_modify(|asked| *asked += 1);
        let mut hung = self.hung.subscribe();
        hung.wait_for(|hung| !hung).await.unwrap();
        failed.map_or(Ok(()), Err)
    }

    fn kept<T>(&self, path: &str, look: impl FnOnce(&mut Kept) -> T) -> Result<T, ManagerError> {
        let mut state = self.state.lock().unwrap();
        let kept = state.secrets.get_mut(path);
        kept.map(look)
            .ok_or_else(|| ManagerError::new(Fault::Missing, "it has no such secret"))
    }
}

impl State {
    fn fault_of(&mut self, path: &str) -> Option<ManagerError> {
        let (fault, times) = self.faults.get_mut(path)?;
        let fault = *fault;
        if let Some(left) = times {
            *left -= 1;
            if *left == 0 {
                self.faults.remove(path);
            }
        }
        Some(ManagerError::new(fault, "on purpose"))
    }
}

impl Kept {
    fn version(&self) -> SecretVersion {
        self.version.to_string().parse().unwrap()
    }

    fn payload(&self) -> Secret {
        let fields: Vec<_> = self
            .fields
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.as_bytes()))
            .collect();
        Fields::encode(&fields).unwrap()
    }
}

#[async_trait]
impl SecretManager for Shelf {
    fn kind(&self) -> Kind {
        Kind::Vault
    }

    fn place(&self, target: Target<'_>) -> Result<String, ManagerError> {
        Ok(target.reference.path())
    }

    async fn health(&self) -> Result<Health, ManagerError> {
        self.take("health", "").await?;
        Ok(Health {
            version: Some("shelf 1".into()),
            notes: vec!["It is made of wood.".into()],
        })
    }

    async fn describe(&self, target: Target<'_>) -> Result<Description, ManagerError> {
        let path = target.reference.path();
        self.take("describe", &path).await?;
        self.kept(&path, |kept| {
            let leased = kept.effect.is_leased();
            let mut said = Description::new(kept.effect, (!leased).then(|| kept.version()));
            said.fields = kept.fields.iter().map(|(name, _)| name.clone()).collect();
            said.ttl = leased.then_some(Duration::from_secs(3600));
            said
        })
    }

    fn lists_labels(&self) -> bool {
        self.state.lock().unwrap().labels
    }

    fn searches(&self) -> bool {
        self.state.lock().unwrap().searches
    }

    async fn list(&self, _: &OrgId, query: &ListQuery) -> Result<Page, ManagerError> {
        let mut asked = match query.labels.join(",").as_str() {
            "" => query.prefix.clone(),
            labels => format!("{} by {labels}", query.prefix),
        };
        if let Some(text) = &query.search {
            asked.push_str(&format!(" for {text}"));
        }
        self.take("list", &asked).await?;
        let state = self.state.lock().unwrap();
        let mut entries: Vec<Listed> = Vec::new();
        for path in state.secrets.keys() {
            let Some(rest) = path.strip_prefix(&query.prefix) else {
                continue;
            };
            let shown = match rest.split_once('/') {
                Some((folder, _)) => format!("{}{folder}/", query.prefix),
                None => path.clone(),
            };
            if entries.last().is_none_or(|last| last.path != shown) {
                entries.push(Listed {
                    path: shown,
                    effect: None,
                    labels: Vec::new(),
                });
            }
        }
        Ok(Page {
            entries,
            next: None,
        })
    }

    async fn versions(&self, target: Target<'_>) -> Result<Vec<Version>, ManagerError> {
        let path = target.reference.path();
        self.take("versions", &path).await?;
        self.kept(&path, |kept| {
            let version = |number: usize| Version {
                version: number.to_string().parse().unwrap(),
                created_at: None,
                gone: (number < kept.version).then_some("destroyed"),
            };
            (1..=kept.version).rev().map(version).collect()
        })
    }

    async fn read(
        &self,
        target: Target<'_>,
        version: &SecretVersion,
    ) -> Result<Secret, ManagerError> {
        let path = target.reference.path();
        self.take("read", &path).await?;
        self.kept(&path, |kept| {
            if kept.version() == *version {
                Ok(kept.payload())
            } else {
                Err(ManagerError::new(Fault::Superseded, "there is a newer one"))
            }
        })?
    }

    async fn mint(&self, target: Target<'_>) -> Result<Minted, ManagerError> {
        let path = target.reference.path();
        self.take("mint", &path).await?;
        let number = self.count(&format!("mint {path}"));
        let name = format!("minted-{number}-canary");
        let payload = Fields::encode(&[("password".parse().unwrap(), name.as_bytes())]);
        Ok(Minted {
            payload: payload.unwrap(),
            handle: LeaseHandle::new(format!("lease/{number}"))?,
            term: Term {
                duration: Duration::from_secs(3600),
                renewable: true,
            },
            usable_after: Duration::ZERO,
        })
    }

    async fn renew(&self, handle: &LeaseHandle, want: Duration) -> Result<Term, ManagerError> {
        self.take("renew", handle.as_str()).await?;
        Ok(Term {
            duration: want,
            renewable: true,
        })
    }

    async fn revoke(&self, handle: &LeaseHandle) -> Result<(), ManagerError> {
        self.take("revoke", handle.as_str()).await
    }

    async fn write(
        &self,
        target: Target<'_>,
        payload: &Secret,
        expected: Option<Option<SecretVersion>>,
    ) -> Result<SecretVersion, ManagerError> {
        let path = target.reference.path();
        self.take("write", &path).await?;
        let current = self.kept(&path, |kept| kept.version()).ok();
        if expected.is_some_and(|expected| expected != current) {
            return Err(ManagerError::new(Fault::Conflict, "it stands elsewhere"));
        }
        let fields = Fields::decode(payload.expose()).unwrap();
        let fields: Vec<_> = fields
            .expose()
            .map(|(name, value)| (name.to_owned(), String::from_utf8(value.to_vec()).unwrap()))
            .collect();
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        self.put(&path, &fields);
        self.kept(&path, |kept| kept.version())
    }

    async fn create(&self, target: Target<'_>, _: &NewCredential) -> Result<(), ManagerError> {
        let path = target.reference.path();
        self.take("create", &path).await?;
        self.leased(&path, Effect::MintsAndInvalidates);
        Ok(())
    }

    async fn put_engine(&self, name: &str, key: &Secret) -> Result<Engine, ManagerError> {
        self.take("engine", name).await?;
        let mut state = self.state.lock().unwrap();
        let before = state.engines.insert(name.into(), key.expose().to_vec());
        Ok(Engine {
            kind: "shelf_engine",
            replaced: before.is_some(),
        })
    }
}

/// Longer than anything takes that happens at all.
pub(crate) const LONG: Duration = Duration::from_secs(180);
