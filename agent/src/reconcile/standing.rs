//! Where every deployment stands and since when, for the hub and for people.

use std::collections::BTreeMap;

use edge_secrets_protocol::binding::{Deployment, FetchItem, SecretState};
use edge_secrets_protocol::status::{
    DeploymentError, DeploymentState, DeploymentStatus, StatusReport,
};
use edge_secrets_protocol::{Code, DeploymentId, SecretName, SecretVersion, ServiceId, Source};
use jiff::Timestamp;

use super::plan::{EXPIRED, Live, Planner, consumer_id, readers};
use crate::delivery::{ConsumerId, Delivery, Manifest, ManifestSecret};
use crate::status::{ConsumerStatus, SecretStatus, ServiceStatus};

/// What was said last, so that a time is kept when nothing has changed.
#[derive(Debug, Default)]
pub(super) struct Standings {
    known: BTreeMap<DeploymentId, Standing>,
    /// Gone, and not told yet.
    wiped: BTreeMap<DeploymentId, ServiceId>,
    wipe_errors: BTreeMap<DeploymentId, DeploymentError>,
}

#[derive(Debug, Clone)]
struct Standing {
    service: ServiceId,
    service_version: String,
    policy: Source,
    state: DeploymentState,
    error: Option<DeploymentError>,
    since: Timestamp,
    secrets: Vec<SecretStatus>,
    consumers: Vec<ConsumerId>,
}

impl Standings {
    /// What lies there at start is applied, until the hub says otherwise.
    pub(super) fn of_former_life(planner: &Planner) -> Self {
        let mut known: BTreeMap<DeploymentId, Standing> = BTreeMap::new();
        let live = planner.actual().iter();
        let live = live.map(|(consumer, live)| (consumer, &live.manifest));
        for (consumer, manifest) in live.chain(planner.ended()) {
            let Some(origin) = &manifest.origin else {
                continue;
            };
            let standing = known
                .entry(origin.deployment.clone())
                .or_insert_with(|| Standing {
                    service: consumer.service.clone(),
                    service_version: origin.service_version.clone(),
                    policy: origin.policy.clone(),
                    state: DeploymentState::Applied,
                    error: None,
                    since: manifest.since,
                    secrets: Vec::new(),
                    consumers: Vec::new(),
                });
            standing.since = standing.since.max(manifest.since);
            standing.consumers.push(consumer.clone());
            for (name, shown) in &manifest.secrets {
                if standing.secrets.iter().all(|secret| secret.name != *name) {
                    standing.secrets.push(SecretStatus {
                        name: name.clone(),
                        state: DeploymentState::Applied,
                        version: Some(shown.version.clone()),
                        wanted: None,
                        since: shown.since,
                        expires_at: None,
                    });
                }
                note_end(&mut standing.secrets, name, shown);
            }
        }
        let mut standings = Self {
            known,
            ..Self::default()
        };
        standings.follow_former_life(planner, None);
        standings
    }

    /// Looks anew at the deployments that something was done for, and at those that should go.
    pub(super) fn update(&mut self, planner: &Planner, touched: Vec<DeploymentId>, now: Timestamp) {
        for id in touched {
            if let Some(deployment) = planner.desired().get(&id) {
                let standing = stand(planner, deployment, self.known.get(&id), now);
                self.wiped.remove(&id);
                self.wipe_errors.remove(&id);
                self.known.insert(id, standing);
            }
        }
        if !planner.is_told() {
            self.follow_former_life(planner, Some(now));
            return;
        }
        let known = self.known.keys();
        let gone: Vec<_> = known
            .filter(|id| !planner.desired().contains_key(*id))
            .cloned()
            .collect();
        for id in gone {
            let Some(mut standing) = self.known.remove(&id) else {
                continue;
            };
            let left = |(consumer, live): (&ConsumerId, &Live)| {
                let origin = live.manifest.origin.as_ref();
                let own = origin.is_some_and(|origin| origin.deployment == id);
                own.then(|| consumer.clone())
            };
            standing.consumers = planner.actual().iter().filter_map(left).collect();
            if standing.consumers.is_empty() {
                self.wipe_errors.remove(&id);
                self.wiped.insert(id, standing.service);
                continue;
            }
            let error = self.wipe_errors.get(&id).cloned();
            let state = match error {
                Some(_) => DeploymentState::Failed,
                None => DeploymentState::Pending,
            };
            if (standing.state, &standing.error) != (state, &error) {
                standing.since = now;
            }
            standing.state = state;
            standing.error = error;
            self.known.insert(id, standing);
        }
    }

    /// Of a deployment of a former life something has ended, or nothing is left because what it is for
    /// has stopped. At the start that is as old as what is known of it.
    fn follow_former_life(&mut self, planner: &Planner, now: Option<Timestamp>) {
        let live = |consumer: &ConsumerId| planner.actual().contains_key(consumer);
        for standing in self.known.values_mut() {
            let mut consumers = standing.consumers.iter();
            let ended = consumers.find_map(|consumer| planner.ended().get(consumer));
            let mut consumers = standing.consumers.iter();
            let (state, error) = match ended {
                Some(ended) => (DeploymentState::Blocked, expired(ended)),
                None if consumers.any(live) => continue,
                None => (DeploymentState::Stopped, None),
            };
            let since = now.unwrap_or(standing.since);
            if standing.state != state {
                (standing.state, standing.since) = (state, since);
            }
            standing.error = error;
            for secret in &mut standing.secrets {
                let mut consumers = standing.consumers.iter();
                let shown = consumers.any(|consumer| {
                    let live = planner.actual().get(consumer);
                    live.is_some_and(|live| live.manifest.secrets.contains_key(&secret.name))
                });
                if !shown && secret.version.is_some() {
                    (secret.state, secret.version) = (state, None);
                    secret.since = since;
                }
            }
        }
    }

    /// The deployment should be gone, and something of it could not be wiped.
    pub(super) fn wipe_failed(&mut self, id: &DeploymentId, error: DeploymentError) {
        self.wipe_errors.insert(id.clone(), error);
    }

    pub(super) fn report(&self) -> Vec<DeploymentStatus> {
        let known = self.known.iter().map(|(id, standing)| DeploymentStatus {
            id: id.clone(),
            service: standing.service.clone(),
            state: standing.state,
            applied: standing
                .secrets
                .iter()
                .filter_map(|secret| Some((secret.name.clone(), secret.version.clone()?)))
                .collect(),
            error: standing.error.clone(),
        });
        let wiped = self.wiped.iter().map(|(id, service)| DeploymentStatus {
            id: id.clone(),
            service: service.clone(),
            state: DeploymentState::Wiped,
            applied: BTreeMap::new(),
            error: None,
        });
        known.chain(wiped).collect()
    }

    pub(super) fn report_sent(&mut self, report: &StatusReport) {
        for deployment in &report.deployments {
            if deployment.state == DeploymentState::Wiped {
                self.wiped.remove(&deployment.id);
            }
        }
    }

    pub(super) fn services(&self, delivery: &Delivery) -> Vec<ServiceStatus> {
        let mut services: Vec<_> = self
            .known
            .iter()
            .map(|(id, standing)| ServiceStatus {
                deployment: id.clone(),
                service: standing.service.clone(),
                service_version: standing.service_version.clone(),
                policy: standing.policy.clone(),
                state: standing.state,
                since: standing.since,
                error: standing.error.clone(),
                secrets: standing.secrets.clone(),
                consumers: standing
                    .consumers
                    .iter()
                    .map(|consumer| ConsumerStatus {
                        name: consumer.consumer.clone(),
                        directory: delivery.directory(consumer).display().to_string(),
                        profile: None,
                        on_change: None,
                        lifecycle: None,
                        secrets_api: None,
                    })
                    .collect(),
            })
            .collect();
        services.sort_by(|a, b| (&a.service, &a.policy).cmp(&(&b.service, &b.policy)));
        services
    }
}

fn stand(
    planner: &Planner,
    deployment: &Deployment,
    before: Option<&Standing>,
    now: Timestamp,
) -> Standing {
    let (state, error) = planner.state(&deployment.id);
    let since = match before {
        Some(before) if before.state == state && before.error == error => before.since,
        _ => now,
    };
    let failed = planner.failure(&deployment.id).is_some();
    let secrets = deployment.secrets.iter().map(|secret| {
        let version = readable(planner, deployment, &secret.name);
        let (state, wanted) = match &secret.state {
            SecretState::Ready { version: wanted } => {
                let item = FetchItem {
                    service: deployment.service.clone(),
                    name: secret.name.clone(),
                    version: wanted.clone(),
                };
                let problem = planner.problem(&item).map(|problem| problem.code);
                let state = if version.as_ref() == Some(wanted) {
                    DeploymentState::Applied
                } else if state == DeploymentState::Stopped {
                    DeploymentState::Stopped
                } else if failed {
                    DeploymentState::Failed
                } else if planner.is_expired(&deployment.id, &secret.name)
                    || problem.is_some_and(|code| code != Code::Superseded)
                {
                    DeploymentState::Blocked
                } else {
                    DeploymentState::Pending
                };
                (state, Some(wanted.clone()))
            }
            _ => (DeploymentState::Blocked, None),
        };
        let expires_at = match version {
            Some(_) => shown_until(planner, deployment, &secret.name),
            None => planner
                .end(&deployment.id, &secret.name)
                .map(|end| end.until),
        };
        let before = before.and_then(|b| b.secrets.iter().find(|s| s.name == secret.name));
        let since = match before {
            Some(before) if before.state == state && before.version == version => before.since,
            _ => now,
        };
        SecretStatus {
            name: secret.name.clone(),
            state,
            version,
            wanted,
            since,
            expires_at,
        }
    });
    Standing {
        service: deployment.service.clone(),
        service_version: deployment.service_version.clone(),
        policy: deployment.policy.clone(),
        state,
        error,
        since,
        secrets: secrets.collect(),
        consumers: readers(deployment).collect(),
    }
}

/// The earliest end of what of a secret can be read.
fn shown_until(planner: &Planner, deployment: &Deployment, name: &SecretName) -> Option<Timestamp> {
    let live = readers(deployment).filter_map(|consumer| planner.actual().get(&consumer));
    let ends = live.filter_map(|live| live.manifest.secrets.get(name)?.end);
    ends.map(|end| end.until).min()
}

/// Of several consumers that read a secret, the earliest end counts.
fn note_end(secrets: &mut [SecretStatus], name: &SecretName, shown: &ManifestSecret) {
    if let Some(end) = shown.end
        && let Some(secret) = secrets.iter_mut().find(|secret| secret.name == *name)
    {
        let before = secret.expires_at;
        secret.expires_at = Some(before.map_or(end.until, |before| before.min(end.until)));
    }
}

fn expired(ended: &Manifest) -> Option<DeploymentError> {
    let secrets = ended.secrets.iter();
    let ends = secrets.filter_map(|(name, shown)| Some((shown.end?.at, name)));
    let (_, name) = ends.min()?;
    Some(DeploymentError {
        code: Code::Expired,
        detail: format!("secret {name}: {EXPIRED}"),
    })
}

/// The version of a secret that the service can read now: where its consumers read different ones,
/// in the middle of trouble, none is named.
fn readable(
    planner: &Planner,
    deployment: &Deployment,
    name: &SecretName,
) -> Option<SecretVersion> {
    let mut found: Option<&SecretVersion> = None;
    for consumer in &deployment.consumers {
        if consumer.secrets.iter().all(|secret| secret.name != *name) {
            continue;
        }
        let id = consumer_id(deployment, consumer);
        if planner.withholds(&id) {
            continue;
        }
        let live = planner.actual().get(&id)?;
        let origin = live.manifest.origin.as_ref()?;
        if origin.deployment != deployment.id || live.damages(name) {
            return None;
        }
        let version = &live.manifest.secrets.get(name)?.version;
        if found.is_some_and(|found| found != version) {
            return None;
        }
        found = Some(version);
    }
    found.cloned()
}
