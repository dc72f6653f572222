//! The service's own secrets API, so that services written for Open Horizon run as they are: HTTPS on a
//! Unix socket, a socket with credentials of its own for each consumer. `docs/open-horizon.md` has it for
//! users.
//!
//! ```text
//! reconcile --told--> SecretsApis --opens, closes--> door on tmpfs: socket, auth.json, cert.pem, env
//!                          |
//!                          +--tells--> Room <--asks-- calls; a value is read from the live generation
//! ```
//!
//! A door is there as long as its service is deployed, also while there is nothing to read: its container
//! may be made then. What it stands on is remembered on tmpfs: a restarted agent binds the same socket with the same key and token, so that
//! clients which have read `auth.json` and `cert.pem` once go on.

mod answer;
mod certificate;
mod credential;
mod environment;
mod notes;
mod pace;
mod room;
mod serve;
mod value;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edge_secrets_protocol::node::Property;
use edge_secrets_protocol::{NodeId, OrgId};
use tokio::net::UnixListener;
use tracing::{info, warn};

pub(crate) use self::environment::{AUTH_MOUNT, CERT_MOUNT, ENV_FILE, SECRETS_MOUNT, SOCKET_MOUNT};

use self::answer::Answers;
use self::certificate::Identity;
use self::credential::Credential;
use self::environment::{AUTH_FILE, CERT_FILE};
use self::room::Room;
use crate::delivery::{ConsumerId, Delivery, Door, resolve};
use crate::metrics::Counters;
use crate::places::Places;
use crate::reconcile::{Reconciler, Told};
use crate::status::SecretsApiStatus;

/// All consumers' APIs. Nothing of them lives, and nothing is on tmpfs, while no consumer has one.
pub(crate) struct SecretsApis {
    open: BTreeMap<ConsumerId, Open>,
    /// Consumers with something of a door on tmpfs; none before that was looked for.
    known: Option<BTreeSet<ConsumerId>>,
    /// Why a door is not as it should be.
    failed: BTreeMap<ConsumerId, String>,
    places: Places,
    /// Tells callers apart; each door has another one.
    last: u32,
    measured: Vec<Property>,
    counters: Arc<Counters>,
}

/// One door that is open.
struct Open {
    room: Arc<Room>,
    credential: Arc<Credential>,
    certificate: String,
    dress: Dress,
}

/// What a door shows, and to whom.
#[derive(Clone, PartialEq, Eq)]
struct Dress {
    told: Told,
    environment: String,
}

impl Dress {
    /// Whether the files on tmpfs would be the same.
    fn fits(&self, other: &Self) -> bool {
        let look = |dress: &Self| {
            let told = &dress.told;
            let owner = (told.owner.clone(), told.group.clone(), told.mode);
            (owner, told.origin.service_version.clone())
        };
        look(self) == look(other) && self.environment == other.environment
    }
}

/// Why a door cannot be opened. Says what to do where that is known.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct DoorError(String);

impl DoorError {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl SecretsApis {
    /// None is open. `measured` is what the node says of itself.
    pub(crate) fn new(measured: Vec<Property>, counters: Arc<Counters>) -> Self {
        Self {
            open: BTreeMap::new(),
            known: None,
            failed: BTreeMap::new(),
            places: Places::new(serve::BOUNDS),
            last: 0,
            measured,
            counters,
        }
    }

    /// Opens, changes and closes doors as the reconciler now tells. Tries again what failed before.
    pub(crate) fn follow(&mut self, reconciler: &Reconciler, org: &OrgId, node: &NodeId) {
        let (delivery, told) = (reconciler.delivery(), reconciler.told());
        let known = self.known.get_or_insert_with(|| {
            let doors = delivery.doors();
            doors.into_iter().collect()
        });
        let gone: Vec<_> = known
            .iter()
            // A service that has stopped is known again with the bindings, and its API with it.
            .filter(|consumer| reconciler.is_told() && !told.contains_key(*consumer))
            .cloned()
            .collect();
        for consumer in gone {
            self.close(&consumer, delivery);
        }
        for (consumer, told) in told {
            let environment = environment::text(org, node, &told.origin, &self.measured);
            let dress = Dress { told, environment };
            match self.serve(&consumer, dress, delivery) {
                Ok(()) => {
                    self.failed.remove(&consumer);
                }
                Err(DoorError(error)) => {
                    if self.failed.get(&consumer) != Some(&error) {
                        warn!(%consumer, %error, "A secrets API cannot be served.");
                    }
                    self.failed.insert(consumer, error);
                }
            }
        }
    }

    /// What people are told of a consumer's API; none where it has none.
    pub(crate) fn status(
        &self,
        consumer: &ConsumerId,
        reconciler: &Reconciler,
    ) -> Option<SecretsApiStatus> {
        let directory = || reconciler.delivery().door_directory(consumer);
        reconciler.has_api(consumer).then(|| SecretsApiStatus {
            directory: directory().display().to_string(),
            error: self.failed.get(consumer).cloned(),
        })
    }

    fn serve(
        &mut self,
        consumer: &ConsumerId,
        dress: Dress,
        delivery: &Delivery,
    ) -> Result<(), DoorError> {
        let Some(open) = self.open.get_mut(consumer) else {
            // First: whatever is made of it is to be wiped.
            self.known.get_or_insert_default().insert(consumer.clone());
            let open = self.open(consumer, dress, delivery)?;
            self.open.insert(consumer.clone(), open);
            info!(%consumer, "The secrets API is served.");
            return Ok(());
        };
        // Whatever comes of the files: what is asked for now is answered as things are now.
        open.room.tell(&dress.told);
        if open.dress.fits(&dress) {
            return Ok(());
        }
        let Open {
            room,
            credential,
            certificate,
            ..
        } = &*open;
        room.with_door(|door| {
            let socket = show(door, &dress, credential, certificate)?;
            door.give_socket(socket.mode, socket.owner)
                .map_err(DoorError::of)
        })?;
        open.dress = dress;
        Ok(())
    }

    fn open(
        &mut self,
        consumer: &ConsumerId,
        dress: Dress,
        delivery: &Delivery,
    ) -> Result<Open, DoorError> {
        let door = delivery.door(consumer).map_err(DoorError::of)?;
        let credential = Arc::new(credential(consumer, &door)?);
        let (identity, tls) = identity(&door)?;
        let certificate = identity.pem();
        let socket = show(&door, &dress, &credential, &certificate)?;
        // Last: who finds the socket finds the rest.
        let listener = door
            .bind(socket.mode, socket.owner)
            .map_err(DoorError::of)?;
        listener.set_nonblocking(true).map_err(DoorError::of)?;
        let listener = UnixListener::from_std(listener).map_err(DoorError::of)?;
        let room = Arc::new(Room::new(consumer, door));
        room.tell(&dress.told);
        self.last = self.last.wrapping_add(1);
        let answers = Answers {
            room: room.clone(),
            credential: credential.clone(),
            counters: self.counters.clone(),
        };
        // It ends by itself when the room is closed.
        tokio::spawn(serve::serve(
            listener,
            tls,
            answers,
            self.places.clone(),
            self.last,
        ));
        Ok(Open {
            room,
            credential,
            certificate,
            dress,
        })
    }

    fn close(&mut self, consumer: &ConsumerId, delivery: &Delivery) {
        if let Some(open) = self.open.remove(consumer) {
            open.room.close();
            info!(%consumer, "The secrets API has ended.");
        }
        self.failed.remove(consumer);
        let errors = delivery.close_door(consumer);
        for error in &errors {
            warn!(%consumer, %error, "Of a secrets API not all is wiped yet.");
        }
        if errors.is_empty() {
            self.known.get_or_insert_default().remove(consumer);
        }
    }
}

impl Drop for SecretsApis {
    fn drop(&mut self) {
        // What lies on tmpfs stays for the next life.
        for open in self.open.values() {
            open.room.close();
        }
    }
}

/// How the socket is to stand.
struct Socket {
    mode: u32,
    owner: crate::delivery::Ownership,
}

/// Writes what the service needs to use the socket. It belongs to whom the consumer's files belong, and
/// is open to nobody else, whatever these are.
fn show(
    door: &Door,
    dress: &Dress,
    credential: &Credential,
    certificate: &str,
) -> Result<Socket, DoorError> {
    let told = &dress.told;
    let owner = resolve(told.owner.as_ref(), told.group.as_ref()).map_err(DoorError::of)?;
    let auth = credential.file(&told.origin.service_version);
    let readers = told.mode & 0o440;
    for (name, content, mode) in [
        (AUTH_FILE, auth.as_slice(), readers),
        (CERT_FILE, certificate.as_bytes(), 0o444),
        (ENV_FILE, dress.environment.as_bytes(), 0o444),
    ] {
        door.show(name, content, mode, owner)
            .map_err(DoorError::of)?;
    }
    Ok(Socket {
        // Who connects must be able to write.
        mode: readers | readers >> 1,
        owner,
    })
}

/// The consumer's token, made when there is none.
fn credential(consumer: &ConsumerId, door: &Door) -> Result<Credential, DoorError> {
    let kept = door.remembered(TOKEN);
    if let Some(credential) = kept.and_then(|token| Credential::new(consumer, &token)) {
        return Ok(credential);
    }
    let token = Credential::new_token().map_err(DoorError::of)?;
    door.remember(TOKEN, &token).map_err(DoorError::of)?;
    Credential::new(consumer, &token).ok_or_else(|| DoorError("no token could be made".to_owned()))
}

/// The consumer's key and certificate, made when there are none that fit one another.
fn identity(door: &Door) -> Result<(Identity, Arc<rustls::ServerConfig>), DoorError> {
    let kept = door.remembered(KEY).zip(door.remembered(CERTIFICATE));
    let kept = kept.map(|(key, certificate)| Identity {
        key,
        certificate: certificate.to_vec(),
    });
    if let Some((tls, kept)) = kept.and_then(|kept| Some((kept.server().ok()?, kept))) {
        return Ok((kept, tls));
    }
    let made = Identity::new().map_err(DoorError::of)?;
    let tls = made.server().map_err(DoorError::of)?;
    for (name, content) in [(KEY, made.key.as_slice()), (CERTIFICATE, &made.certificate)] {
        door.remember(name, content).map_err(DoorError::of)?;
    }
    Ok((made, tls))
}

const TOKEN: &str = "token";
const KEY: &str = "key.der";
const CERTIFICATE: &str = "certificate.der";
