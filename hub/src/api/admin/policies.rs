//! Deployment policies.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use edge_secrets_protocol::{Code, PolicyName, Problem, Source};
use serde::Deserialize;

use super::document::{self, DryRun};
use super::managed::{self, Bindable};
use super::session::{Params, Session};
use crate::api::problem::ApiError;
use crate::catalog::records::{Change, PolicyRecord};
use crate::clock;
use crate::deploy::model::Model;
use crate::deploy::plan;
use crate::hub::Hub;
use crate::policy::{DeploymentPolicy, PolicyCheck, check_policy, placed};
use crate::reference::SecretRef;
use crate::rights::{Call, SecretCall};
use crate::wire::{PolicyInfo, Published, paths};

pub(super) fn router() -> Router<Arc<Hub>> {
    Router::new()
        .route(paths::POLICIES, get(list))
        .route(paths::POLICY, get(show).put(publish).delete(remove))
}

async fn list(session: Session) -> Result<Json<Vec<PolicyInfo>>, ApiError> {
    session
        .require(Call::See, "policy.list", "policies")
        .await?;
    let hub = &session.hub;
    let model = hub.models.current(&*hub.catalog, &session.org).await?;
    let infos = tokio::task::spawn_blocking(move || infos(&model)).await;
    infos.map(Json).map_err(|error| ApiError::internal(&error))
}

/// Policies of an unreadable document have no service to show and are left out; `show` and `rm`
/// still reach them by name.
fn infos(model: &Model) -> Vec<PolicyInfo> {
    let counts = plan::node_counts(model);
    let info = |record: &Arc<PolicyRecord>| {
        let (_, policy) = model.policy(&record.name)?;
        Some(PolicyInfo {
            name: record.name.clone(),
            service: policy.service().clone(),
            nodes: counts
                .get(&Source::Policy(record.name.clone()))
                .copied()
                .unwrap_or(0),
            owner: record.owner.clone(),
            updated_at: record.updated_at,
        })
    };
    model.policies.values().filter_map(info).collect()
}

async fn show(session: Session) -> Result<Response, ApiError> {
    let name: PolicyName = session.param("policy")?;
    session
        .require(Call::See, "policy.show", object(&name))
        .await?;
    let hub = &session.hub;
    let model = hub.models.current(&*hub.catalog, &session.org).await?;
    let record = model.policies.get(&name).ok_or_else(|| absent(&name))?;
    Ok(document::stored(&record.document))
}

/// How a policy or a pattern is published.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Publishing {
    #[serde(default)]
    pub(super) dry_run: bool,
    /// Secrets that are not there yet may be bound, as Open Horizon lets them: each is a warning.
    #[serde(default)]
    pub(super) allow_missing: bool,
}

async fn publish(
    session: Session,
    Params(asked): Params<Publishing>,
    request: Request,
) -> Result<Json<Published>, ApiError> {
    let name: PolicyName = session.param("policy")?;
    let free = Call::Define { owner: None };
    session.require(free, PUBLISH, object(&name)).await?;
    let text = document::read(&session, request).await?;
    let policy = DeploymentPolicy::parse(&text)
        .map_err(|error| document::refused(&format!("policy \"{name}\""), &error))?;
    let bound = BoundSecrets::look(&session, &policy.references()).await?;
    let user = &session.peer.user;
    let check = |model: &Model| {
        expect_owner(&session, model, &name)?;
        let checked = check_policy(&policy, user, &model.definitions.services);
        let title = format!("policy \"{name}\"");
        let asked = Asked {
            text: &text,
            place_of: &|reference| policy.place_of(reference),
            allow_missing: asked.allow_missing,
        };
        bound.judge(&title, checked, &asked)
    };
    let change = Change::PutPolicy(PolicyRecord {
        name: name.clone(),
        owner: user.clone(),
        document: policy.to_json(),
        updated_at: clock::now(),
    });
    let audit = session.audit(PUBLISH, object(&name));
    let published = document::publish(&session, change, audit, asked.dry_run, &check).await?;
    Ok(Json(published))
}

async fn remove(
    session: Session,
    Params(DryRun { dry_run }): Params<DryRun>,
) -> Result<Json<Published>, ApiError> {
    let name: PolicyName = session.param("policy")?;
    let free = Call::Define { owner: None };
    session.require(free, REMOVE, object(&name)).await?;
    let check = |model: &Model| {
        expect_owner(&session, model, &name)?;
        if model.policies.contains_key(&name) {
            Ok(Vec::new())
        } else {
            Err(absent(&name).0)
        }
    };
    let change = Change::RemovePolicy(name.clone());
    let audit = session.audit(REMOVE, object(&name));
    let published = document::publish(&session, change, audit, dry_run, &check).await?;
    Ok(Json(published))
}

/// The secrets that a document binds, as far as the publisher may know.
pub(super) struct BoundSecrets {
    missing: Vec<Missing>,
    /// What is odd with others.
    odd: Vec<String>,
}

/// The document that is judged, as it came.
pub(super) struct Asked<'a> {
    pub(super) text: &'a str,
    /// The path to where it binds a secret.
    pub(super) place_of: &'a (dyn Fn(&SecretRef) -> Option<&'a str> + Send + Sync),
    /// Whether secrets may be missing.
    pub(super) allow_missing: bool,
}

/// A bound secret that is not there.
struct Missing {
    written: SecretRef,
    bindable: bool,
    fault: String,
}

impl BoundSecrets {
    /// Looks which are not there. For a binding with node-level secrets enabled it is the common one
    /// that must exist. What the publisher may not bind reads as what does not exist, and its manager
    /// is not asked.
    pub(super) async fn look(
        session: &Session,
        references: &[SecretRef],
    ) -> Result<Self, ApiError> {
        let (mut missing, mut odd) = (Vec::new(), Vec::new());
        for written in references {
            let reference = session.resolved(written);
            let bindable = session.may(Call::Secret(SecretCall::Bind, &reference));
            match standing(session, &reference, bindable).await? {
                Bindable::Yes => {}
                Bindable::But(warning) => odd.push(warning),
                Bindable::No(fault) => missing.push(Missing {
                    written: written.clone(),
                    bindable,
                    fault,
                }),
            }
        }
        Ok(Self { missing, odd })
    }

    /// All of it, where nothing of it is refused.
    pub(super) fn into_warnings(self) -> Vec<String> {
        let missing = self.missing.into_iter().map(|missing| missing.fault);
        missing.chain(self.odd).collect()
    }

    /// The warnings of a document that may be published; else its refusal, with every fault and, as far
    /// as it has one, its place.
    pub(super) fn judge(
        &self,
        title: &str,
        mut checked: PolicyCheck,
        asked: &Asked<'_>,
    ) -> Result<Vec<String>, Problem> {
        // Another user's private secret is refused as such already: once is enough, and the words
        // are the same whether it exists or not.
        let refused_already = !checked.faults.is_empty();
        for missing in &self.missing {
            let fault = match (asked.place_of)(&missing.written) {
                Some(place) => format!("{place}: {}", missing.fault),
                None => missing.fault.clone(),
            };
            match missing.bindable {
                true if asked.allow_missing || checked.optional.contains(&missing.written) => {
                    checked.warnings.push(fault);
                }
                true => checked.faults.push(fault),
                false if refused_already => {}
                false => checked.faults.push(fault),
            }
        }
        if checked.faults.is_empty() {
            checked.warnings.extend(self.odd.iter().cloned());
            return Ok(checked.warnings);
        }
        let faults = placed(asked.text, &checked.faults).join("; ");
        let detail = format!("{title} is refused: {faults}");
        Err(Problem::new(Code::Invalid, detail))
    }
}

async fn standing(
    session: &Session,
    reference: &SecretRef,
    bindable: bool,
) -> Result<Bindable, ApiError> {
    let absent = || Bindable::No(format!("secret \"{}\" does not exist", reference.secret()));
    let manager = match session.hub.managers.of(reference) {
        Ok(manager) => manager,
        Err(error) => return Ok(Bindable::No(format!("secret \"{reference}\": {error}"))),
    };
    if !bindable {
        return Ok(absent());
    }
    let Some(manager) = manager else {
        let catalog = &session.hub.catalog;
        let record = catalog.secret(&session.org, &reference.secret()).await?;
        return Ok(record.map_or_else(absent, |_| Bindable::Yes));
    };
    Ok(managed::bindable(manager, &session.org, reference).await)
}

/// Denied unless the caller may put something in this policy's place.
fn expect_owner(session: &Session, model: &Model, name: &PolicyName) -> Result<(), Problem> {
    let owner = model.policies.get(name).map(|record| &record.owner);
    if session.may(Call::Define { owner }) {
        Ok(())
    } else {
        Err(Problem::new(
            Code::Denied,
            "Another user published this policy.",
        ))
    }
}

pub(super) fn absent(name: &PolicyName) -> ApiError {
    let detail = format!("There is no policy \"{name}\".");
    ApiError::new(Code::NotFound, detail)
}

pub(super) fn object(name: &PolicyName) -> String {
    format!("policy/{name}")
}

const PUBLISH: &str = "policy.publish";
const REMOVE: &str = "policy.remove";
