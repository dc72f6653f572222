//! The plan carried out: values opened, written, swapped in, wiped.

use edge_secrets_protocol::binding::FetchItem;
use edge_secrets_protocol::sealed::{Place, SealError};
use edge_secrets_protocol::status::DeploymentError;
use edge_secrets_protocol::{Code, DeploymentId, NodeId, OrgId, Sealed, SealingKey};
use jiff::Timestamp;
use tracing::{info, warn};

use super::Reconciler;
use super::plan::{Target, Work};
use crate::consumers::names::FileName;
use crate::delivery::{ConsumerId, Draft, FsError, Origin, RenderError, bound, render};
use crate::memory::Room;

/// Who opens values, with what.
#[derive(Clone, Copy)]
pub(super) struct Opener<'a> {
    pub(super) org: &'a OrgId,
    pub(super) node: &'a NodeId,
    pub(super) keys: &'a [&'a SealingKey],
}

/// Why a deployment was not delivered.
enum Trouble {
    /// A file that should stay is not what was written: its value must be fetched.
    Damaged,
    Error(DeploymentError),
    /// The runtime directory has no room; wiping what is superseded may help.
    Full(DeploymentError),
}

impl From<FsError> for Trouble {
    fn from(error: FsError) -> Self {
        let full = error.is_full();
        let error = failure(Code::Failed, error.to_string());
        if full {
            Self::Full(error)
        } else {
            Self::Error(error)
        }
    }
}

/// Why a value was not written.
enum Unwritten {
    Render(RenderError),
    Trouble(Trouble),
}

impl From<RenderError> for Unwritten {
    fn from(error: RenderError) -> Self {
        Self::Render(error)
    }
}

impl Reconciler {
    /// Does what can be done with the values at hand; without an opener, what needs none.
    pub(super) fn apply(&mut self, opener: Option<Opener<'_>>, now: Timestamp) {
        for (id, work) in self.planner.ready() {
            if opener.is_none() && !work.values.is_empty() {
                continue;
            }
            let mut result = self.deliver_work(&id, &work, opener, now);
            if matches!(result, Err(Trouble::Full(_))) && self.delivery.reclaim() {
                result = self.deliver_work(&id, &work, opener, now);
            }
            match result {
                Ok(()) => info!(deployment = %id, "Deployment delivered."),
                Err(Trouble::Damaged) => {
                    // Its values stay at hand for the next attempt.
                    continue;
                }
                Err(Trouble::Error(error) | Trouble::Full(error)) => {
                    warn!(deployment = %id, error = %error.detail, "Deployment not delivered.");
                    self.planner.failed(&id, error);
                }
            }
            self.planner.forget(&work.values);
            self.sealed.retain(|item, _| !work.values.contains(item));
        }
        self.planner.settle();
    }

    /// Wipes what the bindings do not name any more. Goes on past every error; what is left is tried
    /// again with the next bindings, and said in the report.
    pub(super) fn wipe_leftovers(&mut self) {
        for consumer in self.planner.leftovers() {
            let errors = self.delivery.undeploy(&consumer);
            let Some(first) = errors.first() else {
                info!(%consumer, "Undeployed and wiped.");
                self.planner.wiped(&consumer);
                continue;
            };
            for error in &errors {
                warn!(%consumer, %error, "Undeployed, but not all is wiped yet.");
            }
            let error = failure(Code::Failed, first.to_string());
            if let Some(id) = self.planner.origin(&consumer) {
                if self.planner.desired().contains_key(&id) {
                    self.planner.failed(&id, error);
                } else {
                    self.standings.wipe_failed(&id, error);
                }
            }
            self.planner.half_wiped(&consumer);
        }
    }

    fn deliver_work(
        &mut self,
        id: &DeploymentId,
        work: &Work,
        opener: Option<Opener<'_>>,
        now: Timestamp,
    ) -> Result<(), Trouble> {
        let Some(deployment) = self.planner.desired().get(id) else {
            return Ok(());
        };
        let origin = Origin {
            deployment: id.clone(),
            policy: deployment.policy.clone(),
            service_version: deployment.service_version.clone(),
        };
        for consumer in &work.relabel {
            self.relabel(consumer, &origin)?;
        }
        // Every generation is written before the first is swapped in, so that what does not fit or
        // does not open leaves the whole deployment as it was.
        let mut drafts = Vec::with_capacity(work.targets.len());
        let mut prepared = self.prepare(&work.targets, &origin, &mut drafts, now);
        if prepared.is_ok() {
            prepared = work
                .values
                .iter()
                .try_for_each(|item| self.write_value(item, &work.targets, &mut drafts, opener));
        }
        if prepared.is_ok() {
            prepared = drafts.iter().try_for_each(|draft| Ok(draft.finish()?));
        }
        let mut drafts = drafts.into_iter();
        while prepared.is_ok()
            && let Some(draft) = drafts.next()
        {
            prepared = self.commit(draft);
        }
        for unused in drafts {
            self.delivery.discard(unused);
        }
        prepared
    }

    fn prepare(
        &mut self,
        targets: &[Target],
        origin: &Origin,
        drafts: &mut Vec<Draft>,
        now: Timestamp,
    ) -> Result<(), Trouble> {
        let generation = self.planner.generation().unwrap_or_default();
        for target in targets {
            let live = self.planner.actual().get(&target.consumer).cloned();
            let draft = Draft::begin(
                &self.delivery,
                &target.consumer,
                live.as_ref().map(|live| &live.manifest),
                origin.clone(),
                generation,
                now,
            )?;
            drafts.push(draft);
            let Some(draft) = drafts.last_mut() else {
                continue;
            };
            let mut damaged = live.map(|live| live.damaged).unwrap_or_default();
            let before = damaged.len();
            for name in &target.keep {
                if !draft.keep(name)? {
                    damaged.insert(name.clone());
                }
            }
            if damaged.len() > before {
                self.planner.damaged(&target.consumer, damaged);
                return Err(Trouble::Damaged);
            }
        }
        Ok(())
    }

    /// Opens one value and writes it wherever it is read. It stands in the locked buffer alone, in
    /// its two shapes, and is wiped before the next.
    fn write_value(
        &mut self,
        item: &FetchItem,
        targets: &[Target],
        drafts: &mut [Draft],
        opener: Option<Opener<'_>>,
    ) -> Result<(), Trouble> {
        let name = &item.name;
        let reject = |code, reason: &dyn std::fmt::Display| {
            Trouble::Error(failure(code, format!("secret {name}: {reason}")))
        };
        let (Some(sealed), Some(opener)) = (self.sealed.get(item), opener) else {
            return Err(reject(Code::Failed, &"its value is not at hand"));
        };
        let len = sealed.plain_len().map_err(|e| reject(Code::Failed, &e))?;
        let mut room = self
            .buffer
            .room(len.saturating_add(bound(len)))
            .map_err(|e| reject(Code::Failed, &e))?;
        let len =
            open(item, sealed, opener, &mut room, len).map_err(|e| reject(Code::Failed, &e))?;
        let (payload, out) = room.split_at_mut(len);
        for (target, draft) in targets.iter().zip(drafts) {
            let Some((version, format)) = target.files.get(name) else {
                continue;
            };
            if target.keep.contains(name) {
                continue;
            }
            let mut write = |file: &FileName, content: &[u8]| {
                if file.below().is_some() {
                    let reason = "`format: fields` is not delivered by this agent";
                    return Err(Unwritten::Trouble(reject(Code::Invalid, &reason)));
                }
                let written = draft.write(name, version, *format, content);
                written.map_err(|error| Unwritten::Trouble(error.into()))
            };
            render(name, payload, *format, out, &mut write).map_err(
                |unwritten| match unwritten {
                    Unwritten::Render(error) => reject(Code::Invalid, &error),
                    Unwritten::Trouble(trouble) => trouble,
                },
            )?;
        }
        Ok(())
    }

    fn commit(&mut self, draft: Draft) -> Result<(), Trouble> {
        let consumer = draft.consumer().clone();
        let committed = self.delivery.commit(draft);
        let Some(manifest) = committed.live else {
            return committed.error.map_or(Ok(()), |error| Err(error.into()));
        };
        self.planner.delivered(consumer, manifest);
        // After the swap the values can be read, but perhaps not by every name: the deployment is
        // failed, and its links are mended before the next attempt.
        committed.error.map_or(Ok(()), |error| {
            Err(Trouble::Error(failure(Code::Failed, error.to_string())))
        })
    }

    /// Lets the manifest name another policy or service version; services see no change.
    fn relabel(&mut self, consumer: &ConsumerId, origin: &Origin) -> Result<(), Trouble> {
        let Some(live) = self.planner.actual().get(consumer) else {
            return Ok(());
        };
        let mut manifest = live.manifest.clone();
        manifest.origin = Some(origin.clone());
        self.delivery.rewrite_manifest(consumer, &manifest)?;
        self.planner.delivered(consumer.clone(), manifest);
        Ok(())
    }
}

/// Opens `sealed` at the start of `room`, with the first key that fits.
fn open(
    item: &FetchItem,
    sealed: &Sealed,
    opener: Opener<'_>,
    room: &mut Room<'_>,
    len: usize,
) -> Result<usize, SealError> {
    let place = Place::Node {
        org: opener.org,
        node: opener.node,
        service: &item.service,
        name: &item.name,
        version: &item.version,
    };
    let mut error = SealError::Rejected;
    for key in opener.keys {
        let part = room.get_mut(..len).ok_or(SealError::Malformed)?;
        match sealed.open_into(key, &place, part) {
            Ok(plain) => return Ok(plain.len()),
            Err(refused) => error = refused,
        }
    }
    Err(error)
}

fn failure(code: Code, detail: String) -> DeploymentError {
    DeploymentError { code, detail }
}
