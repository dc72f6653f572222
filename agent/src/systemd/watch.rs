//! Which units live, followed by systemd's signals. The rules are added before anything is read, and
//! what is read counts at its place among the signals, so no edge is lost between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::warn;

use super::error::{CallError, ManagerError};
use super::manager::presence;
use super::session::{ACTIVE_STATE, Said, Session, UNIT};
use crate::consumers::lifecycle::{Observed, Presence};
use crate::consumers::names::UnitName;
use crate::consumers::profile::Workload;
use crate::hub::backoff::Backoff;

/// What follows the units.
pub(super) struct Watch {
    address: Option<String>,
    limit: Duration,
    units: BTreeSet<UnitName>,
    seen: mpsc::UnboundedSender<Observed>,
    /// What was told last.
    told: BTreeMap<UnitName, (Presence, Option<String>)>,
}

/// Why the watch is interrupted.
enum End {
    /// Nobody listens any more.
    Unheard,
    Lost(ManagerError),
}

impl Watch {
    pub(super) fn new(
        address: Option<String>,
        limit: Duration,
        units: BTreeSet<UnitName>,
        seen: mpsc::UnboundedSender<Observed>,
    ) -> Self {
        Self {
            address,
            limit,
            units,
            seen,
            told: BTreeMap::new(),
        }
    }

    pub(super) async fn run(mut self) {
        if self.units.is_empty() {
            return;
        }
        let mut backoff = Backoff::connecting();
        loop {
            let Err(end) = self.follow(&mut backoff).await;
            let End::Lost(reason) = end else { return };
            if self.tell_unknown(&reason.to_string()).is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.failed()) => {}
                () = self.seen.closed() => return,
            }
        }
    }

    /// Follows the units over one connection for as long as it holds.
    async fn follow(&mut self, backoff: &mut Backoff) -> Result<Infallible, End> {
        let mut session = Session::open(self.address.as_deref(), self.limit).await?;
        session.follow_reloads().await?;
        loop {
            if !session.is_manned() {
                self.tell_unknown("systemd is away from the bus: it may be starting anew")?;
                self.more(&mut session).await?;
                continue;
            }
            session.news.all = false;
            session.subscribe().await?;
            let paths = self.find(&mut session).await?;
            if session.news.all {
                continue;
            }
            backoff.succeeded();
            while !session.news.all {
                self.take(&mut session, &paths).await?;
                if !session.news.all {
                    self.more(&mut session).await?;
                }
            }
        }
    }

    /// Finds every unit's object and has its state asked for.
    async fn find(
        &mut self,
        session: &mut Session,
    ) -> Result<BTreeMap<String, BTreeSet<UnitName>>, End> {
        let mut paths = BTreeMap::<String, BTreeSet<UnitName>>::new();
        for unit in self.units.clone() {
            // Loads it where it is not: an alias stands under its unit's own path.
            let path = match session.path_of("LoadUnit", unit.as_str()).await {
                Ok(path) => path,
                Err(CallError::Failed(error)) => return Err(error.into()),
                Err(refused) => {
                    let reason = refused.of(unit.as_str()).to_string();
                    warn!(%unit, %reason, "Unit cannot be followed.");
                    self.tell(&unit, Presence::Unknown, Some(reason))?;
                    continue;
                }
            };
            session.follow_unit(&path).await?;
            paths.entry(path.to_string()).or_default().insert(unit);
        }
        // Asked for after its rule: what happens from here on is heard.
        for (path, units) in &paths {
            self.ask(session, path, units).await?;
        }
        Ok(paths)
    }

    /// Tells of everything that was said.
    async fn take(
        &mut self,
        session: &mut Session,
        paths: &BTreeMap<String, BTreeSet<UnitName>>,
    ) -> Result<(), End> {
        loop {
            let said = session.news.take_units();
            if said.is_empty() {
                return Ok(());
            }
            for (path, said) in said {
                let Some(units) = paths.get(&path) else {
                    continue;
                };
                match said {
                    Said::Ask => self.ask(session, &path, units).await?,
                    Said::Unloaded => self.tell_all(session, units, "inactive").await?,
                    Said::State(state) => self.tell_all(session, units, &state).await?,
                }
            }
        }
    }

    /// Asks for a unit's state, as an entry in the news: what was said later stays.
    async fn ask(
        &self,
        session: &mut Session,
        path: &str,
        units: &BTreeSet<UnitName>,
    ) -> Result<(), End> {
        let Some(unit) = units.first() else {
            return Ok(());
        };
        // GetUnit does not load the unit: loading it would be news again, without end.
        let found = match session.path_of("GetUnit", unit.as_str()).await {
            Ok(found) => found,
            Err(CallError::Answer { position, .. }) => {
                session.news.say(path, position, Said::Unloaded);
                return Ok(());
            }
            Err(CallError::Failed(error)) => return Err(error.into()),
        };
        match session.text(&found, UNIT, ACTIVE_STATE).await {
            Ok((position, state)) => session.news.say(path, position, Said::State(state)),
            Err(CallError::Answer { position, .. }) => {
                session.news.say(path, position, Said::Unloaded);
            }
            Err(CallError::Failed(error)) => return Err(error.into()),
        }
        Ok(())
    }

    /// Waits for more, or until nobody listens.
    async fn more(&self, session: &mut Session) -> Result<(), End> {
        tokio::select! {
            more = session.more() => more.map_err(End::Lost),
            () = self.seen.closed() => Err(End::Unheard),
        }
    }

    async fn tell_all(
        &mut self,
        session: &mut Session,
        units: &BTreeSet<UnitName>,
        state: &str,
    ) -> Result<(), End> {
        let presence = presence(state);
        for unit in units {
            let reason = match presence {
                Presence::Present => None,
                // Worth asking once: a name that is not there may be a slip of the pen.
                Presence::Absent => match self.told.get(unit) {
                    Some((Presence::Absent, reason)) => reason.clone(),
                    _ => missing(session, unit).await?,
                },
                Presence::Unknown => Some(format!("systemd calls its state `{state}`")),
            };
            self.tell(unit, presence, reason)?;
        }
        Ok(())
    }

    /// Nothing is known of any unit. Logged once for all of them.
    fn tell_unknown(&mut self, reason: &str) -> Result<(), End> {
        let now = (Presence::Unknown, Some(reason.to_owned()));
        if self
            .units
            .iter()
            .all(|unit| self.told.get(unit) == Some(&now))
        {
            return Ok(());
        }
        warn!(units = self.units.len(), %reason, "Units cannot be followed.");
        for unit in self.units.clone() {
            self.tell(&unit, Presence::Unknown, Some(reason.to_owned()))?;
        }
        Ok(())
    }

    fn tell(
        &mut self,
        unit: &UnitName,
        presence: Presence,
        reason: Option<String>,
    ) -> Result<(), End> {
        let now = (presence, reason.clone());
        if self.told.get(unit) == Some(&now) {
            return Ok(());
        }
        self.told.insert(unit.clone(), now);
        let workload = Workload::Unit(unit.clone());
        let observed = Observed {
            workload,
            presence,
            reason,
        };
        self.seen.send(observed).map_err(|_| End::Unheard)
    }
}

impl From<ManagerError> for End {
    fn from(error: ManagerError) -> Self {
        Self::Lost(error)
    }
}

impl From<CallError> for End {
    fn from(error: CallError) -> Self {
        Self::Lost(error.into())
    }
}

/// What to tell of a unit that does not run: nothing, unless there is no such unit.
async fn missing(session: &mut Session, unit: &UnitName) -> Result<Option<String>, End> {
    let load = match session.path_of("LoadUnit", unit.as_str()).await {
        Ok(path) => session.text(&path, UNIT, "LoadState").await,
        Err(error) => Err(error),
    };
    match load {
        Ok((_, load)) if load == "not-found" => {
            Ok(Some(ManagerError::NoSuchUnit(unit.to_string()).to_string()))
        }
        Ok(_) | Err(CallError::Answer { .. }) => Ok(None),
        Err(CallError::Failed(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
