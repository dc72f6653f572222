//! The serving side of the fake: connections, match rules, and systemd's answers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use serde::Serialize;
use tokio::sync::mpsc;
use zbus::message::{Message, Type};
use zbus::{Connection, DynamicType, MatchRule, MessageStream, ObjectPath, Variant};

use super::{FakeUnit, Fate, MANAGER, ROOT};
use crate::app::AbortOnDrop;

/// All that the bus and systemd know.
pub(super) struct World {
    pub(super) owner: Option<String>,
    pub(super) units: BTreeMap<String, FakeUnit>,
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) clients: Vec<Client>,
    pub(super) fates: VecDeque<Fate>,
    /// Members that are not answered.
    pub(super) mute: Vec<&'static str>,
    /// The job of this process's own unit.
    pub(super) own_job: Option<&'static str>,
    pub(super) main_process: bool,
    /// `Type` of every service, and its `SubState`.
    pub(super) start: (&'static str, &'static str),
    /// What a command's service says at its end.
    pub(super) ending: (&'static str, i32),
    pub(super) log: mpsc::UnboundedSender<String>,
    pub(super) jobs: u32,
    pub(super) served: u32,
}

pub(super) struct Client {
    pub(super) connection: Connection,
    pub(super) rules: Vec<MatchRule<'static>>,
    _task: AbortOnDrop,
}

pub(super) trait Built {
    fn unwrap_built<B: Serialize + DynamicType>(self, body: &B) -> Message;
}

impl Built for zbus::message::Builder<'_> {
    fn unwrap_built<B: Serialize + DynamicType>(self, body: &B) -> Message {
        self.build(body).unwrap()
    }
}

pub(super) async fn greet(world: Arc<Mutex<World>>, stream: std::os::unix::net::UnixStream) {
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
    let mut world = world.lock().unwrap();
    world.clients.retain(same);
    world.log.send("Gone".to_owned()).ok();
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
            add_rule(world, connection, rule);
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

fn add_rule(world: &Mutex<World>, connection: &Connection, rule: MatchRule<'static>) {
    let mut world = world.lock().unwrap();
    let mut clients = world.clients.iter_mut();
    let guid = connection.server_guid();
    if let Some(client) = clients.find(|client| client.connection.server_guid() == guid) {
        client.rules.push(rule);
    }
}

/// What the calls take, from org.freedesktop.systemd1(5).
fn check_signature(call: &Message, member: &str) {
    let expected = match member {
        "Subscribe" => "",
        "LoadUnit" | "GetUnit" => "s",
        "GetUnitByPID" => "u",
        "Get" | "StopUnit" | "ReloadUnit" | "RestartUnit" | "TryRestartUnit" => "ss",
        "KillUnit" => "ssi",
        "StartTransientUnit" => "ssa(sv)a(sa(sv))",
        other => panic!("no call {other}"),
    };
    let body = call.body();
    assert_eq!(body.signature().to_string_no_parens(), expected, "{member}");
    if member != "StartTransientUnit" {
        return;
    }
    type Properties<'a> = Vec<(&'a str, Variant<'a>)>;
    type Transient<'a> = (
        &'a str,
        &'a str,
        Properties<'a>,
        Vec<(&'a str, Properties<'a>)>,
    );
    let (_, _, properties, _) = body.deserialize::<Transient<'_>>().unwrap();
    for (name, value) in properties {
        let expected = match name {
            "Description" | "Type" | "CollectMode" | "User" | "Group" => "s",
            "ExecStart" => "a(sasb)",
            "TimeoutStartUSec" | "TimeoutStopUSec" => "t",
            "AddRef" => "b",
            other => panic!("no property {other}"),
        };
        assert_eq!(value.value_signature().to_string(), expected, "{name}");
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
    check_signature(call, member);
    let alias = world.lock().unwrap().aliases.get(first).cloned();
    let first = alias.as_deref().unwrap_or(first);
    let unit = world.lock().unwrap().units.get(first).cloned();
    match member {
        "Subscribe" | "StopUnit" => reply(connection, call, &owner, &()).await,
        "LoadUnit" => {
            reply(connection, call, &owner, &path_of(first)).await;
            if unit.is_none_or(|unit| !unit.loaded) {
                pass_by(world, &owner, first).await;
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
    let mut unloaded = None;
    let value = {
        let world = world.lock().unwrap();
        let unit = world.units.iter().find(|(name, _)| path_of(name) == path);
        if let Some((name, _)) = unit.filter(|(_, unit)| !unit.loaded) {
            unloaded = Some(name.clone());
        }
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
            "Type" => Variant::new(world.start.0),
            "SubState" => Variant::new(world.start.1),
            "Result" => Variant::new(world.ending.0),
            "ExecMainStatus" => Variant::new(world.ending.1),
            other => panic!("no property {other}"),
        }
    };
    reply(connection, call, owner, &value).await;
    if let Some(name) = unloaded {
        pass_by(world, owner, &name).await;
    }
}

/// A unit is loaded for a question and unloaded again, as systemd tells everybody.
async fn pass_by(world: &Arc<Mutex<World>>, owner: &str, unit: &str) {
    let body = (unit, path_of(unit));
    signal(world, owner, ROOT, MANAGER, "UnitNew", &body).await;
    signal(world, owner, ROOT, MANAGER, "UnitRemoved", &body).await;
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
pub(super) async fn signal<B: Serialize + DynamicType>(
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
pub(super) fn path_of(unit: &str) -> ObjectPath<'static> {
    let hex: String = unit.bytes().map(|byte| format!("{byte:02x}")).collect();
    ObjectPath::try_from(format!("/org/freedesktop/systemd1/unit/u{hex}")).unwrap()
}
