//! `check`: whether the agent could do its work here. Changes nothing.

use std::io::ErrorKind;
use std::path::Path;

use jiff::Timestamp;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};

use super::{Exit, Failure, say};
use crate::app;
use crate::config::{Config, Mount};
use crate::hub::Connection;
use crate::identity::{NodeIdentity, Store};
use crate::local_api::{self, ClientError};

/// What one check found: something good to know, or a failure.
type Found = Result<String, Failure>;

pub(super) async fn run(path: &Path) -> Result<(), Failure> {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            let found = Err(error.into());
            return Report::default().add("configuration", found)?.end();
        }
    };
    let mut report = Report::default()
        .add("configuration", Ok(path.display().to_string()))?
        .add("facts", facts(&config))?
        .add("runtime directory", runtime(&config))?;
    let identity = NodeIdentity::load(&Store::new(&config.state_dir));
    let identity = match identity {
        Ok(Some(identity)) => identity,
        Ok(None) => {
            let why = "this node is not enrolled: edge-secrets-agent enroll --token -";
            return report
                .add("identity", Err(Failure::new(Exit::Usage, why)))?
                .end();
        }
        Err(error) => {
            return report
                .add("identity", Err(Failure::new(Exit::Usage, error)))?
                .end();
        }
    };
    report = report.add("identity", valid(&config, &identity))?;
    let hub = hub(&config, &identity).await;
    report = report.add("hub", hub)?;
    let agent = match local_api::status(&config.socket()).await {
        Ok(status) => Ok(format!("runs, version {}", status.agent_version)),
        Err(ClientError::NotRunning(_)) => Ok("does not run".into()),
        Err(error) => Err(error.into()),
    };
    report.add("agent", agent)?.end()
}

fn facts(config: &Config) -> Found {
    let facts = app::gather_facts(config, Vec::new())?;
    let policy = if facts.policy.is_some() {
        ", with a node policy"
    } else {
        ""
    };
    let (own, measured) = (facts.properties.len(), facts.built_in.len());
    Ok(format!("{own} properties, {measured} measured{policy}"))
}

fn runtime(config: &Config) -> Found {
    let dir = &config.runtime_dir;
    let unfit = |why: &str| Failure::new(Exit::Usage, format_args!("{} {why}", dir.display()));
    let kind = match statfs(dir) {
        Ok(found) => found.filesystem_type(),
        Err(errno) if std::io::Error::from(errno).kind() == ErrorKind::NotFound => {
            return Ok(format!("{} is made when the agent starts", dir.display()));
        }
        Err(errno) => return Err(unfit(&format!("cannot be looked at: {errno}"))),
    };
    match (kind, config.tmpfs.mount) {
        (TMPFS_MAGIC, _) => Ok(format!("{} is tmpfs", dir.display())),
        (RAMFS_MAGIC, _) => Ok(format!("{} is ramfs", dir.display())),
        (_, Mount::Auto) if nix::unistd::geteuid().is_root() => Ok(format!(
            "{} gets a tmpfs when the agent starts",
            dir.display()
        )),
        _ => Err(unfit(
            "is not tmpfs: mount one there, run as root with tmpfs.mount: auto, or name one under \
             XDG_RUNTIME_DIR or /dev/shm",
        )),
    }
}

fn valid(config: &Config, identity: &NodeIdentity) -> Found {
    identity
        .check_configured(&config.node)
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let (now, validity) = (Timestamp::now(), identity.validity);
    if now < validity.not_before {
        let from = validity.not_before;
        let why = format!(
            "the certificate starts at {from} and this machine's clock says {now}: the clock is \
             behind; set it right"
        );
        return Err(Failure::new(Exit::Other, why));
    }
    if now > validity.not_after {
        let until = validity.not_after;
        let why = format!(
            "the certificate ended at {until}: the hub may still renew it when the agent runs; \
             else enrol again"
        );
        return Err(Failure::new(Exit::Other, why));
    }
    let (org, node, until) = (&identity.org, &identity.node, validity.not_after);
    Ok(format!("{org}/{node} until {until}"))
}

async fn hub(config: &Config, identity: &NodeIdentity) -> Found {
    let call = async {
        let connection = Connection::open(&config.hub.url, identity.tls.clone()).await?;
        connection.bindings(None).await
    };
    match call.await {
        Ok(_) => Ok(format!("{} answers", config.hub.url)),
        Err(error) if error.code().is_some() || error.refuses_identity() => {
            Err(Failure::new(Exit::Denied, error))
        }
        Err(error) => Err(Failure::new(Exit::Unavailable, error)),
    }
}

/// Prints as it goes, and keeps the first failure's exit code.
#[derive(Default)]
struct Report {
    first: Option<Exit>,
}

impl Report {
    fn add(mut self, what: &str, found: Found) -> Result<Self, Failure> {
        match found {
            Ok(good) => say(format_args!("ok      {what}: {good}"))?,
            Err(failure) => {
                say(format_args!("FAILED  {what}: {}", failure.message))?;
                self.first.get_or_insert(failure.exit);
            }
        }
        Ok(self)
    }

    fn end(self) -> Result<(), Failure> {
        match self.first {
            None => Ok(()),
            Some(exit) => Err(Failure::new(
                exit,
                "the agent cannot do its work here; see above",
            )),
        }
    }
}

/// `RAMFS_MAGIC` of linux/magic.h.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
