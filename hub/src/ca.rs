//! The exchange of the certificate authority for a new one, in stages that the operator sees and decides:
//!
//! 1. **rotate** makes the new CA. Both are trusted, the old one still issues; every renewal and
//!    enrolment tells nodes of both.
//! 2. **switch**, when the nodes know it: the new one issues. Nodes that were away are served with the
//!    old one's certificate, as long as they say whom they trust, and get the new one's by renewing.
//! 3. **finish**, when no certificate of the old one is needed: it is trusted no more.
//!
//! Each stage is one file replaced ([`rotation`]), while no hub serves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge_secrets_protocol::OrgId;
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::app::{self, AppError, DATABASE_FILE};
use crate::backup::{BackupError, expect_owner};
use crate::catalog::Catalog;
use crate::catalog::records::{Actor, NewAudit};
use crate::catalog::sqlite::{Holder, KnownCertificate, SqliteCatalog};
use crate::clock;
use crate::config::Config;
use crate::disk;
use crate::init::{ADMIN_CERTIFICATE_FILE, ADMIN_KEY_FILE};
use crate::pki::identity::{ClientCertificate, Principal};
use crate::pki::rotation::{self, Rotation, Stage};
use crate::pki::{Pki, PkiError};

/// A step of the exchange.
#[derive(Debug, clap::Subcommand)]
pub enum Step {
    /// Make the new CA and let nodes hear of it. The hub must not serve meanwhile.
    Rotate(Where),
    /// How far the exchange has come, and who holds it up. The hub may serve.
    Status(Where),
    /// Let the new CA issue. The hub must not serve meanwhile.
    Switch(Forced),
    /// Trust the old CA no more. The hub must not serve meanwhile.
    Finish(Forced),
}

/// Which hub.
#[derive(Debug, clap::Args)]
pub struct Where {
    /// The configuration, `hub.yaml` in the data directory.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Which hub, and whether those who are left behind hold it up.
#[derive(Debug, clap::Args)]
pub struct Forced {
    /// Which hub.
    #[command(flatten)]
    pub place: Where,
    /// Do it although some would be left behind; they need new tokens, or a new user.
    #[arg(long)]
    pub force: bool,
}

/// Why a step was not done. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// It is not the next one.
    #[error("{0}")]
    Order(&'static str),
    /// Somebody would be left behind.
    #[error("{what}:\n{who}\nWait for them, or leave them behind with --force.")]
    Behind {
        /// What they lack.
        what: &'static str,
        /// One a line.
        who: String,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] BackupError),
}

impl From<PkiError> for CaError {
    fn from(error: PkiError) -> Self {
        Self::Data(error.into())
    }
}

impl From<AppError> for CaError {
    fn from(error: AppError) -> Self {
        Self::Data(error.into())
    }
}

/// Takes a step. Gives what to tell.
///
/// # Errors
/// See [`CaError`].
pub async fn take(step: &Step) -> Result<String, CaError> {
    match step {
        Step::Rotate(place) => Desk::open(&place.config).await?.rotate().await,
        Step::Status(place) => status(&place.config).await,
        Step::Switch(wanted) => {
            let desk = Desk::open(&wanted.place.config).await?;
            desk.switch(wanted.force).await
        }
        Step::Finish(wanted) => {
            let desk = Desk::open(&wanted.place.config).await?;
            desk.finish(wanted.force).await
        }
    }
}

/// Only reads: a hub may serve meanwhile, and its database is its own to bring up to date.
async fn status(config: &Path) -> Result<String, CaError> {
    let config = Config::load(config).map_err(BackupError::from)?;
    let dir = &config.data_dir;
    expect_owner(dir)?;
    let Some(rotation) = Rotation::load(dir)? else {
        return Ok("No exchange of the CA is under way.\n".into());
    };
    let known = SqliteCatalog::certificates_at(&dir.join(DATABASE_FILE)).await;
    let known = known.map_err(BackupError::from)?;
    let grace = config.node_certificates.renewal_grace;
    let standing = Standing::of(&rotation, &known, grace, clock::now());
    let since = rotation.since();
    let (said, lacking) = match rotation.stage() {
        Stage::Announced => (
            format!("The new CA was announced at {since}; the old one issues."),
            "have not heard of the new CA",
        ),
        Stage::Switched => (
            format!("The new CA issues since {since}; the old one is still trusted."),
            "have a certificate of the old CA alone",
        ),
        Stage::Finishing => return Ok("The exchange is done at the hub's next start.\n".into()),
    };
    let mut text = format!(
        "{said}\n{} of {} nodes are there; {} {lacking}.\n",
        standing.nodes_there,
        standing.nodes_there + standing.nodes.len(),
        standing.nodes.len(),
    );
    text.push_str(&lines(&standing.nodes));
    if rotation.stage() == Stage::Switched {
        text.push_str(&format!("{} users {lacking}.\n", standing.users.len()));
        text.push_str(&lines(&standing.users));
    }
    Ok(text)
}

/// A data directory that is worked on, by nobody else.
struct Desk {
    config: Config,
    catalog: SqliteCatalog,
    _locks: (fs::File, fs::File),
}

impl Desk {
    async fn open(config: &Path) -> Result<Self, CaError> {
        let config = Config::load(config).map_err(BackupError::from)?;
        let dir = &config.data_dir;
        expect_owner(dir)?;
        let locks = (app::serving(dir)?, app::alone(dir)?);
        rotation::settle(dir)?;
        let catalog = app::database(dir).await?;
        Ok(Self {
            config,
            catalog,
            _locks: locks,
        })
    }

    fn dir(&self) -> &Path {
        &self.config.data_dir
    }

    async fn certificates(&self) -> Result<Vec<KnownCertificate>, CaError> {
        let known = self.catalog.certificates().await;
        Ok(known.map_err(BackupError::from)?)
    }

    async fn rotate(self) -> Result<String, CaError> {
        if Rotation::load(self.dir())?.is_some() {
            return Err(CaError::Order(
                "an exchange is under way already: `ca status` says how far it has come",
            ));
        }
        let serials = serials(&self.certificates().await?);
        self.audit("rotate", "").await?;
        Rotation::begin(&self.config.trust_domain, clock::now(), serials)?.save(self.dir())?;
        self.catalog.close().await;
        Ok(
            "There is a new CA. Start the hub: it trusts both, and each node hears of the new one with \
             the next renewal of its certificate. `ca status` says who has not; then `ca switch`.\n"
                .into(),
        )
    }

    /// In every organisation's trail, before it is done: what is done and not told would be worse than what is
    /// told and was cut off.
    async fn audit(&self, step: &str, detail: &str) -> Result<(), CaError> {
        let orgs = self.catalog.orgs().await.map_err(BackupError::from)?;
        let records = orgs.into_iter().map(|org| NewAudit {
            object: "ca".into(),
            org,
            at: clock::now(),
            actor: Actor::Hub,
            action: format!("ca.{step}"),
            result: "ok".into(),
            detail: detail.into(),
            peer: String::new(),
        });
        let told = self.catalog.append_audit(records.collect()).await;
        Ok(told.map_err(BackupError::from)?)
    }

    async fn switch(self, force: bool) -> Result<String, CaError> {
        let rotation = match Rotation::load(self.dir())? {
            Some(rotation) if rotation.stage() == Stage::Announced => rotation,
            Some(_) => {
                return Err(CaError::Order(
                    "the new CA issues already: next is `ca finish`",
                ));
            }
            None => return Err(CaError::Order("there is no new CA: begin with `ca rotate`")),
        };
        let known = self.certificates().await?;
        let standing = self.standing(&rotation, &known);
        if !standing.nodes.is_empty() && !force {
            return Err(CaError::Behind {
                what: "These nodes have not heard of the new CA",
                who: lines(&standing.nodes),
            });
        }
        self.audit("switch", &left_behind(standing.nodes.len()))
            .await?;
        rotation
            .at(Stage::Switched, clock::now(), serials(&known))
            .save(self.dir())?;
        let mut text =
            "The new CA issues. Start the hub: nodes get its certificates with their next \
                        renewal. Tokens that were made before are void. `ca status` says who has a \
                        certificate of the old CA alone; then `ca finish`.\n"
                .to_owned();
        match self.admin().await {
            Ok(true) => text.push_str("admin.crt is a new one, of the new CA.\n"),
            Ok(false) => {}
            Err(error) => text.push_str(&format!("admin.crt could not be exchanged: {error}\n")),
        }
        self.catalog.close().await;
        Ok(text)
    }

    async fn finish(self, force: bool) -> Result<String, CaError> {
        let rotation = match Rotation::load(self.dir())? {
            Some(rotation) if rotation.stage() == Stage::Switched => rotation,
            Some(_) => {
                return Err(CaError::Order(
                    "the old CA issues still: next is `ca switch`",
                ));
            }
            None => return Err(CaError::Order("no exchange of the CA is under way")),
        };
        let known = self.certificates().await?;
        let standing = self.standing(&rotation, &known);
        let mut behind = standing.nodes;
        behind.extend(standing.users);
        if !behind.is_empty() && !force {
            return Err(CaError::Behind {
                what: "These have a certificate of the old CA alone",
                who: lines(&behind),
            });
        }
        self.audit("finish", &left_behind(behind.len())).await?;
        rotation
            .at(Stage::Finishing, clock::now(), BTreeSet::new())
            .save(self.dir())?;
        rotation::settle(self.dir())?;
        self.catalog.close().await;
        Ok("The old CA is trusted no more, and its key is gone. Start the hub, and make a backup: those \
            from before have the old key.\n"
            .into())
    }

    fn standing(&self, rotation: &Rotation, known: &[KnownCertificate]) -> Standing {
        let grace = self.config.node_certificates.renewal_grace;
        Standing::of(rotation, known, grace, clock::now())
    }

    /// Gives the administrator whose certificate lies in the data directory one of the new CA, over the
    /// same key.
    async fn admin(&self) -> Result<bool, CaError> {
        let (certificate, key) = (
            self.dir().join(ADMIN_CERTIFICATE_FILE),
            self.dir().join(ADMIN_KEY_FILE),
        );
        if !certificate.exists() || !key.exists() {
            return Ok(false);
        }
        let read = |path: &Path| {
            let text = fs::read_to_string(path).map(Zeroizing::new);
            text.map_err(|error| BackupError::file(path, error))
        };
        let malformed = |what| PkiError::Authority(format!("{what} is malformed"));
        let der = CertificateDer::from_pem_slice(read(&certificate)?.as_bytes())
            .map_err(|_| malformed(ADMIN_CERTIFICATE_FILE))?;
        let former = ClientCertificate::parse(&der, &self.config.trust_domain)
            .map_err(|_| malformed(ADMIN_CERTIFICATE_FILE))?;
        let Principal::User { org, user } = former.principal else {
            return Err(malformed(ADMIN_CERTIFICATE_FILE).into());
        };
        let key = KeyPair::from_pem(&read(&key)?).map_err(|_| malformed(ADMIN_KEY_FILE))?;
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .and_then(|csr| csr.pem())
            .map_err(PkiError::from)?;
        let pki = Pki::load(self.dir(), self.config.trust_domain.clone())?;
        let lifetime = self.config.user_certificates.lifetime;
        let issued = pki.issue_user(&csr, &org, &user, lifetime)?;
        self.catalog
            .add_user_certificate(&org, &user, &issued.record())
            .await
            .map_err(BackupError::from)?;
        let pem = issued.certificate_pem_chain.as_bytes();
        disk::replace(self.dir(), ADMIN_CERTIFICATE_FILE, pem)
            .map_err(|error| BackupError::file(&certificate, error))?;
        Ok(true)
    }
}

/// Who has a certificate from after a stage began, and who has not and could still come back.
#[derive(Debug, Default, PartialEq, Eq)]
struct Standing {
    nodes_there: usize,
    /// Those who have not, with the ends of their certificates.
    nodes: Vec<String>,
    users: Vec<String>,
}

impl Standing {
    fn of(
        rotation: &Rotation,
        known: &[KnownCertificate],
        grace: Duration,
        now: Timestamp,
    ) -> Self {
        let mut holders: BTreeMap<(Holder, &OrgId, &str), (bool, Timestamp)> = BTreeMap::new();
        for certificate in known {
            let holder = (certificate.holder, &certificate.org, &*certificate.name);
            let (there, end) = holders.entry(holder).or_insert((false, Timestamp::MIN));
            *there |= !rotation.is_from_before(&certificate.serial);
            *end = (*end).max(certificate.not_after);
        }
        let mut standing = Self::default();
        for ((holder, org, name), (there, end)) in holders {
            let last = match holder {
                Holder::Node => end.checked_add(grace).unwrap_or(Timestamp::MAX),
                Holder::User => end,
            };
            match (there, holder) {
                (true, Holder::Node) => standing.nodes_there += 1,
                (true, Holder::User) => {}
                // Nothing but a new token, or a new user, helps them in any case.
                (false, _) if last < now => {}
                (false, Holder::Node) => {
                    let line = format!("node {org}/{name}, certificate until {end}");
                    standing.nodes.push(line);
                }
                (false, Holder::User) => {
                    let line = format!("user {org}/{name}, certificate until {end}");
                    standing.users.push(line);
                }
            }
        }
        standing
    }
}

fn left_behind(count: usize) -> String {
    match count {
        0 => String::new(),
        count => format!("{count} left behind by --force"),
    }
}

fn serials(known: &[KnownCertificate]) -> BTreeSet<String> {
    known.iter().map(|known| known.serial.clone()).collect()
}

/// Indented, one a line; those that are too many are counted.
fn lines(who: &[String]) -> String {
    let mut text: String = who
        .iter()
        .take(SHOWN)
        .map(|line| format!("  {line}\n"))
        .collect();
    if who.len() > SHOWN {
        text.push_str(&format!("  and {} more\n", who.len() - SHOWN));
    }
    text
}

const SHOWN: usize = 50;

#[cfg(test)]
mod tests;
