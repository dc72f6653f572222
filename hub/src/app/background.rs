//! What a hub does by itself while it serves.

use std::sync::Arc;
use std::time::Duration;

use edge_secrets_protocol::OrgId;
use jiff::SignedDuration;
use tokio::time::sleep;
use tracing::{error, info};

use crate::catalog::CatalogError;
use crate::catalog::records::{Actor, Change, MAX_EXPIRING, NewAudit};
use crate::clock::{self, Setback};
use crate::deploy;
use crate::hub::Hub;
use crate::lease::{Desk, Parts};
use crate::managers::ManagerName;
use crate::observe;

/// Watches managers, keeps leases, announces the ends of secrets, and lets nodes follow the patterns of
/// other organisations, until it is dropped.
pub(super) async fn run(hub: Arc<Hub>, desk: Desk) {
    let parts = Parts {
        catalog: Arc::clone(&hub.catalog),
        registry: hub.managers.clone(),
        feed: hub.feed.clone(),
    };
    tokio::join!(
        settle_defaults(&hub),
        watch(&hub),
        hub.leases.keep(desk, parts),
        expire(&hub),
        forget_leases(&hub),
        deploy::follow::follow(&hub)
    );
}

/// Forgets leases that have been dead for long: the audit trail still knows them.
async fn forget_leases(hub: &Hub) {
    loop {
        let before = clock::now() - KEPT;
        match hub.catalog.forget_ended_leases(before).await {
            Ok(0) => {}
            Ok(leases) => info!(leases, "Leases that ended long ago are forgotten."),
            Err(error) => error!(%error, "Leases that ended long ago cannot be forgotten."),
        }
        sleep(HOUR).await;
    }
}

/// Watches managers, and begins anew should that ever end.
async fn watch(hub: &Hub) {
    loop {
        let (catalog, hints) = (Arc::clone(&hub.catalog), hub.hints.clone());
        observe::observe(catalog, hub.managers.clone(), hints).await;
        if hub.catalog.bell().has_changed().is_err() {
            return;
        }
        sleep(RETRY).await;
    }
}

/// Brings what references without a manager mean to what the configuration says. Bindings that mean
/// another manager than before are placed anew.
async fn settle_defaults(hub: &Hub) {
    loop {
        match try_settle_defaults(hub).await {
            Ok(()) => return,
            Err(error) => {
                error!(%error, "The default secrets managers are not settled; trying again.");
                sleep(RETRY).await;
            }
        }
    }
}

async fn try_settle_defaults(hub: &Hub) -> Result<(), CatalogError> {
    let orgs = hub.catalog.orgs().await?;
    let managers = &hub.config.managers;
    for unknown in managers.defaults.keys().filter(|org| !orgs.contains(org)) {
        error!(org = %unknown, "`default_managers` names an organisation that is not there.");
    }
    let mut first_error = None;
    for org in orgs {
        // One organisation's trouble is not the others'.
        if let Err(error) = settle_default(hub, &org).await {
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}

async fn settle_default(hub: &Hub, org: &OrgId) -> Result<(), CatalogError> {
    let wanted = hub.config.managers.default_of(org);
    let model = hub.models.current(&*hub.catalog, org).await?;
    if model.definitions.default_manager.as_ref() == wanted {
        return Ok(());
    }
    let change = Change::SetDefaultManager(wanted.cloned());
    let committed = deploy::apply(hub, org, change, default_changed(org, wanted)).await?;
    let nodes = committed.touched.len();
    info!(%org, manager = wanted.map_or("embedded", ManagerName::as_str), nodes,
        "References without a secrets manager mean this one now.");
    Ok(())
}

fn default_changed(org: &OrgId, wanted: Option<&ManagerName>) -> NewAudit {
    NewAudit {
        org: org.clone(),
        at: clock::now(),
        actor: Actor::Hub,
        action: "manager.default".into(),
        object: format!("org/{org}"),
        result: "ok".into(),
        detail: wanted.map_or("embedded", ManagerName::as_str).into(),
        peer: "-".into(),
    }
}

/// Tells nodes of secrets that have ended, when they end. Nodes end what they have by their own
/// clocks: a late announcement delays what is said of it alone.
async fn expire(hub: &Hub) {
    let mut bell = hub.catalog.bell();
    let mut setback = Setback::watch();
    // A former life's clock may have been ahead.
    let mut doubted = true;
    loop {
        doubted |= setback.look().is_some();
        if doubted {
            doubted = revive(hub).await;
        }
        let wait = match hub.catalog.expire_secrets(clock::now()).await {
            Ok(expiry) => {
                for ended in &expiry.ended {
                    info!(org = %ended.org, secret = %ended.reference, "A secret has ended.");
                    hub.models.audited(&ended.org);
                }
                expiry.next.map_or(IDLE, |next| {
                    Duration::try_from(next.duration_since(clock::now())).unwrap_or_default()
                })
            }
            Err(error) => {
                error!(%error, "The ends of secrets cannot be announced; trying again.");
                RETRY
            }
        };
        tokio::select! {
            () = sleep(wait.min(IDLE)) => {}
            // An end may have been set that comes before the one that is waited for.
            rung = bell.changed() => if rung.is_err() {
                return;
            },
        }
    }
}

/// Takes back what a clock that was ahead has announced. Says whether there may be more.
async fn revive(hub: &Hub) -> bool {
    match hub.catalog.revive_secrets(clock::now()).await {
        Ok(revived) => {
            for secret in &revived {
                info!(org = %secret.org, secret = %secret.reference,
                    "A secret has not ended: the clock was set back.");
                hub.models.audited(&secret.org);
            }
            revived.len() >= MAX_EXPIRING
        }
        Err(error) => {
            error!(%error, "Ends that a wrong clock has announced cannot be taken back; trying again.");
            true
        }
    }
}

const RETRY: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3_600);
/// For how long ended leases are listed.
const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);
