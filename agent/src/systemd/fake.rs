//! A bus with a systemd on it, for tests: speaks D-Bus over a socket of its own, gives each client
//! what its match rules ask for and nothing else, and does what the test says.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::StreamExt;
use serde::Serialize;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use zbus::message::{Message, Type};
use zbus::{Connection, DynamicType, MatchRule, MessageStream, ObjectPath, Variant};

use super::manager::{Limits, Manager};
use crate::app::AbortOnDrop;

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

struct World {
    owner: Option<String>,
    units: BTreeMap<String, FakeUnit>,
    clients: Vec<Client>,
    fates: VecDeque<Fate>,
    /// Members that are not answered.
    mute: Vec<&'static str>,
    /// The job of this process's own unit.
    own_job: Option<&'static str>,
    main_process: bool,
    /// What a command's service says at its end.
    ending: (&'static str, i32),
    log: mpsc::UnboundedSender<String>,
    jobs: u32,
    served: u32,
}

struct Client {
    connection: Connection,
    rules: Vec<MatchRule<'static>>,
    _task: AbortOnDrop,
}

impl Fake {
    pub(super) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus");
        let (log, calls) = mpsc::unbounded_channel();
        let world = World {
            owner: Some(":1.1".to_owned()),
            units: BTreeMap::new(),
            clients: Vec::new(),
            fates: VecDeque::new(),
            mute: Vec::new(),
            own_job: None,
            main_process: true,
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
            call: Duration::from_millis(200),
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

    pub(super) fn own_job(&self, kind: Option<&'static str>) {
        self.world().own_job = kind;
    }

    pub(super) fn no_main_process(&self) {
        self.world().main_process = false;
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

trait Built {
    fn unwrap_built<B: Serialize + DynamicType>(self, body: &B) -> Message;
}

impl Built for zbus::message::Builder<'_> {
    fn unwrap_built<B: Serialize + DynamicType>(self, body: &B) -> Message {
        self.build(body).unwrap()
    }
}

async fn greet(world: Arc<Mutex<World>>, stream: std::os::unix::net::UnixStream) {
    let guid = zbus::Guid::generate();
    let built = zbus::connection::Builder::unix_stream(stream)
        .server(guid)
        .p2p()
        .build()
        .await;
    let Ok(connection) = built else { return };
    let stream = MessageStream::from(&connection);
    let id = {
        let mut world = world.lock().unwrap();
        world.served += 1;
        world.served
    };
    let task = tokio::spawn(serve(world.clone(), connection.clone(), stream, id));
    world.lock().unwrap().clients.push(Client {
        connection,
        rules: Vec::new(),
        _task: AbortOnDrop::new(task),
    });
}

async fn serve(
    world: Arc<Mutex<World>>,
    connection: Connection,
    mut stream: MessageStream,
    id: u32,
) {
    while let Some(Ok(message)) = stream.next().await {
        if message.message_type() == Type::MethodCall {
            answer(&world, &connection, &message, id).await;
        }
    }
    let same = |client: &Client| client.connection.server_guid() != connection.server_guid();
    world.lock().unwrap().clients.retain(same);
}

async fn answer(world: &Arc<Mutex<World>>, connection: &Connection, call: &Message, id: u32) {
    let header = call.header();
    let member = header.member().unwrap().to_string();
    let body = call.body();
    let text = body
        .deserialize::<zbus::Structure<'_>>()
        .map(|body| body.to_string());
    let text = text.or_else(|_| body.deserialize::<&str>().map(str::to_owned));
    {
        let world = world.lock().unwrap();
        world
            .log
            .send(format!("{member} {}", text.unwrap_or_default()))
            .ok();
        if world.mute.contains(&member.as_str()) {
            return;
        }
    }
    let first = || {
        let structure = body.deserialize::<zbus::Structure<'_>>().ok();
        let text = structure.and_then(|body| {
            let first = body.fields().first()?;
            first.downcast_ref::<&str>().map(str::to_owned).ok()
        });
        text.or_else(|| body.deserialize::<&str>().map(str::to_owned).ok())
            .unwrap_or_default()
    };
    match member.as_str() {
        "Hello" => {
            reply(
                connection,
                call,
                "org.freedesktop.DBus",
                &format!(":1.{id}"),
            )
            .await
        }
        "AddMatch" => {
            let rule = MatchRule::try_from(first().as_str()).unwrap().into_owned();
            let mut locked = world.lock().unwrap();
            let mut clients = locked.clients.iter_mut();
            let guid = connection.server_guid();
            if let Some(client) = clients.find(|client| client.connection.server_guid() == guid) {
                client.rules.push(rule);
            }
            drop(locked);
            reply(connection, call, "org.freedesktop.DBus", &()).await;
        }
        "GetNameOwner" => {
            let owner = world.lock().unwrap().owner.clone();
            match owner {
                Some(owner) => reply(connection, call, "org.freedesktop.DBus", &owner).await,
                None => {
                    refuse(
                        connection,
                        call,
                        "org.freedesktop.DBus.Error.NameHasNoOwner",
                    )
                    .await;
                }
            }
        }
        _ => manage(world, connection, call, &member, &first()).await,
    }
}

/// systemd's own calls.
async fn manage(
    world: &Arc<Mutex<World>>,
    connection: &Connection,
    call: &Message,
    member: &str,
    first: &str,
) {
    let Some(owner) = world.lock().unwrap().owner.clone() else {
        return refuse(
            connection,
            call,
            "org.freedesktop.DBus.Error.ServiceUnknown",
        )
        .await;
    };
    let unit = world.lock().unwrap().units.get(first).cloned();
    match member {
        "Subscribe" | "StopUnit" => reply(connection, call, &owner, &()).await,
        "LoadUnit" => {
            let path = path_of(first);
            reply(connection, call, &owner, &path).await;
            if unit.is_none_or(|unit| !unit.loaded) {
                // Loaded for the question, and unloaded again, as systemd tells everybody.
                let body = (first, path);
                signal(world, &owner, ROOT, MANAGER, "UnitNew", &body).await;
                signal(world, &owner, ROOT, MANAGER, "UnitRemoved", &body).await;
            }
        }
        "GetUnit" if first.starts_with("edge-secrets-action-") => {
            reply(connection, call, &owner, &path_of("action.service")).await;
        }
        "GetUnit" => match unit {
            Some(unit) if unit.loaded => reply(connection, call, &owner, &path_of(first)).await,
            _ => refuse(connection, call, "org.freedesktop.systemd1.NoSuchUnit").await,
        },
        "GetUnitByPID" => reply(connection, call, &owner, &path_of("agent.service")).await,
        "Get" => property(world, connection, call, &owner).await,
        "KillUnit" => {
            if world.lock().unwrap().main_process {
                reply(connection, call, &owner, &()).await;
            } else {
                refuse(connection, call, "org.freedesktop.systemd1.NoSuchProcess").await;
            }
        }
        _ => job(world, connection, call, first, &owner).await,
    }
}

async fn property(world: &Arc<Mutex<World>>, connection: &Connection, call: &Message, owner: &str) {
    let header = call.header();
    let path = header.path().unwrap().clone();
    let body = call.body();
    let (_, name): (&str, &str) = body.deserialize().unwrap();
    let value = {
        let world = world.lock().unwrap();
        let unit = world.units.iter().find(|(name, _)| path_of(name) == path);
        let (load, active) = unit.map_or(("not-found", "inactive"), |(_, u)| (u.load, u.active));
        match name {
            "LoadState" => Variant::new(load),
            "ActiveState" => Variant::new(active),
            "Job" => {
                let id = u32::from(world.own_job.is_some());
                let path = ObjectPath::try_from("/org/freedesktop/systemd1/job/1").unwrap();
                Variant::new((id, path))
            }
            "JobType" => Variant::new(world.own_job.unwrap()),
            "Result" => Variant::new(world.ending.0),
            "ExecMainStatus" => Variant::new(world.ending.1),
            other => panic!("no property {other}"),
        }
    };
    reply(connection, call, owner, &value).await;
}

async fn job(
    world: &Arc<Mutex<World>>,
    connection: &Connection,
    call: &Message,
    unit: &str,
    owner: &str,
) {
    let (fate, id) = {
        let mut world = world.lock().unwrap();
        world.jobs += 1;
        let known = world
            .units
            .get(unit)
            .is_some_and(|unit| unit.load == "loaded");
        let fate = match world.fates.pop_front() {
            Some(fate) => fate,
            None if known || unit.starts_with("edge-secrets-action-") => Fate::Ends("done"),
            None => Fate::Refused("org.freedesktop.systemd1.NoSuchUnit"),
        };
        (fate, world.jobs)
    };
    let job = ObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{id}")).unwrap();
    let ended = async |result: &str| {
        // Others end, too.
        let other = ObjectPath::try_from("/org/freedesktop/systemd1/job/999").unwrap();
        let body = (999_u32, other, "other.service", "failed");
        signal(world, owner, ROOT, MANAGER, "JobRemoved", &body).await;
        let body = (id, job.clone(), unit, result);
        signal(world, owner, ROOT, MANAGER, "JobRemoved", &body).await;
    };
    match fate {
        Fate::AtOnce(result) => {
            ended(result).await;
            reply(connection, call, owner, &job).await;
        }
        Fate::Ends(result) => {
            reply(connection, call, owner, &job).await;
            ended(result).await;
        }
        Fate::Refused(error) => refuse(connection, call, error).await,
        Fate::Hangs => reply(connection, call, owner, &job).await,
        Fate::BusDies => {
            reply(connection, call, owner, &job).await;
            connection.clone().close().await.ok();
        }
    }
}

/// Sends a signal to every client that has asked for it.
async fn signal<B: Serialize + DynamicType>(
    world: &Arc<Mutex<World>>,
    sender: &str,
    path: &str,
    interface: &str,
    member: &str,
    body: &B,
) {
    let message = Message::signal(path, interface, member)
        .sender(sender)
        .unwrap_built(body);
    let wants = |client: &&Client| {
        client
            .rules
            .iter()
            .any(|rule| rule.matches(&message).unwrap())
    };
    let clients: Vec<Connection> = {
        let world = world.lock().unwrap();
        let clients = world.clients.iter().filter(wants);
        clients.map(|client| client.connection.clone()).collect()
    };
    for client in clients {
        // One that has just gone hears nothing.
        client.send(&message).await.ok();
    }
}

async fn reply<B: Serialize + DynamicType>(
    connection: &Connection,
    call: &Message,
    sender: &str,
    body: &B,
) {
    let header = call.header();
    let message = Message::method_return(&header)
        .sender(sender)
        .unwrap_built(body);
    connection.send(&message).await.ok();
}

async fn refuse(connection: &Connection, call: &Message, error: &str) {
    let header = call.header();
    let message = Message::error(&header, error).unwrap_built(&"as the test says");
    connection.send(&message).await.ok();
}

/// Not systemd's escaping, so that nobody can rely on knowing it.
fn path_of(unit: &str) -> ObjectPath<'static> {
    let hex: String = unit.bytes().map(|byte| format!("{byte:02x}")).collect();
    ObjectPath::try_from(format!("/org/freedesktop/systemd1/unit/u{hex}")).unwrap()
}

const ROOT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
