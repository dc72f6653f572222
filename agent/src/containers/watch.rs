//! Following containers: events say when to look, looking says how things stand.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::events::{EventStream, News};
use super::{Engine, EngineError, Found, Liveness, Pace};
use crate::consumers::lifecycle::{Observed, Presence};
use crate::consumers::names::ContainerName;
use crate::consumers::profile::Workload;
use crate::hub::backoff::Backoff;

/// Tells of these containers until nobody listens.
pub(super) async fn follow(
    engine: Engine,
    containers: BTreeSet<ContainerName>,
    seen: mpsc::UnboundedSender<Observed>,
) {
    if containers.is_empty() {
        return;
    }
    let closed = seen.clone();
    tokio::select! {
        () = closed.closed() => {}
        never = follow_for_ever(engine, containers, seen) => match never {},
    }
}

async fn follow_for_ever(
    engine: Engine,
    containers: BTreeSet<ContainerName>,
    seen: mpsc::UnboundedSender<Observed>,
) -> Infallible {
    let mut teller = Teller {
        seen,
        told: BTreeMap::new(),
        away: false,
    };
    let mut backoff = Backoff::connecting();
    loop {
        let start = Instant::now();
        // First the events, then the state: nothing falls between.
        match EventStream::ask(&engine).await {
            Err(error) => teller.engine_is_away(&containers, &error),
            Ok(events) => {
                let error = session(&engine, events, &containers, &mut teller).await;
                if error.is_away() {
                    teller.engine_is_away(&containers, &error);
                } else {
                    // podman's service ends when it is idle, engines restart: nothing to tell
                    // anybody as long as it can be opened again.
                    debug!(%error, "The container engine's events ended.");
                }
            }
        }
        if start.elapsed() >= SETTLED {
            backoff.succeeded();
        }
        sleep(backoff.failed()).await;
    }
}

/// Follows one event stream to its end, and gives the reason. Every container has been looked at
/// then, were it for the last time.
async fn session(
    engine: &Engine,
    mut events: EventStream,
    containers: &BTreeSet<ContainerName>,
    teller: &mut Teller,
) -> EngineError {
    // Not every podman says when the stream is open, and every engine drops events that it cannot
    // keep: all are looked at again later.
    let mut dirty = containers.clone();
    let mut again = Again::after(&engine.pace);
    let mut looking = BTreeSet::new();
    let mut looks = FuturesUnordered::new();
    let mut ended = None;
    loop {
        while looks.len() < MAX_LOOKS
            && let Some(name) = dirty.difference(&looking).next().cloned()
        {
            dirty.remove(&name);
            looking.insert(name.clone());
            looks.push(async move {
                let found = engine.look(&name).await;
                (name, found)
            });
        }
        if looks.is_empty()
            && let Some(error) = ended.take()
        {
            return error;
        }
        tokio::select! {
            biased;
            Some((name, found)) = looks.next() => {
                looking.remove(&name);
                match found {
                    Ok(found) => teller.found(&name, found.as_ref()),
                    Err(error) if error.is_away() => return error,
                    // About this one alone: an engine locks a container while it works on it.
                    Err(error) => {
                        teller.tell(&name, Presence::Unknown, Some(error.to_string()));
                        again.soon();
                    }
                }
            }
            news = events.next(), if ended.is_none() => match news {
                Ok(News::All) => dirty.clone_from(containers),
                Ok(News::Some(names)) => dirty.extend(names.intersection(containers).cloned()),
                Err(error) => ended = Some(error),
            },
            () = sleep_until(again.at), if looks.is_empty() => {
                again.later();
                dirty.clone_from(containers);
            }
        }
    }
}

/// Looking at everything again, seldomer and seldomer.
struct Again {
    at: Instant,
    wait: Duration,
    first: Duration,
    cap: Duration,
}

impl Again {
    fn after(pace: &Pace) -> Self {
        Self {
            at: Instant::now() + pace.look_again,
            wait: pace.look_again,
            first: pace.look_again,
            cap: pace.look_again_cap,
        }
    }

    fn later(&mut self) {
        self.wait = (self.wait * 4).min(self.cap);
        self.at = Instant::now() + self.wait;
    }

    /// Something was not answered: looks again after the present wait, or [`SOON`] if that is less.
    fn soon(&mut self) {
        let wait = self.wait.min(SOON).max(self.first);
        self.at = self.at.min(Instant::now() + wait);
    }
}

/// Tells what has changed.
struct Teller {
    seen: mpsc::UnboundedSender<Observed>,
    told: BTreeMap<ContainerName, (Presence, Option<String>)>,
    away: bool,
}

impl Teller {
    fn found(&mut self, name: &ContainerName, found: Option<&Found>) {
        if self.away {
            self.away = false;
            info!("The container engine answers again.");
        }
        let presence = found.map_or(Presence::Absent, |found| found.liveness.presence());
        let reason = (found.map(|found| found.liveness) == Some(Liveness::Strange)).then(|| {
            format!("the container engine does not say whether {name} runs: see `podman inspect`")
        });
        self.tell(name, presence, reason);
    }

    fn engine_is_away(&mut self, containers: &BTreeSet<ContainerName>, error: &EngineError) {
        if !self.away {
            self.away = true;
            warn!(%error, "The container engine is away: containers' secrets stay as they are.");
        }
        for name in containers {
            self.tell(name, Presence::Unknown, Some(error.to_string()));
        }
    }

    fn tell(&mut self, name: &ContainerName, presence: Presence, reason: Option<String>) {
        let news = (presence, reason);
        if self.told.get(name) == Some(&news) {
            return;
        }
        self.told.insert(name.clone(), news.clone());
        let (presence, reason) = news;
        debug!(container = %name, ?presence, "Container seen.");
        // Nobody listens any more: the whole task ends.
        self.seen
            .send(Observed {
                workload: Workload::Container(name.clone()),
                presence,
                reason,
            })
            .ok();
    }
}

/// How many containers are looked at at once.
const MAX_LOOKS: usize = 8;
/// A stream that lived so long was a good one.
const SETTLED: Duration = Duration::from_secs(10);
/// How soon a container is looked at again that the engine said nothing useful of.
const SOON: Duration = Duration::from_secs(30);
