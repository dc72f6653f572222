//! The hub's token at Vault: made by one login for all callers, renewed while it can be, and kept
//! over restarts of the hub, since every lease ends with the token that it was made with.

mod kept;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use edge_secrets_protocol::Secret;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

pub(super) use self::kept::Memory;
use super::api::{Ask, FORBIDDEN, Wire};
use super::login::{Granted, Login};
use super::refusal;
use crate::route::at;
use crate::session::Kept;
use crate::{Fault, ManagerError};

/// Where the time comes from: tests turn it.
pub(super) type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// A token, and what there is to know of it. It has no `Debug`.
pub(super) struct Session {
    token: Secret,
    accessor: String,
    life: RwLock<Life>,
}

/// How long a token lives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    /// When it was granted, and for how long; for ever when absent.
    pub(super) granted: Instant,
    pub(super) ttl: Option<Duration>,
    pub(super) renewable: bool,
    /// When something is to be done for it.
    due: Option<Instant>,
}

/// The one session at a time.
#[derive(Clone)]
pub(super) struct Sessions(Arc<Inner>);

struct Inner {
    wire: Arc<Wire>,
    login: Login,
    clock: Clock,
    now: RwLock<Option<Arc<Session>>>,
    change: Mutex<Change>,
}

/// What only the one who changes the session looks at.
struct Change {
    memory: Memory,
    failed: Option<Failed>,
    refused: u32,
}

struct Failed {
    at: Instant,
    error: ManagerError,
    not_before: Instant,
}

impl Session {
    pub(super) fn token(&self) -> &Secret {
        &self.token
    }

    /// What its leases hang on, and no secret.
    pub(super) fn accessor(&self) -> &str {
        &self.accessor
    }

    pub(super) fn life(&self) -> Life {
        *self.life.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_life(&self, life: Life) {
        *self.life.write().unwrap_or_else(PoisonError::into_inner) = life;
    }
}

impl Life {
    fn new(granted: Instant, ttl: Option<Duration>, renewable: bool) -> Self {
        Self {
            granted,
            ttl,
            renewable,
            due: ttl.map(|ttl| granted + ttl * 2 / 3),
        }
    }

    fn end(&self) -> Option<Instant> {
        self.ttl.map(|ttl| self.granted + ttl)
    }
}

impl Sessions {
    pub(super) fn new(wire: Arc<Wire>, login: Login, kept: Arc<dyn Kept>, clock: Clock) -> Self {
        let memory = Memory::new(kept, login.identity());
        Self(Arc::new(Inner {
            wire,
            login,
            clock,
            now: RwLock::new(None),
            change: Mutex::new(Change {
                memory,
                failed: None,
                refused: 0,
            }),
        }))
    }

    /// The session in use, if there is one.
    pub(super) fn now(&self) -> Option<Arc<Session>> {
        self.0.now()
    }

    /// A session to ask with: the one in use, the kept one, or a new one.
    pub(super) async fn current(&self) -> Result<Arc<Session>, ManagerError> {
        match self.now() {
            Some(session) => {
                self.tend(&session).await;
                Ok(self.now().unwrap_or(session))
            }
            None => self.establish(None).await,
        }
    }

    /// What to ask with again after an answer of 403; none when the token lives and is not allowed to.
    pub(super) async fn after_refusal(
        &self,
        refused: Arc<Session>,
    ) -> Result<Option<Arc<Session>>, ManagerError> {
        if let Some(session) = self.now().filter(|now| !Arc::ptr_eq(now, &refused)) {
            return Ok(Some(session));
        }
        match self.0.look_up(&refused.token).await {
            Ok(_) => Ok(None),
            Err(error) if error.fault == Fault::Unauthenticated => {
                self.establish(Some(refused)).await.map(Some)
            }
            Err(error) => Err(error),
        }
    }

    /// The random key that values without versions are compared by.
    pub(super) async fn key(&self) -> Result<Secret, ManagerError> {
        let mut change = self.0.change.lock().await;
        change.memory.key().await
    }

    /// Whether the token is let in.
    pub(super) async fn check(&self) -> Result<(), ManagerError> {
        let session = self.current().await?;
        match self.0.look_up(session.token()).await {
            Ok(_) => Ok(()),
            Err(error) if error.fault == Fault::Unauthenticated => {
                self.establish(Some(session)).await.map(drop)
            }
            Err(error) => Err(error),
        }
    }

    /// Renews or replaces the token when it is time to. It can still be used while that fails.
    async fn tend(&self, session: &Arc<Session>) {
        let due = session.life().due;
        if due.is_none_or(|due| (self.0.clock)() < due) {
            return;
        }
        let (inner, session) = (Arc::clone(&self.0), Arc::clone(session));
        // Its own task: a caller that gives up must not leave a login half done.
        let task = tokio::spawn(async move {
            // Somebody else is at it: the token is good meanwhile.
            let Ok(mut change) = inner.change.try_lock() else {
                return;
            };
            inner.tend(&session, &mut change).await;
        });
        if let Err(error) = task.await {
            tracing::error!(%error, "the hub's token could not be tended");
        }
    }

    /// A session other than `dead`: one login, however many wait for it.
    async fn establish(&self, dead: Option<Arc<Session>>) -> Result<Arc<Session>, ManagerError> {
        let inner = Arc::clone(&self.0);
        let came = (inner.clock)();
        let task = tokio::spawn(async move {
            let mut change = inner.change.lock().await;
            if let Some(session) = inner.now()
                && dead
                    .as_ref()
                    .is_none_or(|dead| !Arc::ptr_eq(dead, &session))
            {
                return Ok(session);
            }
            inner.establish(dead.as_deref(), came, &mut change).await
        });
        task.await.unwrap_or_else(|_| {
            Err(ManagerError::new(
                Fault::Unavailable,
                "the hub is ending, or its login ended early",
            ))
        })
    }
}

impl Inner {
    fn now(&self) -> Option<Arc<Session>> {
        self.now
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn establish(
        &self,
        dead: Option<&Session>,
        came: Instant,
        change: &mut Change,
    ) -> Result<Arc<Session>, ManagerError> {
        if let Some(failed) = &change.failed
            && (failed.at >= came || (self.clock)() < failed.not_before)
        {
            return Err(failed.error.clone());
        }
        let session = match self.resume(dead, change).await {
            Ok(Some(session)) => Ok(session),
            Ok(None) => self.log_in(change).await,
            Err(error) => Err(error),
        };
        match session {
            Ok(session) => {
                (change.failed, change.refused) = (None, 0);
                Ok(self.put(session))
            }
            Err(error) => {
                self.note(&error, change);
                Err(error)
            }
        }
    }

    /// Remembers a failure: for those who waited for it, and one that will not pass by itself for
    /// longer each time, so that nobody locks the hub out.
    fn note(&self, error: &ManagerError, change: &mut Change) {
        let at = (self.clock)();
        let mut not_before = at;
        if error.fault == Fault::Unauthenticated || !error.fault.is_transient() {
            let wait = FIRST_WAIT * 2u32.saturating_pow(change.refused);
            not_before += wait.min(LONGEST_WAIT);
            change.refused = change.refused.saturating_add(1);
        }
        change.failed = Some(Failed {
            at,
            error: error.clone(),
            not_before,
        });
    }

    fn put(&self, session: Session) -> Arc<Session> {
        let session = Arc::new(session);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&session));
        session
    }

    /// The session that was kept before a restart, while its token lives.
    async fn resume(
        &self,
        dead: Option<&Session>,
        change: &mut Change,
    ) -> Result<Option<Session>, ManagerError> {
        if dead.is_some() {
            return Ok(None);
        }
        let Some(token) = change.memory.token().await? else {
            return Ok(None);
        };
        match self.look_up(&token).await {
            Ok(found) => Ok(Some(found.session(token))),
            Err(error) if error.fault == Fault::Unauthenticated => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn log_in(&self, change: &mut Change) -> Result<Session, ManagerError> {
        let granted = self.login.run(&self.wire, &mut change.memory).await?;
        let token = match granted {
            Granted::Made(token) => {
                change.memory.keep_token(&token).await?;
                token
            }
            Granted::Given(token) => token,
        };
        let found = self
            .look_up(&token)
            .await
            .map_err(|error| match error.fault {
                Fault::Unauthenticated => {
                    ManagerError::new(Fault::Unauthenticated, self.login.unknown_token())
                }
                _ => error,
            })?;
        Ok(found.session(token))
    }

    async fn tend(&self, session: &Session, change: &mut Change) {
        let now = (self.clock)();
        let life = session.life();
        if life.due.is_none_or(|due| now < due) {
            return;
        }
        let last = self.now();
        if last.is_none_or(|last| !std::ptr::eq(&*last, session)) {
            return;
        }
        let failed = match life.renewable {
            true => self.renew(session).await.err(),
            false if self.login.can_repeat() => {
                let came = (self.clock)();
                match self.establish(Some(session), came, change).await {
                    Ok(_) => return,
                    Err(error) => Some(error),
                }
            }
            false => None,
        };
        if let Some(error) = failed {
            tracing::warn!(%error, "the hub's token at the manager is not renewed");
        }
        let life = session.life();
        if life.due.is_some_and(|due| due <= now) {
            // Not with every call from now on.
            session.set_life(Life {
                due: Some(now + RETRY),
                ..life
            });
        }
    }

    async fn renew(&self, session: &Session) -> Result<(), ManagerError> {
        let granted = (self.clock)();
        let ask = Ask::post(at("/v1/auth/token/renew-self", &[]), &json!({}))?;
        let reply = self.wire.ask(&ask, Some(&session.token)).await?;
        let before = session.life();
        if !reply.is_success() {
            // It will not get better: a new one is made when this one is due again.
            if matches!(reply.status, 400 | FORBIDDEN) {
                session.set_life(Life {
                    renewable: false,
                    ..before
                });
            }
            return Err(refusal::of(&reply));
        }
        let renewed: Renewed = reply.json()?;
        let ttl = super::seconds(renewed.auth.lease_duration);
        let life = Life::new(
            granted,
            (!ttl.is_zero()).then_some(ttl),
            renewed.auth.renewable,
        );
        // At its longest a token is not made longer: then the next thing to do is another one.
        let further = match (life.end(), before.end()) {
            (Some(new), Some(old)) => new > old + Duration::from_secs(1),
            _ => true,
        };
        session.set_life(Life {
            renewable: life.renewable && further,
            ..life
        });
        Ok(())
    }

    async fn look_up(&self, token: &Secret) -> Result<Found, ManagerError> {
        let granted = (self.clock)();
        let ask = Ask::get(at("/v1/auth/token/lookup-self", &[]));
        let reply = self.wire.ask(&ask, Some(token)).await?;
        if reply.status == FORBIDDEN {
            return Err(ManagerError::new(
                Fault::Unauthenticated,
                "the hub's token has ended or was revoked",
            ));
        }
        if !reply.is_success() {
            return Err(refusal::of(&reply));
        }
        let looked: LookedUp = reply.json()?;
        Ok(Found {
            granted,
            data: looked.data,
        })
    }
}

struct Found {
    granted: Instant,
    data: TokenData,
}

impl Found {
    fn session(self, token: Secret) -> Session {
        let ttl = super::seconds(self.data.ttl);
        let ttl = (!ttl.is_zero()).then_some(ttl);
        let accessor = match self.data.accessor.is_empty() {
            false => self.data.accessor,
            // A batch token has none.
            true => {
                let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.expose());
                let short = digest.as_ref().get(..12).unwrap_or_default();
                format!("batch-{}", HEXLOWER.encode(short))
            }
        };
        Session {
            token,
            accessor,
            life: RwLock::new(Life::new(self.granted, ttl, self.data.renewable)),
        }
    }
}

#[derive(Deserialize)]
struct LookedUp {
    data: TokenData,
}

/// The token itself stands beside this, as `id`: it is not read.
#[derive(Deserialize)]
struct TokenData {
    accessor: String,
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Deserialize)]
struct Renewed {
    auth: RenewedAuth,
}

#[derive(Deserialize)]
struct RenewedAuth {
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

/// After a refused login, doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// After a renewal that failed.
const RETRY: Duration = Duration::from_secs(10);
