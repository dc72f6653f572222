//! One deployment against what lies on tmpfs.

use std::collections::{BTreeMap, BTreeSet};

use edge_secrets_protocol::binding::{Consumer, Deployment, FetchItem, SecretState};
use edge_secrets_protocol::status::DeploymentError;
use edge_secrets_protocol::{Code, SecretName, SecretVersion};

use super::{Planner, Target, Verdict, Work};
use crate::delivery::ConsumerId;

impl Planner {
    pub(super) fn judge(&self, deployment: &Deployment) -> Verdict {
        if let Some(error) = self.refusal(deployment) {
            return Verdict::Refused(error);
        }
        if let Some(error) = blocked(deployment) {
            return Verdict::Blocked(error, BTreeSet::new());
        }
        let work = self.work(deployment);
        if work.targets.is_empty() && work.relabel.is_empty() {
            return Verdict::Settled;
        }
        let missing = work.values.iter().filter(|item| !self.holds(item));
        let missing: BTreeSet<FetchItem> = missing.cloned().collect();
        if missing.is_empty() {
            return Verdict::Ready(work);
        }
        // The most lasting trouble first, as it is what somebody must act on. Of an outdated version
        // there is nothing to say: newer bindings are on their way.
        let problem = missing
            .iter()
            .filter_map(|item| Some((item, self.problem(item)?)))
            .filter(|(_, problem)| problem.code != Code::Superseded)
            .min_by_key(|(_, problem)| rank(problem.code));
        match problem {
            Some((item, problem)) => {
                let error = DeploymentError {
                    code: problem.code,
                    detail: format!("secret {}: {}", item.name, problem.detail),
                };
                Verdict::Blocked(error, missing)
            }
            None => Verdict::Waiting(missing),
        }
    }

    /// Every value that the deployment's next generations would be written from, were it not blocked.
    pub(super) fn needs(&self, deployment: &Deployment) -> BTreeSet<FetchItem> {
        match self.refusal(deployment) {
            Some(_) => BTreeSet::new(),
            None => self.work(deployment).values,
        }
    }

    fn refusal(&self, deployment: &Deployment) -> Option<DeploymentError> {
        if let Err(detail) = check(deployment) {
            let code = Code::Invalid;
            return Some(DeploymentError { code, detail });
        }
        let owner = self.owners.get(&deployment.service)?;
        if *owner == deployment.id {
            return None;
        }
        Some(DeploymentError {
            code: Code::Conflict,
            detail: format!(
                "service {} is placed here twice, and deployment {owner} has it: withdraw one of \
                 the policies, or change its constraints",
                deployment.service
            ),
        })
    }

    fn work(&self, deployment: &Deployment) -> Work {
        let versions: BTreeMap<&SecretName, &SecretVersion> = deployment
            .secrets
            .iter()
            .filter_map(|secret| match &secret.state {
                SecretState::Ready { version } => Some((&secret.name, version)),
                _ => None,
            })
            .collect();
        let mut work = Work {
            targets: Vec::new(),
            relabel: Vec::new(),
            values: BTreeSet::new(),
        };
        for consumer in deployment
            .consumers
            .iter()
            .filter(|c| !c.secrets.is_empty())
        {
            self.consumer_work(deployment, consumer, &versions, &mut work);
        }
        work
    }

    fn consumer_work(
        &self,
        deployment: &Deployment,
        consumer: &Consumer,
        versions: &BTreeMap<&SecretName, &SecretVersion>,
        work: &mut Work,
    ) {
        let id = ConsumerId {
            service: deployment.service.clone(),
            consumer: consumer.name.clone(),
        };
        let live = self.actual.get(&id);
        let origin = live.and_then(|live| live.manifest.origin.as_ref());
        let own = origin.filter(|origin| origin.deployment == deployment.id);
        let mut files = BTreeMap::new();
        let mut keep = BTreeSet::new();
        for secret in &consumer.secrets {
            let Some(version) = versions.get(&secret.name) else {
                continue;
            };
            let file = live.filter(|_| own.is_some()).and_then(|live| {
                let file = live.manifest.files.get(&secret.name)?;
                (!live.damaged.contains(&secret.name)).then_some(file)
            });
            if file.is_some_and(|f| f.version == **version && f.format == secret.format) {
                keep.insert(secret.name.clone());
            } else {
                work.values.insert(FetchItem {
                    service: deployment.service.clone(),
                    name: secret.name.clone(),
                    version: (*version).clone(),
                });
            }
            files.insert(secret.name.clone(), ((*version).clone(), secret.format));
        }
        let before = live.map_or(0, |live| live.manifest.files.len());
        match own {
            Some(own) if keep.len() == files.len() && before == files.len() => {
                let relabel = own.policy != deployment.policy
                    || own.service_version != deployment.service_version;
                if relabel {
                    work.relabel.push(id);
                }
            }
            _ => work.targets.push(Target {
                consumer: id,
                files,
                keep,
            }),
        }
    }
}

/// What the hub says is in the way.
fn blocked(deployment: &Deployment) -> Option<DeploymentError> {
    let trouble = deployment.secrets.iter().filter_map(|secret| {
        let (code, what) = match &secret.state {
            SecretState::Ready { .. } => return None,
            SecretState::Denied => (Code::Denied, "this node may not have what it is bound to"),
            SecretState::Missing => (Code::Missing, "what it is bound to does not exist"),
            SecretState::Failed => (Code::Failed, "its secrets manager fails on it"),
            SecretState::Pending => (Code::Pending, "its secrets manager has not answered yet"),
        };
        Some((code, &secret.name, what))
    });
    let (code, name, what) = trouble.min_by_key(|(code, ..)| rank(*code))?;
    Some(DeploymentError {
        code,
        detail: format!("secret {name}: {what}"),
    })
}

fn rank(code: Code) -> u8 {
    match code {
        Code::Denied => 0,
        Code::Missing => 1,
        Code::Failed => 2,
        Code::Pending => 4,
        _ => 3,
    }
}

/// What every deployment must hold to; the hub checks it too.
fn check(deployment: &Deployment) -> Result<(), String> {
    let mut declared = BTreeSet::new();
    for secret in &deployment.secrets {
        if !declared.insert(&secret.name) {
            return Err(format!("secret {} is declared twice", secret.name));
        }
    }
    let mut consumers = BTreeSet::new();
    for consumer in &deployment.consumers {
        let reader = &consumer.name;
        if !consumers.insert(reader) {
            return Err(format!("consumer {reader} is declared twice"));
        }
        let mut read = BTreeSet::new();
        for secret in &consumer.secrets {
            let name = &secret.name;
            if !read.insert(name) {
                return Err(format!("consumer {reader} reads secret {name} twice"));
            }
            if !declared.contains(name) {
                return Err(format!(
                    "consumer {reader} reads secret {name}, which is not declared"
                ));
            }
        }
    }
    Ok(())
}
