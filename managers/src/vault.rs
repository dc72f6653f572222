//! HashiCorp Vault and OpenBao: KV of both versions, and engines that make credentials with leases.
//!
//! A reference `vault:PATH` means the first KV mount of the configuration, and
//! `vault:MOUNT/PATH` another mount. What the hub's token must be allowed to do, for a KV mount of
//! version 2: `read` on `MOUNT/data/*`, `read` and `list` on `MOUNT/metadata/*`; of version 1: `read`
//! and `list` on `MOUNT/*`; for a dynamic one: `read` on `MOUNT/creds/*`, `update` on
//! `sys/leases/revoke`, and `list` on `MOUNT/roles`, without which a role is taken for there. The
//! policy `default` has the rest.

mod api;
mod config;
mod dynamic;
mod kv1;
mod kv2;
mod login;
mod place;
mod refusal;
mod session;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use edge_secrets_protocol::{OrgId, Secret, SecretVersion};
use serde::Deserialize;

pub use self::config::{
    AppRole, Auth, Cert, Engine, Mount, MountPath, Namespace, Root, SecretId, VaultConfig,
};

use self::api::{Api, Ask, Wire};
use self::login::Login;
use self::place::{Mounts, Place};
use self::session::{Clock, Sessions};
use crate::route::at;
use crate::session::Kept;
use crate::{
    Description, Effect, Fault, Health, Kind, LeaseHandle, ListQuery, Listed, ManagerError, Minted,
    Page, SecretManager, SecretRef, Target, Term, Version,
};

/// One Vault or OpenBao.
pub struct Vault {
    api: Api,
    mounts: Mounts,
    write: bool,
}

impl Vault {
    /// The backend for a configuration whose paths are absolute. Nothing is asked yet: the first call
    /// logs in. `timeout` is for each request; `kept` holds the token, and so has to be secret.
    ///
    /// # Errors
    /// When a certificate's file cannot be used; the text says which.
    pub fn new(
        config: &VaultConfig,
        timeout: Duration,
        kept: Arc<dyn Kept>,
    ) -> Result<Self, String> {
        Self::with_clock(config, timeout, kept, Arc::new(Instant::now))
    }

    fn with_clock(
        config: &VaultConfig,
        timeout: Duration,
        kept: Arc<dyn Kept>,
        clock: Clock,
    ) -> Result<Self, String> {
        let wire = Arc::new(Wire::new(config, timeout)?);
        let sessions = Sessions::new(Arc::clone(&wire), Login::new(config), kept, clock);
        Ok(Self {
            api: Api { wire, sessions },
            mounts: Mounts::new(&config.mounts),
            write: config.write,
        })
    }

    /// The names in a folder, as paths of references. What no reference can name is left out.
    async fn listed(&self, org: &OrgId, prefix: &str) -> Result<Vec<Listed>, ManagerError> {
        let folder = self.mounts.folder(org.as_str(), prefix)?;
        let (mount, path) = (&folder.path.mount, &folder.path.path);
        let (names, effect) = match (folder.engine, path.as_str()) {
            (Engine::Kv2, _) => {
                let route = at("/v1/{*mount}/metadata/{*path}", &[mount, path]);
                (self.api.list(route).await?, Effect::Pure)
            }
            (Engine::Kv1, _) => {
                let route = at("/v1/{*mount}/{*path}", &[mount, path]);
                (self.api.list(route).await?, Effect::Pure)
            }
            (Engine::Dynamic, "") => (vec!["creds/".into()], Effect::Mints),
            (Engine::Dynamic, "creds/") => (dynamic::roles(&self.api, mount).await?, Effect::Mints),
            (Engine::Dynamic, _) => (Vec::new(), Effect::Mints),
        };
        let before = match folder.prefix {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let entries = names.iter().map(|name| format!("{before}{name}"));
        Ok(entries.filter_map(|path| entry(path, effect)).collect())
    }
}

#[async_trait]
impl SecretManager for Vault {
    fn kind(&self) -> Kind {
        Kind::Vault
    }

    fn place(&self, target: Target<'_>) -> Result<String, ManagerError> {
        Ok(self.mounts.locate(target)?.canonical())
    }

    async fn health(&self) -> Result<Health, ManagerError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            standby: bool,
            #[serde(default)]
            version: Option<String>,
        }
        let route = at("/v1/sys/health", &[])
            .with("standbyok", true)
            .with("perfstandbyok", true);
        let reply = self
            .api
            .wire
            .ask(&Ask::get(route).of_the_server(), None)
            .await?;
        match reply.status {
            200 => {}
            501 => return Err(ManagerError::new(Fault::Sealed, "it is not initialised")),
            503 => return Err(ManagerError::new(Fault::Sealed, "it is sealed: unseal it")),
            _ => return Err(refusal::of(&reply)),
        }
        let answer: Answer = reply.json()?;
        self.api.sessions.check().await?;
        let mut notes = Vec::new();
        if answer.standby {
            notes.push("A standby answers: every call goes through it to the active node.".into());
        }
        let life = self.api.session().map(|session| session.life());
        if let Some(life) = life
            && let Some(ttl) = life.ttl
            && !life.renewable
        {
            let left = (life.granted + ttl).saturating_duration_since(Instant::now());
            notes.push(format!(
                "The hub's token ends within {} s and cannot be renewed: its leases end with it.",
                left.as_secs()
            ));
        }
        Ok(Health {
            version: answer
                .version
                .map(|version| version.chars().take(64).collect()),
            notes,
        })
    }

    async fn describe(&self, target: Target<'_>) -> Result<Description, ManagerError> {
        match self.mounts.locate(target)? {
            Place::Kv1(place) => kv1::describe(&self.api, &place).await,
            Place::Kv2(place) => kv2::describe(&self.api, &place).await,
            Place::Dynamic(place) => dynamic::describe(&self.api, &place).await,
        }
    }

    async fn list(&self, org: &OrgId, query: &ListQuery) -> Result<Page, ManagerError> {
        let is_top = query.prefix.trim_end_matches('/').is_empty();
        let mut entries = match is_top && self.mounts.has_no_default() {
            true => Vec::new(),
            false => self.listed(org, &query.prefix).await?,
        };
        if is_top {
            // A folder of the default mount that is called like another mount cannot be meant.
            let named: Vec<_> = self.mounts.named().collect();
            entries.retain(|entry| {
                let path = entry.path.trim_end_matches('/');
                !named.contains(&path) || !entry.path.ends_with('/')
            });
            entries.extend(named.iter().map(|mount| Listed {
                path: format!("{mount}/"),
                effect: None,
                labels: Vec::new(),
            }));
        }
        Ok(Page {
            entries,
            next: None,
        })
    }

    async fn versions(&self, target: Target<'_>) -> Result<Vec<Version>, ManagerError> {
        match self.mounts.locate(target)? {
            Place::Kv1(place) => kv1::versions(&self.api, &place).await,
            Place::Kv2(place) => kv2::versions(&self.api, &place).await,
            Place::Dynamic(_) => Ok(Vec::new()),
        }
    }

    async fn read(
        &self,
        target: Target<'_>,
        version: &SecretVersion,
    ) -> Result<Secret, ManagerError> {
        match self.mounts.locate(target)? {
            Place::Kv1(place) => kv1::read(&self.api, &place, version).await,
            Place::Kv2(place) => kv2::read(&self.api, &place, version).await,
            Place::Dynamic(_) => Err(ManagerError::unsupported(
                target,
                "has no versions: every read of it makes another credential",
            )),
        }
    }

    async fn mint(&self, target: Target<'_>) -> Result<Minted, ManagerError> {
        match self.mounts.locate(target)? {
            Place::Dynamic(place) => dynamic::mint(&self.api, target, &place).await,
            Place::Kv1(_) | Place::Kv2(_) => {
                Err(ManagerError::unsupported(target, "has no leases"))
            }
        }
    }

    async fn renew(&self, handle: &LeaseHandle, want: Duration) -> Result<Term, ManagerError> {
        dynamic::renew(&self.api, handle, want).await
    }

    async fn revoke(&self, handle: &LeaseHandle) -> Result<(), ManagerError> {
        dynamic::revoke(&self.api, handle).await
    }

    fn epoch(&self) -> Option<String> {
        let session = self.api.session()?;
        Some(session.accessor().to_owned())
    }

    /// Continues the session of before a restart, and renews the token: what fails is tried again
    /// with the next call.
    async fn tend(&self) {
        if let Err(error) = self.api.sessions.current().await {
            tracing::warn!(%error, "the hub has no session at the manager");
        }
    }

    async fn write(
        &self,
        target: Target<'_>,
        payload: &Secret,
        expected: Option<Option<SecretVersion>>,
    ) -> Result<SecretVersion, ManagerError> {
        let place = self.mounts.locate(target)?;
        if !self.write {
            return Err(ManagerError::unsupported(
                target,
                "is not written from here: set it at its manager, or `write: true` in hub.yaml",
            ));
        }
        match place {
            Place::Kv1(place) => kv1::write(&self.api, target, &place, payload, expected).await,
            Place::Kv2(place) => kv2::write(&self.api, target, &place, payload, expected).await,
            Place::Dynamic(_) => Err(ManagerError::unsupported(
                target,
                "is made by its manager: there is nothing to write",
            )),
        }
    }
}

/// An entry of a listing, if a reference can name it.
fn entry(path: String, effect: Effect) -> Option<Listed> {
    let is_folder = path.ends_with('/');
    // What could stand in the folder; its first parts may be a scope.
    let named = match is_folder {
        true => format!("m:{path}x/x/x/x"),
        false => format!("m:{path}"),
    };
    named.parse::<SecretRef>().ok()?;
    Some(Listed {
        path,
        effect: (!is_folder).then_some(effect),
        labels: Vec::new(),
    })
}

/// Of a call that changes something: where nobody knows whether it was done, that is the answer.
fn unknown_when_lost(error: ManagerError) -> ManagerError {
    match error.fault {
        Fault::TimedOut | Fault::TooLarge => unknown(),
        _ => error,
    }
}

/// A time that Vault says, within what can be reckoned with.
fn seconds(said: u64) -> Duration {
    Duration::from_secs(said.min(LONGEST))
}

fn unknown() -> ManagerError {
    ManagerError::new(
        Fault::OutcomeUnknown,
        "the answer was lost: what was asked for may have been done there; a credential that \
         nobody has ends by itself",
    )
}

/// Ten years, in seconds.
const LONGEST: u64 = 10 * 366 * 24 * 3600;

#[cfg(test)]
mod tests;
