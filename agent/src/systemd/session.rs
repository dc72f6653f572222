//! One connection to the bus, and all that comes over it in the order of the bus: answers carry
//! their place among the signals, so that an answer never undoes what a later signal said.
//!
//! Anybody on the bus can send signals to a connection directly, past its match rules. Only what
//! the owner of systemd's name sends is taken, and only the bus itself says who that is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};
use zbus::message::{Message, Sequence, Type};
use zbus::{
    Connection, DynamicType, MessageStream, ObjectPath, OwnedObjectPath, OwnedVariant, Variant,
};

use super::error::{CallError, ManagerError, plain};

/// A connection to the bus that systemd is on.
pub(super) struct Session {
    pub(super) news: News,
    connection: Connection,
    /// Everything that comes in. Read while anything is awaited: the connection stands still while
    /// it is full.
    stream: MessageStream,
    owner: Option<String>,
    rules: BTreeSet<String>,
    address: String,
    limit: Duration,
}

/// What was said since it was last looked at: of each thing the last word, however much was said.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Everything may be other than it was: systemd has begun anew, or has read its files again.
    pub(super) all: bool,
    /// What was said of each unit that is [followed](Session::follow_unit).
    units: BTreeMap<String, Option<(Sequence, Said)>>,
    /// Jobs that ended, and how. Kept only while somebody waits for one.
    jobs: Option<Vec<(String, String)>>,
}

/// What was said of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It has been loaded or unloaded: ask.
    Ask,
    /// Its ActiveState.
    State(String),
    /// It is not loaded, which means that it does not run.
    Unloaded,
}

impl Session {
    /// Connects to `address`, the system bus when none.
    pub(super) async fn open(address: Option<&str>, limit: Duration) -> Result<Self, ManagerError> {
        let builder = match address {
            Some(address) => zbus::connection::Builder::address(address),
            None => zbus::connection::Builder::system(),
        };
        let address = address.unwrap_or(SYSTEM_BUS).to_owned();
        let connection = timeout(limit, builder.build())
            .await
            .map_err(|_| ManagerError::Absent {
                address: address.clone(),
                reason: format!("no greeting within {limit:?}"),
            })?
            .map_err(|error| CallError::new(error, &address))?;
        let mut session = Self {
            news: News::default(),
            stream: MessageStream::from(&connection),
            connection,
            owner: None,
            rules: BTreeSet::new(),
            address,
            limit,
        };
        session
            .add_rule(format!(
                "type='signal',sender='{BUS}',interface='{BUS}',member='NameOwnerChanged',\
                 arg0='{SYSTEMD}'"
            ))
            .await?;
        session.find_owner().await?;
        Ok(session)
    }

    /// Whether systemd is on the bus now.
    pub(super) fn is_manned(&self) -> bool {
        self.owner.is_some()
    }

    /// What the bus is called in messages.
    pub(super) fn absent(&self, reason: &str) -> ManagerError {
        ManagerError::Absent {
            address: self.address.clone(),
            reason: reason.to_owned(),
        }
    }

    /// The connection, for a last call after the session.
    pub(super) fn connection(&self) -> Connection {
        self.connection.clone()
    }

    /// Calls systemd's manager object.
    pub(super) async fn manager<B>(&mut self, member: &str, body: &B) -> Result<Message, CallError>
    where
        B: Serialize + DynamicType,
    {
        self.call(SYSTEMD, MANAGER_PATH, MANAGER, member, body)
            .await
    }

    /// Calls the manager for an object's path.
    pub(super) async fn path_of(
        &mut self,
        member: &str,
        unit: &str,
    ) -> Result<OwnedObjectPath, CallError> {
        let reply = self.manager(member, &unit).await?;
        Ok(path_in(&reply)?)
    }

    /// One property of an object of systemd's, and its place in the order of the bus.
    pub(super) async fn property(
        &mut self,
        path: &ObjectPath<'_>,
        interface: &str,
        name: &str,
    ) -> Result<(Sequence, OwnedVariant), CallError> {
        let reply = self
            .call(
                SYSTEMD,
                path.as_str(),
                PROPERTIES,
                "Get",
                &(interface, name),
            )
            .await?;
        let body = reply.body();
        let value = body.deserialize::<Variant<'_>>();
        let value = value.and_then(|value| value.try_to_owned());
        let value = value.map_err(|_| CallError::Failed(ManagerError::Malformed("a property")))?;
        Ok((reply.recv_position(), value))
    }

    /// One property that is a text.
    pub(super) async fn text(
        &mut self,
        path: &ObjectPath<'_>,
        interface: &str,
        name: &str,
    ) -> Result<(Sequence, String), CallError> {
        let (position, value) = self.property(path, interface, name).await?;
        match value.downcast_ref::<&str>() {
            Ok(text) => Ok((position, plain(text))),
            Err(_) => Err(CallError::Failed(ManagerError::Malformed("a property"))),
        }
    }

    /// Calls the manager for a job and waits until it has ended; gives how.
    pub(super) async fn job<B>(
        &mut self,
        member: &str,
        body: &B,
        limit: Duration,
    ) -> Result<String, CallError>
    where
        B: Serialize + DynamicType,
    {
        // systemd tells whoever asked for a job of its end, so nothing has to be subscribed to.
        self.add_rule(format!(
            "{FROM_SYSTEMD},interface='{MANAGER}',member='JobRemoved'"
        ))
        .await?;
        self.news.jobs = Some(Vec::new());
        let reply = self.manager(member, body).await?;
        let job = path_in(&reply)?;
        let deadline = Instant::now() + limit;
        loop {
            if let Some(result) = self.news.ended(job.as_str()) {
                self.news.jobs = None;
                return Ok(result);
            }
            match timeout_at(deadline, self.more()).await {
                Ok(more) => more?,
                Err(_) => {
                    return Err(CallError::Failed(ManagerError::Timeout {
                        what: format!("the job of {member}"),
                        after: limit,
                    }));
                }
            }
        }
    }

    /// Has systemd tell of its units at all.
    pub(super) async fn subscribe(&mut self) -> Result<(), ManagerError> {
        match self.manager("Subscribe", &()).await {
            Err(error) if !error.is("AlreadySubscribed") => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Has the news tell of the unit at `path` from now on.
    pub(super) async fn follow_unit(&mut self, path: &ObjectPath<'_>) -> Result<(), ManagerError> {
        self.news.units.entry(path.as_str().to_owned()).or_default();
        if self.news.units.len() > MANY_UNITS {
            // The bus bounds the rules of a connection, at 512 by default.
            self.add_rule(format!(
                "{FROM_SYSTEMD},interface='{PROPERTIES}',path_namespace='{UNIT_PATHS}'"
            ))
            .await?;
            self.add_rule(format!(
                "{FROM_SYSTEMD},interface='{MANAGER}',member='UnitNew'"
            ))
            .await?;
            return self
                .add_rule(format!(
                    "{FROM_SYSTEMD},interface='{MANAGER}',member='UnitRemoved'"
                ))
                .await;
        }
        self.add_rule(format!(
            "{FROM_SYSTEMD},interface='{PROPERTIES}',member='PropertiesChanged',path='{path}',\
             arg0='{UNIT}'"
        ))
        .await?;
        // UnitNew and UnitRemoved. A unit that is loaded to be started is told as new, and its
        // first states may be told in no other way.
        self.add_rule(format!(
            "{FROM_SYSTEMD},interface='{MANAGER}',arg1path='{path}'"
        ))
        .await
    }

    /// Has the news tell when systemd has read its files again.
    pub(super) async fn follow_reloads(&mut self) -> Result<(), ManagerError> {
        self.add_rule(format!(
            "{FROM_SYSTEMD},interface='{MANAGER}',member='Reloading'"
        ))
        .await
    }

    /// Waits until something has come, and takes all that has come by then. Not everything is news.
    pub(super) async fn more(&mut self) -> Result<(), ManagerError> {
        let first = self.stream.next().await;
        self.absorb(first)?;
        while let Some(next) = self.stream.next().now_or_never() {
            self.absorb(next)?;
        }
        Ok(())
    }

    async fn find_owner(&mut self) -> Result<(), ManagerError> {
        match self
            .call(BUS, BUS_PATH, BUS, "GetNameOwner", &SYSTEMD)
            .await
        {
            Ok(reply) => {
                let body = reply.body();
                let owner = body.deserialize::<&str>();
                let owner = owner.map_err(|_| ManagerError::Malformed("a bus name"))?;
                self.owner = Some(owner.to_owned());
                Ok(())
            }
            // Whether nobody has the name is told by NameOwnerChanged from here on.
            Err(CallError::Failed(ManagerError::Absent { .. })) if !self.is_closed() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    async fn add_rule(&mut self, rule: String) -> Result<(), ManagerError> {
        if self.rules.contains(&rule) {
            return Ok(());
        }
        self.call(BUS, BUS_PATH, BUS, "AddMatch", &rule.as_str())
            .await?;
        self.rules.insert(rule);
        Ok(())
    }

    async fn call<B>(
        &mut self,
        destination: &str,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) -> Result<Message, CallError>
    where
        B: Serialize + DynamicType,
    {
        let connection = self.connection.clone();
        let call = connection.call_method(Some(destination), path, Some(interface), member, body);
        let mut call = pin!(timeout(self.limit, call));
        loop {
            tokio::select! {
                message = self.stream.next() => self.absorb(message)?,
                reply = &mut call => return match reply {
                    Ok(reply) => reply.map_err(|error| CallError::new(error, &self.address)),
                    Err(_) => Err(CallError::Failed(ManagerError::Timeout {
                        what: format!("the call {member}"),
                        after: self.limit,
                    })),
                },
            }
        }
    }

    fn absorb(&mut self, message: Option<zbus::Result<Message>>) -> Result<(), ManagerError> {
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(CallError::new(error, &self.address).into()),
            None => return Err(self.absent("the connection has ended")),
        };
        if message.message_type() != Type::Signal {
            return Ok(());
        }
        let header = message.header();
        let (Some(sender), Some(member)) = (header.sender(), header.member()) else {
            return Ok(());
        };
        if sender.as_str() == BUS && member.as_str() == "NameOwnerChanged" {
            let body = message.body();
            if let Ok((SYSTEMD, _, owner)) = body.deserialize::<(&str, &str, &str)>() {
                self.owner = (!owner.is_empty()).then(|| owner.to_owned());
                self.news.all = true;
            }
        } else if Some(sender.as_str()) == self.owner.as_deref() {
            self.news.note(&message, member.as_str());
        }
        Ok(())
    }
}

impl News {
    /// What was said of units since the last call.
    pub(super) fn take_units(&mut self) -> Vec<(String, Said)> {
        let said = self.units.iter_mut();
        said.filter_map(|(path, said)| Some((path.clone(), said.take()?.1)))
            .collect()
    }

    /// Takes what was said of a unit at that place in the order of the bus.
    pub(super) fn say(&mut self, path: &str, position: Sequence, said: Said) {
        if let Some(last) = self.units.get_mut(path)
            && last.as_ref().is_none_or(|(before, _)| *before < position)
        {
            *last = Some((position, said));
        }
    }

    fn ended(&mut self, job: &str) -> Option<String> {
        let jobs = self.jobs.as_mut()?;
        let at = jobs.iter().position(|(path, _)| path == job)?;
        Some(jobs.swap_remove(at).1)
    }

    /// Takes a signal of systemd's. One that cannot be read, or that nobody waits for, says nothing.
    fn note(&mut self, message: &Message, member: &str) {
        let body = message.body();
        match member {
            "PropertiesChanged" => {
                let header = message.header();
                let Some(path) = header.path() else { return };
                type Changed<'a> = (&'a str, HashMap<&'a str, Variant<'a>>, Vec<&'a str>);
                let Ok((UNIT, changed, invalid)) = body.deserialize::<Changed<'_>>() else {
                    return;
                };
                let said = match changed.get(ACTIVE_STATE).map(Variant::downcast_ref::<&str>) {
                    Some(Ok(state)) => Said::State(plain(state)),
                    Some(Err(_)) => Said::Ask,
                    None if invalid.contains(&ACTIVE_STATE) => Said::Ask,
                    None => return,
                };
                self.say(path.as_str(), message.recv_position(), said);
            }
            "UnitNew" | "UnitRemoved" => {
                if let Ok((_, path)) = body.deserialize::<(&str, ObjectPath<'_>)>() {
                    self.say(path.as_str(), message.recv_position(), Said::Ask);
                }
            }
            "Reloading" => self.all |= matches!(body.deserialize::<bool>(), Ok(false)),
            "JobRemoved" => {
                type Removed<'a> = (u32, ObjectPath<'a>, &'a str, &'a str);
                if let Some(jobs) = &mut self.jobs
                    && let Ok((_, job, _, result)) = body.deserialize::<Removed<'_>>()
                {
                    if jobs.len() == MOST_JOBS {
                        jobs.remove(0);
                    }
                    jobs.push((job.as_str().to_owned(), plain(result)));
                }
            }
            _ => {}
        }
    }
}

fn path_in(reply: &Message) -> Result<OwnedObjectPath, ManagerError> {
    let body = reply.body();
    let path = body.deserialize::<ObjectPath<'_>>();
    path.map(|path| path.to_owned().into())
        .map_err(|_| ManagerError::Malformed("an object's path"))
}

pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";
pub(super) const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub(super) const SERVICE: &str = "org.freedesktop.systemd1.Service";
pub(super) const ACTIVE_STATE: &str = "ActiveState";
const UNIT_PATHS: &str = "/org/freedesktop/systemd1/unit";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const FROM_SYSTEMD: &str = "type='signal',sender='org.freedesktop.systemd1'";
const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";
/// Where zbus looks unless DBUS_SYSTEM_BUS_ADDRESS says otherwise.
const SYSTEM_BUS: &str = "the system bus's socket, /run/dbus/system_bus_socket";
/// With two rules for each unit, up to here all of them fit.
const MANY_UNITS: usize = 200;
/// Jobs that may end while the answer to a call is on its way.
const MOST_JOBS: usize = 1024;
