//! Delinea (Thycotic) Secret Server: IBM's PIM.
//!
//! References are `<Folder>/<Sub>/<Name>`, where the manager writes `\`, or `id/<number>`. The manager
//! has no versions: one is made here from what moves when a value changes, see `docs/secret-server.md`.
//! A plain read there can check a secret out, so that every read says that it must not.

mod access;
mod api;
mod audits;
mod checkout;
mod errors;
mod held;
mod list;
mod model;
mod place;
mod resolve;
#[cfg(test)]
mod tests;
mod token;
mod values;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::HEXLOWER;
use edge_secrets_protocol::{OrgId, Secret, SecretVersion};
use serde::Deserialize;

use self::access::{Access, Allowed, access, minutes};
use self::api::{Api, succeeded};
use self::audits::Marks;
use self::checkout::state;
use self::errors::absent_or_denied;
use self::held::Held;
use self::model::{Folder, Healthcheck, Records, State, Summary};
use self::place::Place;
use self::resolve::{Number, Numbers};
use self::token::Account;
use crate::credential::CredentialFile;
use crate::http::{BaseUrl, HttpClient, HttpConfig};
use crate::lease::{LeaseHandle, Minted, Term};
use crate::route::at;
use crate::session::Kept;
use crate::{
    Description, Effect, Fault, Health, Kind, ListQuery, ManagerError, Page, SecretManager, Target,
    Version,
};

/// How a Secret Server is reached, and what may be done there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretServerConfig {
    /// Where it is, with its virtual directory: `https://pim.example.com/SecretServer`.
    pub url: BaseUrl,
    /// The name of the hub's account: an application account, which nobody else uses.
    pub username: CredentialFile,
    /// Its password.
    pub password: CredentialFile,
    /// The account's domain; absent for an account of the manager's own.
    #[serde(default)]
    pub domain: Option<String>,
    /// The CAs to trust, PEM; those of the system when absent.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The reason that is given where a secret wants one with each view, 1 to 500 characters. Absent,
    /// such secrets are refused.
    #[serde(default)]
    pub comment: Option<String>,
    /// Whether secrets that must be checked out are: each for one node at a time, and checked in when
    /// the node has it no more. Else such secrets are refused.
    #[serde(default)]
    pub checkout: bool,
}

impl SecretServerConfig {
    /// The same with relative paths made relative to `base`.
    #[must_use]
    pub fn based_on(self, base: &Path) -> Self {
        Self {
            username: self.username.based_on(base),
            password: self.password.based_on(base),
            ca_file: self.ca_file.map(|path| base.join(path)),
            ..self
        }
    }
}

/// One Secret Server.
pub struct SecretServer {
    api: Api,
    allowed: Allowed,
    numbers: Numbers,
    marks: Marks,
    held: Held,
}

/// A secret as it stands, without its values.
struct Seen {
    summary: Summary,
    state: State,
    access: Access,
}

impl SecretServer {
    /// The manager of this configuration. Nothing is asked yet; `timeout` is for each call. `kept` is
    /// where it notes what it has checked out.
    ///
    /// # Errors
    /// When a file cannot be read or something in the configuration cannot be; the text says which.
    pub fn new(
        config: &SecretServerConfig,
        timeout: Duration,
        kept: Arc<dyn Kept>,
    ) -> Result<Self, String> {
        one_line("domain", config.domain.as_deref(), 255)?;
        one_line("comment", config.comment.as_deref(), 500)?;
        config.username.read()?;
        config.password.read()?;
        let http = HttpClient::new(&HttpConfig {
            base: config.url.clone(),
            ca_file: config.ca_file.clone(),
            identity: None,
            timeout,
        })?;
        let account = Account {
            username: config.username.clone(),
            password: config.password.clone(),
            domain: config.domain.clone(),
        };
        Ok(Self {
            api: Api::new(http, account),
            allowed: Allowed {
                comment: config.comment.clone(),
                checkout: config.checkout,
            },
            numbers: Numbers::default(),
            marks: Marks::default(),
            held: Held::new(kept),
        })
    }

    /// Finds the secret and looks at what stands before its values.
    async fn look(&self, target: Target<'_>) -> Result<Seen, ManagerError> {
        let place = Place::of(target.reference)?;
        let number = self.numbers.of(&self.api, &place).await?;
        let gone = match self.look_at(&place, number).await {
            Err(error) if matches!(error.fault, Fault::NotFoundOrDenied | Fault::Deleted) => error,
            looked => return looked,
        };
        if let Place::Id(_) = place {
            return Err(gone);
        }
        // Renamed, moved, or made anew under its old name.
        self.numbers.forget(&place);
        match self.numbers.of(&self.api, &place).await {
            Ok(other) if other != number => self.look_at(&place, other).await,
            Err(error)
                if error.fault == Fault::NotFoundOrDenied && gone.fault == Fault::Deleted =>
            {
                // What is deactivated is in no search: only its number tells.
                self.numbers.keep(place, number);
                Err(gone)
            }
            Ok(_) => Err(gone),
            Err(error) => Err(error),
        }
    }

    async fn look_at(&self, place: &Place, number: Number) -> Result<Seen, ManagerError> {
        let summary = at("/api/v1/secrets/{id}/summary", &[&number.id.to_string()]);
        let (summary, state) = tokio::join!(
            self.api.get::<Summary>(summary, "a look at the secret"),
            state(&self.api, number.id),
        );
        let (summary, state) = (summary?, state?);
        if !number.is(place, &summary) {
            return Err(absent_or_denied());
        }
        let access = access(&summary, &state, &self.allowed)?;
        Ok(Seen {
            summary,
            state,
            access,
        })
    }

    /// The version of what can be read now, and whether edits by hand are in it.
    async fn version(&self, seen: &Seen) -> Result<(SecretVersion, bool), ManagerError> {
        let edited = self.marks.newest(&self.api, seen.summary.id).await?;
        Ok((version_of(&seen.summary, edited)?, edited.is_some()))
    }

    /// The reason to give, where the secret wants one.
    fn comment(&self, seen: &Seen) -> Option<&str> {
        let comment = self.allowed.comment.as_deref();
        comment.filter(|_| seen.access.comment)
    }

    async fn current(
        &self,
        target: Target<'_>,
        version: &SecretVersion,
    ) -> Result<Seen, ManagerError> {
        let seen = self.look(target).await?;
        if seen.access.checkout.is_some() {
            let why = "the secret is given to one node at a time, not read for all";
            return Err(ManagerError::new(Fault::NeedsCheckout, why));
        }
        let (now, _) = self.version(&seen).await?;
        if now == *version {
            return Ok(seen);
        }
        Err(ManagerError::new(
            Fault::Superseded,
            "the secret has changed at its manager, which keeps no old values",
        ))
    }
}

#[async_trait]
impl SecretManager for SecretServer {
    fn kind(&self) -> Kind {
        Kind::SecretServer
    }

    fn place(&self, target: Target<'_>) -> Result<String, ManagerError> {
        Place::of(target.reference).map(|place| place.text())
    }

    async fn health(&self) -> Result<Health, ManagerError> {
        let reply = self.api.ask_openly(at("/api/v1/healthcheck", &[])).await?;
        let reply = succeeded(reply, "to say how it is")?;
        let notes = match reply.json::<Healthcheck>() {
            Ok(health) => notes_of(&health)?,
            // Some versions answer with the word alone.
            Err(error) if !is_the_word(reply.expose()) => return Err(error),
            Err(_) => Vec::new(),
        };
        let folders = at("/api/v1/folders", &[]).with("take", 1);
        let _: Records<Folder> = self.api.get(folders, "a look at the folders").await?;
        Ok(Health {
            version: None,
            notes,
        })
    }

    async fn describe(&self, target: Target<'_>) -> Result<Description, ManagerError> {
        let seen = self.look(target).await?;
        if seen.access.checkout.is_some() {
            let mut description = Description::new(Effect::Exclusive, None);
            description.ttl = minutes(seen.state.check_out_interval_minutes);
            description.identity = Some(seen.summary.id.to_string());
            return Ok(description);
        }
        let (version, with_edits) = self.version(&seen).await?;
        let mut description = Description::new(Effect::Pure, Some(version));
        if !with_edits {
            description.notes.push(UNSEEN_EDITS.to_owned());
        }
        if seen.summary.is_out_of_sync == Some(true) {
            description.notes.push(OUT_OF_SYNC.to_owned());
        }
        Ok(description)
    }

    fn searches(&self) -> bool {
        true
    }

    async fn list(&self, _: &OrgId, query: &ListQuery) -> Result<Page, ManagerError> {
        list::page(&self.api, query).await
    }

    async fn versions(&self, target: Target<'_>) -> Result<Vec<Version>, ManagerError> {
        let current = self.describe(target).await?.version;
        let version = |version| Version {
            version,
            created_at: None,
            gone: None,
        };
        Ok(current.into_iter().map(version).collect())
    }

    async fn read(
        &self,
        target: Target<'_>,
        version: &SecretVersion,
    ) -> Result<Secret, ManagerError> {
        let seen = self.current(target, version).await?;
        let payload = values::read(&self.api, seen.summary.id, self.comment(&seen)).await?;
        // The value has no version of its own: it is of this one if it was before and is after.
        self.current(target, version).await?;
        Ok(payload)
    }

    async fn mint(&self, target: Target<'_>) -> Result<Minted, ManagerError> {
        self.check_out(target).await
    }

    async fn renew(&self, handle: &LeaseHandle, want: Duration) -> Result<Term, ManagerError> {
        self.extend(handle, want).await
    }

    async fn revoke(&self, handle: &LeaseHandle) -> Result<(), ManagerError> {
        self.give_back(handle).await
    }
}

/// A version from what moves with the values, and with nothing that the hub does.
fn version_of(summary: &Summary, edited: Option<u64>) -> Result<SecretVersion, ManagerError> {
    let changed = summary.last_password_change_attempt.as_deref();
    let changed = changed.filter(|at| !at.starts_with(NEVER));
    let mut digest = Context::new(&SHA256);
    for part in [
        &summary.id.to_string(),
        changed.unwrap_or_default(),
        &edited.unwrap_or_default().to_string(),
    ] {
        digest.update(part.as_bytes());
        digest.update(b"\n");
    }
    let text = format!("s{}", HEXLOWER.encode(digest.finish().as_ref()));
    text.parse()
        .map_err(|_| ManagerError::new(Fault::Failed, "the secret's version cannot be told"))
}

fn notes_of(health: &Healthcheck) -> Result<Vec<String>, ManagerError> {
    if health.healthy == Some(false) || health.database_healthy == Some(false) {
        let why = "it says of itself that it is not healthy";
        return Err(ManagerError::new(Fault::Unavailable, why));
    }
    let read_only = health.read_only_mode == Some(true);
    Ok(read_only
        .then(|| READ_ONLY.to_owned())
        .into_iter()
        .collect())
}

fn is_the_word(body: &[u8]) -> bool {
    let word = body.trim_ascii();
    word.eq_ignore_ascii_case(b"\"healthy\"") || word.eq_ignore_ascii_case(b"healthy")
}

fn one_line(what: &str, text: Option<&str>, max: usize) -> Result<(), String> {
    let fits = |text: &str| {
        let length = text.chars().count();
        !text.trim().is_empty() && length <= max && !text.chars().any(char::is_control)
    };
    match text {
        Some(text) if !fits(text) => Err(format!(
            "{what} is not one line of 1 to {max} characters: {text:?}"
        )),
        _ => Ok(()),
    }
}

/// How a date begins that stands for none.
const NEVER: &str = "0001-01-01";
const UNSEEN_EDITS: &str = "the hub's account may not see this secret's audit: a value that somebody \
                            edits by hand is not noticed, only one that the manager changes";
const OUT_OF_SYNC: &str =
    "the manager says that the account behind the secret is out of sync with it";
const READ_ONLY: &str = "it is in read-only mode: nothing can be checked out";
