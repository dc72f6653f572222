//! One connection, from its acceptance to its end.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::address::Request;
use super::kept::{Keeper, Kept};
use super::lookup::{Found, Refusal, look, named};
use super::offer::{Offer, Spoiled};
use super::peer::Peer;
use super::places::{MAX_OF_UNIT, MAX_WAITING, Places};
use super::seldom::Seldom;
use super::{Ending, Shelf};
use crate::delivery::ConsumerId;
use crate::metrics::Counters;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Service<K> {
    pub(super) keeper: Arc<K>,
    pub(super) shelf: watch::Receiver<Arc<Shelf>>,
    pub(super) asked: mpsc::UnboundedSender<ConsumerId>,
    /// Whether a user may be given credentials.
    pub(super) trusts: fn(u32) -> bool,
    pub(super) places: Places,
    pub(super) strangers: Seldom,
    pub(super) refusals: Seldom,
    pub(super) counters: Arc<Counters>,
}

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
enum Denied {
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error(
        "nothing was delivered in {} s (systemd.wait); `edge-secrets-agent status` says why",
        _0.as_secs_f32()
    )]
    TooLate(Duration),
    #[error("the file cannot be opened: {0}")]
    Unreadable(nix::errno::Errno),
    #[error("{MAX_OF_UNIT} requests of this unit are being served already")]
    TooMany,
    #[error("{MAX_WAITING} requests wait already")]
    TooManyWait,
    #[error("the agent stops")]
    Stopping,
}

/// How the search for a value ended.
enum Sought {
    Value(Offer, ConsumerId),
    Denied(Denied),
    /// The peer is gone.
    Gone,
    /// The next life answers.
    Left,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is answered, or nobody is there to answer.
    Over,
    /// It waits on, in the service manager's store.
    Left,
}

/// Answers one connection. Once the agent ends, it takes 5 seconds more at most.
pub(super) async fn serve_one<K: Keeper>(
    service: Arc<Service<K>>,
    peer: Peer,
    mut kept: Kept<K>,
    ending: watch::Receiver<Ending>,
) {
    let mut ended_when = ending.clone();
    let overdue = async {
        let end = ended(&mut ended_when).await;
        sleep(LAST).await;
        end
    };
    tokio::select! {
        end = answer(&service, &peer, &mut kept, ending) => if end == End::Over {
            kept.forget();
        },
        end = overdue => if end == Ending::Restart {
            // The peer has a part, and the next life makes it fail.
            kept.sending(&peer);
        },
    }
}

/// Returns when the agent ends.
pub(super) async fn ended(ending: &mut watch::Receiver<Ending>) -> Ending {
    match ending.wait_for(|ending| *ending != Ending::Running).await {
        Ok(ending) => *ending,
        Err(_) => Ending::Stop,
    }
}

async fn answer<K: Keeper>(
    service: &Service<K>,
    peer: &Peer,
    kept: &mut Kept<K>,
    ending: watch::Receiver<Ending>,
) -> End {
    match peer.uid() {
        Ok(uid) if (service.trusts)(uid) => {}
        uid => {
            reject(service, peer, uid.ok()).await;
            return End::Over;
        }
    }
    let request = match peer.request() {
        Ok(request) => request,
        Err(error) => {
            if let Some(unsaid) = service.refusals.may(Instant::now()) {
                warn!(%error, unsaid, "A request for a credential is refused.");
            }
            fail(peer, kept).await;
            return End::Over;
        }
    };
    if kept.was_sending() {
        let (unit, credential) = (&request.unit, &request.credential);
        warn!(%unit, %credential, "The agent ended in the middle of an answer: the unit must fail.");
        fail(peer, kept).await;
        return End::Over;
    }
    let sought = match service.places.of(&request.unit) {
        Some(_place) => seek(service, &request, peer, kept, ending).await,
        None => Sought::Denied(Denied::TooMany),
    };
    match sought {
        Sought::Value(offer, consumer) => {
            service.counters.credentials_served.increment();
            give(&request, &consumer, offer, peer, kept).await;
        }
        Sought::Denied(reason) => {
            service.counters.credentials_refused.increment();
            if let Some(unsaid) = service.refusals.may(Instant::now()) {
                let (unit, credential) = (&request.unit, &request.credential);
                warn!(%unit, %credential, %reason, unsaid, "A credential is refused: the unit must fail.");
            }
            fail(peer, kept).await;
        }
        Sought::Gone => debug!(%request, "The unit does not wait any longer."),
        Sought::Left => return End::Left,
    }
    End::Over
}

/// The value, as soon as it is there.
async fn seek<K: Keeper>(
    service: &Service<K>,
    request: &Request,
    peer: &Peer,
    kept: &mut Kept<K>,
    mut ending: watch::Receiver<Ending>,
) -> Sought {
    let began = tokio::time::Instant::now();
    let mut shelves = service.shelf.clone();
    let mut place = None;
    let mut told = None;
    let mut named_once = false;
    loop {
        let shelf = shelves.borrow_and_update().clone();
        // A unit that starts lets its consumer have its secrets, where that hangs on it.
        let consumer = named(&shelf, request);
        named_once |= shelf.profiles.of_unit(&request.unit).is_some();
        if consumer != told {
            if let Some(consumer) = &consumer {
                // Nobody listens only when the agent ends.
                service.asked.send(consumer.clone()).ok();
            }
            told = consumer;
        }
        let mut otherwise = None;
        let wait = match look(&shelf, request) {
            Found::File {
                consumer,
                generation,
                file,
                wait,
            } => match Offer::open(generation, &file) {
                Ok(Some(offer)) => return Sought::Value(offer, consumer.clone()),
                // Rotated away since the shelf was published: the next one is on its way.
                Ok(None) => wait.max(NEXT_SHELF),
                Err(errno) => return Sought::Denied(Denied::Unreadable(errno)),
            },
            Found::NotYet { wait } => wait,
            // Its profile may just have been written, and not been read yet.
            Found::Refused(Refusal::UnknownUnit)
                if !named_once && began.elapsed() < NEXT_PROFILES =>
            {
                otherwise = Some(Refusal::UnknownUnit);
                NEXT_PROFILES
            }
            Found::Refused(refusal) => return Sought::Denied(refusal.into()),
        };
        drop(shelf);
        if place.is_none() {
            place = service.places.wait();
            if place.is_none() {
                return Sought::Denied(Denied::TooManyWait);
            }
            kept.waiting(peer);
            let (unit, credential) = (&request.unit, &request.credential);
            info!(%unit, %credential, ?wait, "A unit waits for a credential that is not there yet.");
        }
        tokio::select! {
            () = next(&mut shelves) => {}
            () = peer.gone() => return Sought::Gone,
            () = sleep_until(began + wait) => return Sought::Denied(match otherwise {
                Some(refusal) => refusal.into(),
                None => Denied::TooLate(wait),
            }),
            end = ended(&mut ending) => return match end {
                Ending::Restart if kept.keeps() => Sought::Left,
                _ => Sought::Denied(Denied::Stopping),
            },
        }
    }
}

/// Gives the value, or, when it does not arrive as a whole, makes the unit fail.
async fn give<K: Keeper>(
    request: &Request,
    consumer: &ConsumerId,
    offer: Offer,
    peer: &Peer,
    kept: &mut Kept<K>,
) {
    let (unit, credential, bytes) = (&request.unit, &request.credential, offer.size());
    if bytes > SYSTEMD_TAKES {
        warn!(
            %unit, %credential, bytes,
            "This credential is larger than the 1 MiB that systemd takes: the unit will fail. Let it \
             read the file instead."
        );
    }
    if kept.is_stored() || !offer.is_one_piece() {
        kept.sending(peer);
    }
    let reason = match timeout(GIVE, offer.give(peer)).await {
        Ok(Ok(())) => {
            peer.finish();
            info!(%unit, %credential, %consumer, bytes, "Credential given.");
            return;
        }
        Ok(Err(Spoiled::Gone)) => {
            debug!(%unit, %credential, "The unit did not read its credential to the end.");
            return;
        }
        Ok(Err(Spoiled::Wiped)) => "it was withdrawn meanwhile",
        Err(_) => "it was not read in time",
    };
    warn!(%unit, %credential, reason, "A credential did not arrive as a whole: the unit must fail.");
    // Its file is wiped when it is time for that, however long the peer takes.
    drop(offer);
    fail(peer, kept).await;
}

/// Makes the unit fail. It takes as long as the peer takes to read or to go: to close before would
/// start the unit with what it has read so far.
async fn fail<K: Keeper>(peer: &Peer, kept: &mut Kept<K>) {
    kept.sending(peer);
    peer.fail().await;
}

/// Who is neither root nor the agent's own user should not get as far as this: the socket is theirs
/// alone. So little is spent on them.
async fn reject<K>(service: &Service<K>, peer: &Peer, uid: Option<u32>) {
    if let Some(unsaid) = service.strangers.may(Instant::now()) {
        warn!(
            uid,
            unsaid,
            "A user who is not the service manager's asked for a credential: refused. The socket's \
             mode should be 0600."
        );
    }
    if let Some(_place) = service.places.stranger() {
        timeout(STRANGER, peer.fail()).await.ok();
    }
}

/// Returns when there is another shelf; never once there will be none.
async fn next(shelves: &mut watch::Receiver<Arc<Shelf>>) {
    if shelves.changed().await.is_err() {
        pending().await
    }
}

/// How long an answer may take that is being read.
const GIVE: Duration = Duration::from_secs(30);
/// How long answers may take once the agent ends.
const LAST: Duration = Duration::from_secs(5);
/// How long the next shelf may take when a value has just been rotated away.
const NEXT_SHELF: Duration = Duration::from_secs(5);
/// Longer than the agent takes to see a profile that was written, and not long for who is refused.
const NEXT_PROFILES: Duration = Duration::from_secs(3);
const STRANGER: Duration = Duration::from_secs(10);
const SYSTEMD_TAKES: u64 = 1024 * 1024;
