//! Values that end.

use std::collections::BTreeMap;

use edge_secrets_protocol::binding::{Bindings, Deployment, SecretState};
use edge_secrets_protocol::{DeploymentId, SecretName, SecretVersion};

use super::{Live, Planner, consumer_id};
use crate::clock::BootTime;
use crate::delivery::{ConsumerId, Manifest};
use crate::ends::{End, Ends};

impl Planner {
    /// It is that late now: values whose time has come have ended. Says whether any has since it was
    /// said last, or is still there.
    pub(in crate::reconcile) fn pass(&mut self, now: BootTime) -> bool {
        let before = self
            .now
            .replace(self.now.map_or(now, |before| before.max(now)));
        let over = |end: &End| self.is_over(*end);
        let news = |end: &End| over(end) && !before.is_some_and(|before| end.is_over(before));
        let desired: Vec<_> = self
            .ends
            .iter()
            .filter(|(_, ends)| ends.values().any(news))
            .map(|(id, _)| id.clone())
            .collect();
        let shown = self.actual.iter().filter(|(_, live)| self.has_ended(live));
        let shown: Vec<_> = shown
            .map(|(consumer, _)| consumer.service.clone())
            .collect();
        if desired.is_empty() && shown.is_empty() {
            return false;
        }
        self.unsettled.extend(desired);
        shown.iter().for_each(|service| self.touch(service));
        self.drop_unwanted();
        true
    }

    /// When the next value ends that has not ended yet.
    pub(in crate::reconcile) fn next_end(&self) -> Option<BootTime> {
        let desired = self.ends.values().flat_map(BTreeMap::values).copied();
        let shown = self.actual.values().flat_map(ends);
        let ahead = desired.chain(shown).filter(|end| !self.is_over(*end));
        ahead.map(|end| end.at).min()
    }

    /// Whether something that has ended could not be wiped.
    pub(in crate::reconcile) fn outlives(&self) -> bool {
        self.actual.values().any(|live| self.has_ended(live))
    }

    /// Whether a value has ended that the consumer can read.
    pub(in crate::reconcile) fn has_ended(&self, live: &Live) -> bool {
        ends(live).any(|end| self.is_over(end))
    }

    /// When the desired version of a secret ends.
    pub(in crate::reconcile) fn end(&self, id: &DeploymentId, name: &SecretName) -> Option<End> {
        self.ends.get(id)?.get(name).copied()
    }

    /// Whether the desired version of a secret has ended.
    pub(in crate::reconcile) fn is_expired(&self, id: &DeploymentId, name: &SecretName) -> bool {
        self.end(id, name).is_some_and(|end| self.is_over(end))
    }

    /// Consumers that can read what ends at another time than it was to, and what is to be noted of
    /// them: a lease was renewed, or cut short.
    pub(in crate::reconcile) fn moved(&self) -> Vec<(ConsumerId, Manifest)> {
        let mut moved = Vec::new();
        let touched = self.unsettled.iter().filter_map(|id| self.desired.get(id));
        for deployment in touched {
            for (consumer, live) in self.own(deployment) {
                let mut manifest = live.manifest.clone();
                for (name, version) in ready(deployment) {
                    if let Some(shown) = manifest.secrets.get_mut(name)
                        && shown.version == *version
                    {
                        shown.end = self.end(&deployment.id, name);
                    }
                }
                if manifest != live.manifest {
                    moved.push((consumer, manifest));
                }
            }
        }
        moved
    }

    /// What is known of what the consumer can read is this; the files are as they were.
    pub(in crate::reconcile) fn noted(&mut self, consumer: &ConsumerId, manifest: Manifest) {
        if let Some(live) = self.actual.get_mut(consumer) {
            live.manifest = manifest;
        }
    }

    /// What to note of a consumer before it is wiped because of an end; none where it is to be wiped
    /// for another reason. Whoever hears of changes is to hear of this one.
    pub(in crate::reconcile) fn ending(&self, consumer: &ConsumerId) -> Option<Manifest> {
        let live = self.actual.get(consumer)?;
        if !self.has_ended(live) || self.is_stale(consumer, live.manifest.origin.as_ref()) {
            return None;
        }
        let mut ended = live.manifest.clone();
        ended.unannounced = self.announces(consumer);
        // Another change than the one that brought it.
        ended.generation.push_str(".ended");
        Some(ended)
    }

    /// The consumer is wiped, as this had ended.
    pub(in crate::reconcile) fn note_ended(&mut self, consumer: &ConsumerId, ended: Manifest) {
        self.ended.insert(consumer.clone(), ended);
    }

    /// What was wiped because it had ended, and has no successor yet.
    pub(in crate::reconcile) fn ended(&self) -> &BTreeMap<ConsumerId, Manifest> {
        &self.ended
    }

    /// Forgets what had ended of consumers that should have nothing now; gives them.
    pub(in crate::reconcile) fn forget_ended(&mut self) -> Vec<ConsumerId> {
        let stale = self.ended.iter();
        let stale =
            stale.filter(|(consumer, ended)| self.is_stale(consumer, ended.origin.as_ref()));
        let stale: Vec<_> = stale.map(|(consumer, _)| consumer.clone()).collect();
        for consumer in &stale {
            self.ended.remove(consumer);
        }
        stale
    }

    /// Takes when values end. An end that is told again stays what it was, so that answers that take
    /// longer or shorter make no difference.
    pub(super) fn take_ends(&mut self, bindings: &Bindings, said: &BTreeMap<DeploymentId, Ends>) {
        for deployment in &bindings.deployments {
            let said = said.get(&deployment.id);
            let ends: Ends = ready(deployment)
                .filter_map(|(name, version)| {
                    let said = *said?.get(name)?;
                    let known = self.known_end(deployment, name, version);
                    let same = known.filter(|known| known.is_about(said));
                    Some((name.clone(), same.unwrap_or(said)))
                })
                .collect();
            if self.ends.get(&deployment.id).unwrap_or(&Ends::new()) == &ends {
                continue;
            }
            self.unsettled.insert(deployment.id.clone());
            if ends.is_empty() {
                self.ends.remove(&deployment.id);
            } else {
                self.ends.insert(deployment.id.clone(), ends);
            }
        }
    }

    /// What was said before of this version, by the hub, or to a former life.
    fn known_end(
        &self,
        deployment: &Deployment,
        name: &SecretName,
        version: &SecretVersion,
    ) -> Option<End> {
        let before = self.desired.get(&deployment.id);
        let mut before = before.into_iter().flat_map(ready);
        if before.any(|known| known == (name, version)) {
            return self.end(&deployment.id, name);
        }
        let mut shown = self
            .own(deployment)
            .filter_map(|(_, live)| live.manifest.secrets.get(name));
        shown.find(|shown| shown.version == *version)?.end
    }

    /// What can be read of the deployment.
    fn own<'a>(
        &'a self,
        deployment: &'a Deployment,
    ) -> impl Iterator<Item = (ConsumerId, &'a Live)> {
        deployment.consumers.iter().filter_map(|consumer| {
            let id = consumer_id(deployment, consumer);
            let live = self.actual.get(&id)?;
            let origin = live.manifest.origin.as_ref()?;
            (origin.deployment == deployment.id).then_some((id, live))
        })
    }

    fn is_over(&self, end: End) -> bool {
        self.now.is_some_and(|now| end.is_over(now))
    }
}

/// The secrets of a deployment that there is a version of.
fn ready(deployment: &Deployment) -> impl Iterator<Item = (&SecretName, &SecretVersion)> {
    let secrets = deployment.secrets.iter();
    secrets.filter_map(|secret| match &secret.state {
        SecretState::Ready { version } => Some((&secret.name, version)),
        _ => None,
    })
}

fn ends(live: &Live) -> impl Iterator<Item = End> {
    live.manifest.secrets.values().filter_map(|shown| shown.end)
}
