//! One deployment against what lies on tmpfs.

use std::collections::{BTreeMap, BTreeSet};

use edge_secrets_protocol::binding::{Consumer, Deployment, FetchItem, Format, SecretState};
use edge_secrets_protocol::status::DeploymentError;
use edge_secrets_protocol::{Code, SecretName, SecretVersion};

use super::{Judgement, Live, Planner, Target, Work, consumer_id};
use crate::consumers::names::FileName;

impl Planner {
    pub(super) fn judge(&self, deployment: &Deployment) -> Judgement {
        if let Some(error) = self.refusal(deployment) {
            return Judgement::Refused(error);
        }
        if let Some(error) = self.blocked(deployment) {
            return Judgement::Blocked(error, BTreeSet::new());
        }
        let work = self.work(deployment);
        if work.targets.is_empty() && work.relabel.is_empty() {
            return Judgement::Settled;
        }
        let missing = work.values.iter().filter(|item| !self.holds(item));
        let missing: BTreeSet<FetchItem> = missing.cloned().collect();
        if missing.is_empty() {
            return Judgement::Ready(work);
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
                Judgement::Blocked(error, missing)
            }
            None => Judgement::Waiting(missing),
        }
    }

    /// Every value that the deployment's next generations would be written from, were it not blocked.
    pub(super) fn needs(&self, deployment: &Deployment) -> BTreeSet<FetchItem> {
        match self.refusal(deployment) {
            Some(_) => BTreeSet::new(),
            None => {
                let mut values = self.work(deployment).values;
                values.retain(|item| !self.is_expired(&deployment.id, &item.name));
                values
            }
        }
    }

    /// What the hub or the clock says is in the way.
    fn blocked(&self, deployment: &Deployment) -> Option<DeploymentError> {
        let trouble = deployment.secrets.iter().filter_map(|secret| {
            let (code, what) = match &secret.state {
                SecretState::Ready { .. } if self.is_expired(&deployment.id, &secret.name) => {
                    (Code::Expired, EXPIRED)
                }
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

    fn refusal(&self, deployment: &Deployment) -> Option<DeploymentError> {
        if let Err(detail) = check(deployment) {
            let code = Code::Invalid;
            return Some(DeploymentError { code, detail });
        }
        let owner = self.owners.get(&deployment.service)?;
        if *owner == deployment.id {
            let detail = deployment
                .consumers
                .iter()
                .find_map(|consumer| self.unfit(deployment, consumer))?;
            let code = Code::Invalid;
            return Some(DeploymentError { code, detail });
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
        let id = consumer_id(deployment, consumer);
        if self.withholds(&id) {
            return;
        }
        let shaped = self.shape(&id);
        let live = self.actual.get(&id);
        let origin = live.and_then(|live| live.manifest.origin.as_ref());
        let own = origin.filter(|origin| origin.deployment == deployment.id);
        let mark = shaped.mark_of(consumer);
        // What can be built upon: of this very deployment, and of the same look.
        let base = live.filter(|live| own.is_some() && live.manifest.shape == mark);
        let mut secrets = BTreeMap::new();
        for secret in &consumer.secrets {
            if let Some(version) = versions.get(&secret.name) {
                let wanted = ((*version).clone(), shaped.format(secret));
                secrets.insert(secret.name.clone(), wanted);
            }
        }
        let fresh: BTreeSet<SecretName> = secrets
            .iter()
            .filter(|(name, wanted)| !base.is_some_and(|base| shows(base, name, wanted)))
            .map(|(name, _)| name.clone())
            .collect();
        let gone = base.is_some_and(|base| {
            let mut shown = base.manifest.secrets.keys();
            shown.any(|name| !secrets.contains_key(name))
        });
        let templates = shaped.shape.templates.iter().enumerate();
        let rendered: Vec<_> = templates
            .filter(|(_, template)| {
                let file = FileName::from(&template.name);
                let whole = base.is_some_and(|base| {
                    base.manifest.files.contains_key(&file) && !base.damaged.contains(&file)
                });
                let moved = match &template.reads {
                    Some(reads) => reads.iter().any(|name| fresh.contains(name)),
                    None => gone || !fresh.is_empty(),
                };
                moved || !whole
            })
            .map(|(at, _)| at)
            .collect();
        if base.is_some() && !gone && fresh.is_empty() && rendered.is_empty() {
            let relabel = own.is_some_and(|own| {
                own.policy != deployment.policy || own.service_version != deployment.service_version
            });
            if relabel {
                work.relabel.push(id);
            }
            return;
        }
        let templates = rendered
            .iter()
            .filter_map(|at| shaped.shape.templates.get(*at));
        let mut needed = fresh.clone();
        for template in templates {
            match &template.reads {
                Some(reads) => needed.extend(reads.iter().cloned()),
                None => needed.extend(secrets.keys().cloned()),
            }
        }
        work.values.extend(needed.iter().filter_map(|name| {
            let (version, _) = secrets.get(name)?;
            Some(item(deployment, name, version))
        }));
        work.targets.push(Target {
            consumer: id,
            secrets,
            fresh,
            rendered,
            modes: shaped.modes(consumer),
            mark,
        });
    }

    /// Why the consumer's profile does not fit what it reads.
    fn unfit(&self, deployment: &Deployment, consumer: &Consumer) -> Option<String> {
        let id = consumer_id(deployment, consumer);
        let read: BTreeSet<_> = consumer.secrets.iter().map(|secret| &secret.name).collect();
        if read.is_empty() {
            return None;
        }
        let (service, reader) = (&deployment.service, &consumer.name);
        self.shape(&id).shape.templates.iter().find_map(|template| {
            let name = &template.name;
            if read.contains(name) {
                return Some(format!(
                    "the profile of {service} {reader} calls a template like the secret {name}: \
                     give it another name"
                ));
            }
            let missing = template
                .reads
                .iter()
                .flatten()
                .find(|wanted| !read.contains(wanted))?;
            Some(format!(
                "template {name} reads secret {missing}, which consumer {reader} of {service} does \
                 not have"
            ))
        })
    }
}

/// Whether what can be read now of a secret's own files is what is wanted.
fn shows(live: &Live, name: &SecretName, (version, format): &(SecretVersion, Format)) -> bool {
    let shown = live.manifest.secrets.get(name);
    let damaged = live.damaged.iter().any(|file| file.stem() == name.as_str());
    !damaged && shown.is_some_and(|shown| shown.version == *version && shown.format == *format)
}

pub(in crate::reconcile) fn item(
    deployment: &Deployment,
    name: &SecretName,
    version: &SecretVersion,
) -> FetchItem {
    FetchItem {
        service: deployment.service.clone(),
        name: name.clone(),
        version: version.clone(),
    }
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

/// What is said of a value that has ended.
pub(in crate::reconcile) const EXPIRED: &str =
    "its life is over, and the hub has not offered another version or a longer life yet";

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
