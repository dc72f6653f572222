//! From a change of definitions or nodes to committed placements.
//!
//! Placement is computed here, from a parsed snapshot, and committed only if the organisation is
//! still at the snapshot's revision: several hubs over one catalog stay correct without a lock. In
//! one process the changes of an organisation take turns, so that they do not compute in vain.
//!
//! A node may be on another organisation's public pattern. What that publishes is part of what its
//! placement was computed from, and is compared at the commit like the organisation's own revision.

pub mod difference;
pub mod follow;
pub mod model;
pub mod plan;
mod rivals;
pub mod shelf;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use edge_secrets_protocol::limits::{MAX_DEPLOYMENTS, MAX_NODE_SECRETS};
use edge_secrets_protocol::{Code, OrgId, Problem};
use tokio::sync::watch;

use crate::catalog::records::{Change, Committed, NewAudit, NodePlacement};
use crate::catalog::{Catalog, CatalogError};
use crate::clock;
use crate::hub::Hub;
use crate::policy::fits_one_node;
use crate::wire::DeploymentChange;
use model::Model;
use plan::{Plan, plan};
use shelf::Shelf;

/// Parsed definitions by organisation and revision, so that a change does not parse the rest again.
/// Nothing that matters lives here alone: it is rebuilt from the catalog whenever it is behind.
#[derive(Default)]
pub struct Models {
    orgs: Mutex<HashMap<OrgId, Arc<Slot>>>,
    /// What organisations publish for others, where they publish something and it was asked for.
    shelves: Mutex<HashMap<OrgId, Arc<Shelf>>>,
}

/// What a change does, or would do.
#[derive(Debug)]
pub struct Preview {
    /// Every deployment that comes, goes or changes, by node.
    pub changes: Vec<DeploymentChange>,
    /// How many nodes keep what they have.
    pub untouched_nodes: usize,
    /// What is odd, but allowed: what the check gave, and which other policies want the same.
    pub warnings: Vec<String>,
}

/// Why a change is not made.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The check refused it.
    #[error(transparent)]
    Refused(#[from] Problem),
    /// The catalog did not do it.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Looks at the state that a change is about to meet and refuses it, or lets it pass with warnings.
pub type Check<'a> = dyn Fn(&Model) -> Result<Vec<String>, Problem> + Send + Sync + 'a;

/// Works out what `change` does to the organisation's nodes and commits both, taking a new snapshot
/// and trying again when another change came between.
///
/// Facts that this process placed already, said again, change nothing and are not written.
///
/// # Errors
/// Those of the catalog; `Conflict` when other changes came between [`ATTEMPTS`] times.
pub async fn apply(
    hub: &Hub,
    org: &OrgId,
    change: Change,
    audit: NewAudit,
) -> Result<Committed, CatalogError> {
    apply_to(&*hub.catalog, &hub.models, org, change, audit).await
}

/// Like [`apply`] for a change that `check` may still refuse, having seen exactly the state that it
/// meets.
///
/// # Errors
/// What `check` refused with, or those of [`apply`].
pub async fn apply_checked(
    hub: &Hub,
    org: &OrgId,
    change: Change,
    audit: NewAudit,
    check: &Check<'_>,
) -> Result<Committed, DeployError> {
    apply_checked_to(&*hub.catalog, &hub.models, org, change, audit, check).await
}

/// The same, and says what the change does.
///
/// # Errors
/// What `check` refused with, or those of [`apply`].
pub async fn publish(
    hub: &Hub,
    org: &OrgId,
    change: Change,
    audit: NewAudit,
    check: &Check<'_>,
) -> Result<(Preview, Committed), DeployError> {
    let slot = hub.models.slot(org);
    let _turn = slot.turn.lock().await;
    let parts = Parts {
        catalog: &*hub.catalog,
        models: &hub.models,
        slot: &slot,
    };
    commit(&parts, org, &Arc::new(change), &audit, check).await
}

/// What `change` would do now. Nothing is written.
///
/// # Errors
/// What `check` refused with, or that the catalog failed.
pub async fn preview(
    hub: &Hub,
    org: &OrgId,
    change: Change,
    check: &Check<'_>,
) -> Result<Preview, DeployError> {
    let model = hub
        .models
        .current_with(&*hub.catalog, org, publisher_in(&change, org))
        .await?;
    let warnings = check(&model)?;
    let change = Arc::new(change);
    let plan = compute(&model, &change).await?;
    within_bounds(&change, &plan.placements)?;
    Ok(Preview::new(plan, warnings))
}

/// [`apply`] over the parts that it needs.
///
/// # Errors
/// As [`apply`].
pub async fn apply_to(
    catalog: &dyn Catalog,
    models: &Models,
    org: &OrgId,
    change: Change,
    audit: NewAudit,
) -> Result<Committed, CatalogError> {
    let applied = apply_checked_to(catalog, models, org, change, audit, UNCHECKED).await;
    applied.map_err(in_catalog)
}

async fn apply_checked_to(
    catalog: &dyn Catalog,
    models: &Models,
    org: &OrgId,
    change: Change,
    audit: NewAudit,
    check: &Check<'_>,
) -> Result<Committed, DeployError> {
    let slot = models.slot(org);
    let _turn = slot.turn.lock().await;
    let parts = Parts {
        catalog,
        models,
        slot: &slot,
    };
    let applied = apply_in_turn(&parts, org, change, audit, check).await;
    if matches!(
        applied,
        Err(DeployError::Catalog(CatalogError::NotFound(_)))
    ) {
        // Perhaps the organisation itself: a stranger's enrolment may name any.
        models.forget_unknown(org);
    }
    applied
}

/// What a change is made with, in its turn.
struct Parts<'a> {
    catalog: &'a dyn Catalog,
    models: &'a Models,
    slot: &'a Slot,
}

impl Parts<'_> {
    async fn current(
        &self,
        org: &OrgId,
        publisher: Option<&OrgId>,
    ) -> Result<Arc<Model>, CatalogError> {
        let Self {
            catalog,
            models,
            slot,
        } = *self;
        models.current_in(catalog, slot, org, publisher).await
    }
}

async fn apply_in_turn(
    parts: &Parts<'_>,
    org: &OrgId,
    change: Change,
    audit: NewAudit,
    check: &Check<'_>,
) -> Result<Committed, DeployError> {
    if let Change::PutFacts { node, facts } = &change {
        let model = parts.current(org, None).await?;
        if model.is_settled(node, facts) {
            return Ok(Committed {
                revision: model.revision,
                touched: Vec::new(),
                at: clock::now(),
            });
        }
    }
    let change = Arc::new(change);
    let (_, committed) = commit(parts, org, &change, &audit, check).await?;
    Ok(committed)
}

impl Models {
    /// The organisation as it is now, parsed.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn current(
        &self,
        catalog: &dyn Catalog,
        org: &OrgId,
    ) -> Result<Arc<Model>, CatalogError> {
        self.current_with(catalog, org, None).await
    }

    /// The same, with what `publisher` publishes for others, whether nodes are on its patterns or not.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn current_with(
        &self,
        catalog: &dyn Catalog,
        org: &OrgId,
        publisher: Option<&OrgId>,
    ) -> Result<Arc<Model>, CatalogError> {
        let publisher = publisher.filter(|publisher| *publisher != org);
        self.current_in(catalog, &self.slot(org), org, publisher)
            .await
    }

    async fn current_in(
        &self,
        catalog: &dyn Catalog,
        slot: &Slot,
        org: &OrgId,
        publisher: Option<&OrgId>,
    ) -> Result<Arc<Model>, CatalogError> {
        let mut model = slot.current(catalog, org).await?;
        let mut shelves = BTreeMap::new();
        let mut same = true;
        // Whatever a placement may be computed from must be as new as the commit wants it.
        let mut publishers = model.publishers.clone();
        publishers.extend(model.shelves.keys().chain(publisher).cloned());
        for publisher in &publishers {
            let known = model.shelves.get(publisher);
            let shelf = self.shelf(catalog, publisher, known).await?;
            same &= known.is_some_and(|known| Arc::ptr_eq(known, &shelf));
            shelves.insert(publisher.clone(), shelf);
        }
        if !same {
            let for_nodes = publisher.is_none_or(|one| model.publishers.contains(one));
            Arc::make_mut(&mut model).meet(shelves);
            // What is only asked about is not kept: anybody may ask about any organisation.
            if for_nodes {
                slot.offer(Arc::clone(&model));
            }
        }
        Ok(model)
    }

    /// What an organisation publishes for others, as it is now; `known` where it still is.
    async fn shelf(
        &self,
        catalog: &dyn Catalog,
        publisher: &OrgId,
        known: Option<&Arc<Shelf>>,
    ) -> Result<Arc<Shelf>, CatalogError> {
        let published = catalog.published(publisher).await?;
        if let Some(known) = known.filter(|known| known.published == published) {
            return Ok(Arc::clone(known));
        }
        let earlier = {
            let shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
            shelves.get(publisher).cloned()
        };
        // One that is ahead was read after the count was.
        if let Some(shelf) = earlier.as_ref().filter(|one| one.published >= published) {
            return Ok(Arc::clone(shelf));
        }
        let snapshot = catalog.public(publisher).await?;
        let shelf = Arc::new(Shelf::load(publisher, snapshot, earlier.as_deref()));
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = shelves.get(publisher);
        if kept.is_none_or(|kept| kept.published <= shelf.published) {
            match shelf.is_empty() {
                true => shelves.remove(publisher),
                false => shelves.insert(publisher.clone(), Arc::clone(&shelf)),
            };
        }
        Ok(shelf)
    }

    /// Waits for the turn to change something of the organisation that must not change twice at
    /// once in this process. The turn ends when the guard is dropped.
    pub async fn turn(&self, org: &OrgId) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = Arc::clone(&self.slot(org).turn);
        turn.lock_owned().await
    }

    /// Says that this process has audited something of the organisation. Who waits for audit
    /// records is woken also by what touches no node, and so rings no bell of the feed.
    pub fn audited(&self, org: &OrgId) {
        self.slot(org).audited.send_modify(|count| *count += 1);
    }

    /// Rings whenever [`audited`](Self::audited) is called.
    #[must_use]
    pub fn audit_bell(&self, org: &OrgId) -> watch::Receiver<u64> {
        self.slot(org).audited.subscribe()
    }

    /// Keeps nothing of an organisation that the catalog never gave anything of.
    fn forget_unknown(&self, org: &OrgId) {
        let mut orgs = self.orgs.lock().unwrap_or_else(PoisonError::into_inner);
        if orgs.get(org).is_some_and(|slot| slot.cached().is_none()) {
            orgs.remove(org);
        }
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        let orgs = self.orgs.lock().unwrap_or_else(PoisonError::into_inner);
        orgs.is_empty()
    }

    fn slot(&self, org: &OrgId) -> Arc<Slot> {
        let mut orgs = self.orgs.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(orgs.entry(org.clone()).or_default())
    }
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Models(..)")
    }
}

impl Preview {
    fn new(plan: Plan, mut warnings: Vec<String>) -> Self {
        warnings.extend(plan.rivals);
        Self {
            changes: plan.changes,
            untouched_nodes: plan.untouched,
            warnings,
        }
    }
}

#[derive(Default)]
struct Slot {
    turn: Arc<tokio::sync::Mutex<()>>,
    model: Mutex<Option<Arc<Model>>>,
    audited: watch::Sender<u64>,
}

impl Slot {
    async fn current(
        &self,
        catalog: &dyn Catalog,
        org: &OrgId,
    ) -> Result<Arc<Model>, CatalogError> {
        let revision = catalog.revision(org).await?;
        let cached = self.cached();
        // A cached model that is ahead was committed after the revision was read.
        if let Some(cached) = cached.filter(|cached| cached.revision >= revision) {
            return Ok(cached);
        }
        let snapshot = catalog.snapshot(org).await?;
        let earlier = self.cached();
        let model = Arc::new(Model::load(org, snapshot, earlier.as_deref()));
        drop(earlier);
        self.offer(Arc::clone(&model));
        Ok(model)
    }

    /// Keeps the model unless a newer one is kept.
    fn offer(&self, model: Arc<Model>) {
        let mut kept = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        if kept
            .as_ref()
            .is_none_or(|kept| kept.revision <= model.revision)
        {
            *kept = Some(model);
        }
    }

    fn cached(&self) -> Option<Arc<Model>> {
        let kept = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clone()
    }

    /// Takes the model out, to be changed in place when nobody else looks at it.
    fn take(&self) {
        let mut kept = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = None;
    }
}

async fn commit(
    parts: &Parts<'_>,
    org: &OrgId,
    change: &Arc<Change>,
    audit: &NewAudit,
    check: &Check<'_>,
) -> Result<(Preview, Committed), DeployError> {
    let (catalog, slot) = (parts.catalog, parts.slot);
    let publisher = publisher_in(change, org);
    for _ in 0..ATTEMPTS {
        let mut model = parts.current(org, publisher).await?;
        let warnings = check(&model)?;
        let mut plan = compute(&model, change).await?;
        let placements = std::mem::take(&mut plan.placements);
        within_bounds(change, &placements)?;
        let basis = model.basis(change, plan.node.as_ref().map(|(_, node)| node));
        let result = catalog
            .commit(org, basis, (**change).clone(), placements, audit.clone())
            .await;
        let committed = match result {
            Ok(committed) => committed,
            Err(CatalogError::Conflict) => continue,
            Err(error) => return Err(error.into()),
        };
        slot.take();
        Arc::make_mut(&mut model).advance(
            change,
            Arc::clone(&plan.definitions),
            plan.node.take(),
            committed.revision,
        );
        slot.offer(model);
        return Ok((Preview::new(plan, warnings), committed));
    }
    Err(CatalogError::Conflict.into())
}

/// The other organisation whose public documents a change is about.
fn publisher_in<'a>(change: &'a Change, org: &OrgId) -> Option<&'a OrgId> {
    let publisher = match change {
        Change::Enrol(enrolment) => enrolment.belongs.pattern.as_ref().map(|id| &id.org),
        Change::SetPattern { pattern, .. } => pattern.as_ref().map(|id| &id.org),
        Change::Follow(publisher) => Some(publisher),
        _ => None,
    };
    publisher.filter(|publisher| *publisher != org)
}

/// An answer above its bounds is refused by the agent whole: a definition that would make one must not
/// come between a node and the rest of what it should have.
fn within_bounds(change: &Change, placements: &[NodePlacement]) -> Result<(), Problem> {
    if !matches!(
        change,
        Change::PutService(_) | Change::PutPolicy(_) | Change::PutPattern(_)
    ) {
        return Ok(());
    }
    for NodePlacement { node, deployments } in placements {
        if !fits_one_node(deployments) {
            let detail = format!(
                "Node {node} would have more than {MAX_DEPLOYMENTS} deployments, or more than \
                 {MAX_NODE_SECRETS} secrets and readers of them: constrain the policy to fewer nodes."
            );
            return Err(Problem::new(Code::Invalid, detail));
        }
    }
    Ok(())
}

/// Off the runtime's threads: a large organisation takes longer than a task may hold one.
async fn compute(model: &Arc<Model>, change: &Arc<Change>) -> Result<Plan, CatalogError> {
    let (model, change) = (Arc::clone(model), Arc::clone(change));
    tokio::task::spawn_blocking(move || plan(&model, &change))
        .await
        .map_err(|error| CatalogError::Storage(format!("placement broke off: {error}")))
}

/// What is left of the errors where nothing was checked.
fn in_catalog(error: DeployError) -> CatalogError {
    match error {
        DeployError::Catalog(error) => error,
        DeployError::Refused(problem) => CatalogError::Storage(problem.detail),
    }
}

const UNCHECKED: &Check<'static> = &|_| Ok(Vec::new());

/// How often a change is computed anew before it gives up.
pub const ATTEMPTS: usize = 16;

#[cfg(test)]
mod tests;
