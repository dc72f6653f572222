//! A bus with a systemd on it, for tests: speaks D-Bus over a socket of its own, gives each client
//! what its match rules ask for and nothing else, and does what the test says.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::Serialize;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use zbus::message::Message;
use zbus::{Connection, DynamicType, Variant};

use self::serving::{Built, World, greet, path_of, signal};
use super::manager::{Limits, Manager};
use crate::app::AbortOnDrop;

mod serving;

/// The bus and systemd.
pub(super) struct Fake {
    pub(super) address: String,
    world: Arc<Mutex<World>>,
    calls: mpsc::UnboundedReceiver<String>,
    path: PathBuf,
    accept: Option<AbortOnDrop>,
    _dir: tempfile::TempDir,
}

/// What happens to the next job.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    /// Ends with this result before the call is answered.
    AtOnce(&'static str),
    /// Ends with this result after the call is answered.
    Ends(&'static str),
    /// Is refused with this error.
    Refused(&'static str),
    /// Never ends.
    Hangs,
    /// The bus goes away under it.
    BusDies,
}

/// A unit as systemd has it.
#[derive(Debug, Clone)]
pub(super) struct FakeUnit {
    pub(super) load: &'static str,
    pub(super) active: &'static str,
    pub(super) loaded: bool,
}

impl Fake {
    pub(super) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus");
        let (log, calls) = mpsc::unbounded_channel();
        let world = World {
            owner: Some(":1.1".to_owned()),
            units: BTreeMap::new(),
            aliases: BTreeMap::new(),
            clients: Vec::new(),
            fates: VecDeque::new(),
            mute: Vec::new(),
            own_job: None,
            main_process: true,
            start: ("notify", "start"),
            ending: ("exit-code", 1),
            log,
            jobs: 0,
            served: 1,
        };
        let mut fake = Self {
            address: format!("unix:path={}", path.display()),
            world: Arc::new(Mutex::new(world)),
            calls,
            path,
            accept: None,
            _dir: dir,
        };
        fake.come_back();
        fake
    }

    pub(super) fn manager(&self) -> Manager {
        Manager::new(Some(self.address.clone()))
    }

    pub(super) fn hasty(&self) -> Manager {
        let limits = Limits {
            call: Duration::from_secs(3),
            job: Duration::from_millis(200),
        };
        Manager::with_limits(Some(self.address.clone()), limits)
    }

    /// The bus ends, and every connection with it.
    pub(super) fn go_away(&mut self) {
        self.accept = None;
        let clients = std::mem::take(&mut self.world().clients);
        for client in clients {
            tokio::spawn(async move { client.connection.close().await.ok() });
        }
        std::fs::remove_file(&self.path).ok();
    }

    pub(super) fn come_back(&mut self) {
        let listener = UnixListener::bind(&self.path).unwrap();
        let world = self.world.clone();
        self.accept = Some(AbortOnDrop::new(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(greet(world.clone(), stream.into_std().unwrap()));
            }
        })));
    }

    /// systemd starts anew under another name, or is away.
    pub(super) async fn owner(&self, owner: Option<&str>) {
        let before = {
            let mut world = self.world();
            let before = world.owner.clone().unwrap_or_default();
            world.owner = owner.map(str::to_owned);
            before
        };
        let body = (
            "org.freedesktop.systemd1",
            before,
            owner.unwrap_or_default().to_owned(),
        );
        let bus = "org.freedesktop.DBus";
        signal(
            &self.world,
            bus,
            "/org/freedesktop/DBus",
            bus,
            "NameOwnerChanged",
            &body,
        )
        .await;
    }

    pub(super) fn fate(&self, fate: Fate) {
        self.world().fates.push_back(fate);
    }

    pub(super) fn mute(&self, member: &'static str) {
        self.world().mute.push(member);
    }

    pub(super) fn unmute(&self) {
        self.world().mute.clear();
    }

    /// Another name of a unit.
    pub(super) fn alias(&self, name: &str, unit: &str) {
        self.world()
            .aliases
            .insert(name.to_owned(), unit.to_owned());
    }

    pub(super) fn own_job(&self, kind: Option<&'static str>) {
        self.world().own_job = kind;
    }

    pub(super) fn no_main_process(&self) {
        self.world().main_process = false;
    }

    /// What is known of a unit that is starting: its `Type` and `SubState`.
    pub(super) fn starts(&self, kind: &'static str, step: &'static str) {
        self.world().start = (kind, step);
    }

    pub(super) fn ending(&self, result: &'static str, status: i32) {
        self.world().ending = (result, status);
    }

    /// Puts a unit there, as the file system would: no signal.
    pub(super) fn put(&self, unit: &str, load: &'static str, active: &'static str) {
        let loaded = active != "inactive";
        let unit_now = FakeUnit {
            load,
            active,
            loaded,
        };
        self.world().units.insert(unit.to_owned(), unit_now);
    }

    /// A unit that was not loaded is started so fast that nothing but its loading is told.
    pub(super) async fn appear(&self, unit: &str, active: &'static str) {
        self.put(unit, "loaded", active);
        let body = (unit, path_of(unit));
        self.say(ROOT, MANAGER, "UnitNew", &body).await;
    }

    /// A unit that nobody needs any more is unloaded, and nothing more is told of its state.
    pub(super) async fn disappear(&self, unit: &str) {
        self.put(unit, "loaded", "inactive");
        let body = (unit, path_of(unit));
        self.say(ROOT, MANAGER, "UnitRemoved", &body).await;
    }

    /// A unit's state becomes another one.
    pub(super) async fn set(&self, unit: &str, active: &'static str) {
        self.put(unit, "loaded", active);
        self.changed(unit, &[("ActiveState", active)]).await;
    }

    /// Tells of properties.
    pub(super) async fn changed(&self, unit: &str, properties: &[(&str, &str)]) {
        let changed: HashMap<&str, Variant<'_>> = properties
            .iter()
            .map(|(name, value)| (*name, Variant::new(*value)))
            .collect();
        let body = ("org.freedesktop.systemd1.Unit", changed, Vec::<&str>::new());
        let path = path_of(unit);
        self.say(
            path.as_str(),
            "org.freedesktop.DBus.Properties",
            "PropertiesChanged",
            &body,
        )
        .await;
    }

    pub(super) async fn reloaded(&self) {
        self.say(ROOT, MANAGER, "Reloading", &true).await;
        self.say(ROOT, MANAGER, "Reloading", &false).await;
    }

    /// Another client pretends to be systemd, past every match rule.
    pub(super) async fn forge(&self, unit: &str, active: &str) {
        let changed = HashMap::from([("ActiveState", Variant::new(active))]);
        let body = ("org.freedesktop.systemd1.Unit", changed, Vec::<&str>::new());
        let message = Message::signal(
            path_of(unit),
            "org.freedesktop.DBus.Properties",
            "PropertiesChanged",
        );
        let message = message.sender(":1.666").unwrap_built(&body);
        for connection in self.connections() {
            connection.send(&message).await.unwrap();
        }
    }

    /// The next call of this member that systemd or the bus hears.
    pub(super) async fn called(&mut self, member: &str) -> String {
        loop {
            let call = self.calls.recv().await.unwrap();
            if call.split(' ').next() == Some(member) {
                return call;
            }
        }
    }

    /// Every call so far that was not looked at.
    pub(super) fn all_calls(&mut self) -> Vec<String> {
        let mut calls = Vec::new();
        while let Ok(call) = self.calls.try_recv() {
            calls.push(call);
        }
        calls
    }

    /// The match rules of all clients.
    pub(super) fn rules(&self) -> Vec<String> {
        let world = self.world();
        let rules = world.clients.iter().flat_map(|client| &client.rules);
        rules.map(ToString::to_string).collect()
    }

    async fn say<B: Serialize + DynamicType>(
        &self,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) {
        let owner = self.world().owner.clone().unwrap();
        signal(&self.world, &owner, path, interface, member, body).await;
    }

    fn connections(&self) -> Vec<Connection> {
        let world = self.world();
        world
            .clients
            .iter()
            .map(|client| client.connection.clone())
            .collect()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

const ROOT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
