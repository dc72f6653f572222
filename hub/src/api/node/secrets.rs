//! `POST /v1/secrets`: a batch of values, each authorised anew, sealed to the node, and written to
//! the audit trail before anything is answered.

mod sealing;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::{Extension, Json as Answer};
use edge_secrets_protocol::binding::{
    FetchItem, FetchRequest, FetchResponse, FetchResult, SecretState,
};
use edge_secrets_protocol::limits::{MAX_BATCH_BYTES, MAX_BATCH_ITEMS};
use edge_secrets_protocol::{Code, Problem, Secret, SecretVersion};
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::{OK, audited};
use crate::api::body::Json;
use crate::api::exchange::Exchange;
use crate::api::peer::{NodePeer, revoked};
use crate::api::problem::ApiError;
use crate::catalog::records::{Bound, LeaseId, NewAudit};
use crate::catalog::resolve::state_of;
use crate::hub::Hub;
use crate::managers::{Fault, ManagerError, SecretManager, Target, payload};
use crate::reference::SecretRef;
use sealing::{Sealer, wire_estimate};

/// One answer per item, in the items' order.
pub(super) async fn call(
    State(hub): State<Arc<Hub>>,
    peer: NodePeer,
    exchange: Option<Extension<Exchange>>,
    Json(request): Json<FetchRequest>,
) -> Result<([(HeaderName, HeaderValue); 1], Answer<FetchResponse>), ApiError> {
    let items = request.items;
    if items.len() > MAX_BATCH_ITEMS {
        return Err(ApiError::new(
            Code::TooLarge,
            format!("The batch has more than {MAX_BATCH_ITEMS} items; ask in parts."),
        ));
    }
    let bound = hub.catalog.bound(&peer.org, &peer.node, &items).await?;
    let Some((sealing_key, bound)) = bound else {
        return Err(revoked(&peer.node));
    };
    if bound.len() != items.len() {
        let error = std::io::Error::other("the catalog left items of a batch unanswered");
        return Err(ApiError::internal(&error));
    }
    let Extension(exchange) = exchange.unwrap_or_default();
    let sealer = exchange
        .sealer(&sealing_key)
        .map_err(|error| ApiError::internal(&error))?;
    let mut batch = Batch::new(&peer, Sealer::new(&peer, sealer));
    // Some at a time, so that a slow manager holds up its own secrets alone and not many values are in
    // memory at once.
    let latest = Instant::now() + BATCH_PATIENCE;
    let judged = items.into_iter().zip(bound).map(|(item, bound)| {
        let (hub, peer) = (&hub, &peer);
        async move {
            let verdict = judge(hub, peer, &item, bound, latest).await;
            (item, verdict)
        }
    });
    let mut judged = std::pin::pin!(stream::iter(judged).buffered(AT_ONCE));
    while let Some((item, verdict)) = judged.next().await {
        batch.add(item, verdict).await?;
    }
    let (results, records) = batch.finish().await?;
    let refused = records.iter().filter(|record| record.result != OK).count();
    // No value leaves before it is written down, durably, that it does.
    hub.catalog.append_audit(records).await?;
    info!(org = %peer.org, node = %peer.node, items = results.len(), refused, "Secrets fetched.");
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((no_store, Answer(FetchResponse { items: results })))
}

/// An answer that grows item by item.
struct Batch<'a> {
    peer: &'a NodePeer,
    sealer: Sealer,
    bytes: usize,
    records: Vec<NewAudit>,
}

/// What the hub makes of one item.
enum Verdict {
    /// It may have this value.
    Granted(SecretRef, Arc<Secret>),
    /// It may not, or cannot now. The caller's problem, what people read in the trail, and the
    /// reference where one is known.
    Refused(Problem, String, Option<SecretRef>),
}

impl<'a> Batch<'a> {
    fn new(peer: &'a NodePeer, sealer: Sealer) -> Self {
        Self {
            peer,
            sealer,
            bytes: 0,
            records: Vec::new(),
        }
    }

    async fn add(&mut self, item: FetchItem, verdict: Verdict) -> Result<(), ApiError> {
        if self.bytes >= MAX_BATCH_BYTES {
            self.put_off();
            return Ok(());
        }
        match verdict {
            Verdict::Granted(_, value) if self.is_full_with(&value) => {
                self.bytes = MAX_BATCH_BYTES;
                self.put_off();
            }
            Verdict::Granted(reference, value) => {
                self.bytes += wire_estimate(&value);
                self.record(&item, Some(&reference), OK.into(), String::new());
                self.sealer.seal(item, value).await?;
            }
            Verdict::Refused(problem, reason, reference) => {
                if problem.code == Code::Denied {
                    let (org, node) = (&self.peer.org, &self.peer.node);
                    warn!(%org, %node, service = %item.service, name = %item.name, reason,
                        "A node asked for what it may not have.");
                }
                let code = problem.code.to_string();
                self.record(&item, reference.as_ref(), code, reason);
                self.sealer.refuse(problem);
            }
        }
        Ok(())
    }

    /// The first value always fits: a batch of one must be answerable.
    fn is_full_with(&self, value: &Secret) -> bool {
        self.bytes > 0 && self.bytes + wire_estimate(value) > MAX_BATCH_BYTES
    }

    /// Nothing was given and nothing refused: the trail has nothing to say.
    fn put_off(&mut self) {
        self.sealer.refuse(Problem::new(
            Code::BatchFull,
            "The answer was full before this item; ask again for it.",
        ));
    }

    fn record(
        &mut self,
        item: &FetchItem,
        reference: Option<&SecretRef>,
        result: String,
        reason: String,
    ) {
        let FetchItem {
            service,
            name,
            version,
        } = item;
        let object = match reference {
            Some(reference) => {
                let known = reference.version_from_node(version);
                let version = known.as_ref().unwrap_or(version);
                format!("{service}/{name} -> {reference}@{version}")
            }
            None => format!("{service}/{name} @{version}"),
        };
        self.records.push(NewAudit {
            result,
            detail: reason,
            ..audited(self.peer, "secret.fetch", object)
        });
    }

    async fn finish(self) -> Result<(Vec<FetchResult>, Vec<NewAudit>), ApiError> {
        Ok((self.sealer.finish().await?, self.records))
    }
}

/// Decides one item from what the catalog says of it now, and reads the value if it may.
async fn judge(
    hub: &Hub,
    peer: &NodePeer,
    item: &FetchItem,
    bound: Option<Bound>,
    latest: Instant,
) -> Verdict {
    let Some(bound) = bound else {
        return denied("nothing binds it on this node", None);
    };
    if bound.denied {
        let reference = bound.resolved.map(|(reference, _)| reference);
        return denied("the secret is another user's", reference);
    }
    let Some((reference, version)) = bound.resolved else {
        return match bound.trouble {
            Some(trouble) => of_manager(&ManagerError::new(trouble.fault, trouble.detail), None),
            None if bound.pending => pending("nobody has asked its manager yet".into(), None),
            None => missing(String::new(), None),
        };
    };
    if reference.version_at_nodes(&version) != item.version {
        return superseded(reference, &version);
    }
    match value(hub, peer, (&reference, &version), bound.lease, latest).await {
        Ok(value) => Verdict::Granted(reference, value),
        Err(error) => of_manager(&error, Some(reference)),
    }
}

/// The value of a version of what is bound, from wherever it is kept.
async fn value(
    hub: &Hub,
    peer: &NodePeer,
    (reference, version): (&SecretRef, &SecretVersion),
    lease: Option<LeaseId>,
    latest: Instant,
) -> Result<Arc<Secret>, ManagerError> {
    let secret = reference.secret();
    let target = Target {
        org: &peer.org,
        reference: &secret,
    };
    let whole = match hub.managers.of(reference)? {
        None => Arc::new(hub.secrets.read(target, version).await?),
        Some(manager) => {
            // The configuration may have changed since it was bound.
            manager.admit(target)?;
            match lease {
                Some(lease) => leased(hub, lease)?,
                None => patiently(latest, manager.read(target, version)).await?,
            }
        }
    };
    match reference.field() {
        Some(field) => payload::only(&whole, field).map(Arc::new),
        None => Ok(whole),
    }
}

fn leased(hub: &Hub, lease: LeaseId) -> Result<Arc<Secret>, ManagerError> {
    hub.leases.values().get(lease).ok_or_else(|| {
        hub.leases.lost(lease);
        let why = "the hub was restarted since the credential was made: another one is being made";
        ManagerError::new(Fault::Unavailable, why)
    })
}

/// A manager that takes long holds up nothing else: its value comes with a later try, for the read
/// goes on.
async fn patiently(
    latest: Instant,
    read: impl Future<Output = Result<Arc<Secret>, ManagerError>>,
) -> Result<Arc<Secret>, ManagerError> {
    let until = latest.min(Instant::now() + PATIENCE);
    timeout_at(until, read).await.unwrap_or_else(|_| {
        Err(ManagerError::new(
            Fault::TimedOut,
            "its manager has not answered yet",
        ))
    })
}

/// What a node hears of a manager's fault; the reason is for the audit trail.
fn of_manager(error: &ManagerError, reference: Option<SecretRef>) -> Verdict {
    if error.fault == Fault::Superseded {
        let detail = "The binding has another version now; pull the bindings again.";
        return refused(Code::Superseded, detail, error.to_string(), reference);
    }
    match state_of(error.fault) {
        SecretState::Missing => missing(error.to_string(), reference),
        SecretState::Denied => denied(&error.to_string(), reference),
        SecretState::Pending => pending(error.to_string(), reference),
        SecretState::Failed | SecretState::Ready { .. } => {
            let detail = "The secret's manager failed on it; the hub's audit trail says why.";
            refused(Code::Failed, detail, error.to_string(), reference)
        }
    }
}

fn pending(reason: String, reference: Option<SecretRef>) -> Verdict {
    let detail = "The secret's manager cannot answer now; the hub tries on.";
    refused(Code::Pending, detail, reason, reference)
}

/// One answer for a service that is not here, a name that is not bound, and a secret that is
/// another's: it does not tell which exists.
fn denied(reason: &str, reference: Option<SecretRef>) -> Verdict {
    let ApiError(problem) = ApiError::denied();
    Verdict::Refused(problem, reason.to_owned(), reference)
}

fn missing(reason: String, reference: Option<SecretRef>) -> Verdict {
    let detail = "The secret that is bound does not exist (any more).";
    refused(Code::Missing, detail, reason, reference)
}

fn superseded(reference: SecretRef, version: &SecretVersion) -> Verdict {
    let detail = "The binding has another version now; pull the bindings again.";
    let reason = format!("the version is {version}");
    refused(Code::Superseded, detail, reason, Some(reference))
}

fn refused(code: Code, detail: &str, reason: String, reference: Option<SecretRef>) -> Verdict {
    Verdict::Refused(Problem::new(code, detail), reason, reference)
}

/// So many items of a batch are judged at a time.
const AT_ONCE: usize = 16;
/// How long one item of a fetch waits for its manager.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long all of them wait together: the agent's own patience is longer. What is kept by then is
/// still given.
const BATCH_PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod patience {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_whole_batch_of_a_manager_that_hangs_waits_no_longer_than_its_node() {
        let start = Instant::now();
        let latest = start + BATCH_PATIENCE;
        let hanging = (0..MAX_BATCH_ITEMS).map(|_| patiently(latest, pending()));
        let answers: Vec<_> = stream::iter(hanging).buffered(AT_ONCE).collect().await;
        let hanging = |answer: &Result<_, ManagerError>| {
            answer
                .as_ref()
                .is_err_and(|error| error.fault == Fault::TimedOut)
        };
        assert!(answers.iter().all(hanging) && answers.len() == MAX_BATCH_ITEMS);
        assert_eq!(start.elapsed(), BATCH_PATIENCE);
        // What is kept is given even then.
        let kept = Arc::new(Secret::new(b"kept".to_vec()));
        let given = patiently(latest, ready(Ok(kept))).await;
        assert!(given.is_ok_and(|value| value.expose() == b"kept"));
    }
}
