//! The plan carried out: values opened, written, swapped in, wiped.

use std::collections::BTreeSet;

use edge_secrets_protocol::binding::FetchItem;
use edge_secrets_protocol::sealed::{Place, SealError};
use edge_secrets_protocol::status::DeploymentError;
use edge_secrets_protocol::{
    Code, DeploymentId, Fields, NodeId, OrgId, Sealed, SealingKey, SecretName,
};
use jiff::Timestamp;
use tracing::{info, warn};

use super::Reconciler;
use super::plan::{Target, Work};
use crate::consumers::names::FileName;
use crate::consumers::profile::Shape;
use crate::delivery::{
    ConsumerId, Draft, FsError, Header, MAX_RENDERED, ManifestSecret, Origin, Ownership,
    RenderError, VALUE_FILE, bound, render, render_template, resolve,
};

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

/// Why one file was not written.
enum FileTrouble {
    Render(RenderError),
    Fs(FsError),
}

impl From<RenderError> for FileTrouble {
    fn from(error: RenderError) -> Self {
        Self::Render(error)
    }
}

impl FileTrouble {
    /// What the file was to show, and what went wrong.
    fn of(self, what: &dyn std::fmt::Display) -> Trouble {
        match self {
            Self::Render(error) => {
                Trouble::Error(failure(Code::Invalid, format!("{what}: {error}")))
            }
            Self::Fs(error) => error.into(),
        }
    }
}

/// One consumer's next generation, while it is written.
struct Page<'t> {
    target: &'t Target,
    draft: Draft,
    owner: Ownership,
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
                Ok(()) => {
                    self.counters.deliveries.increment();
                    info!(deployment = %id, "Deployment delivered.");
                }
                Err(Trouble::Damaged) => {
                    // Its values stay at hand for the next attempt.
                    continue;
                }
                Err(Trouble::Error(error) | Trouble::Full(error)) => {
                    self.counters.delivery_failures.increment();
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
        self.unwiped = false;
        for consumer in self.planner.leftovers() {
            let ending = self.planner.ending(&consumer);
            let errors = match &ending {
                Some(ended) => self.delivery.end(&consumer, ended),
                None => self.delivery.undeploy(&consumer),
            };
            let Some(first) = errors.first() else {
                self.counters.wipes.increment();
                self.planner.wiped(&consumer);
                match ending {
                    Some(ended) => {
                        warn!(%consumer, "Wiped, as a value of it has ended.");
                        self.planner.note_ended(&consumer, ended);
                    }
                    None => info!(%consumer, "Wiped."),
                }
                continue;
            };
            self.unwiped = true;
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
        for consumer in self.planner.forget_ended() {
            self.forget_end(&consumer);
        }
    }

    /// Writes down when values end where that has changed; their files stay as they are.
    pub(super) fn note_ends(&mut self) {
        for (consumer, manifest) in self.planner.moved() {
            self.planner.noted(&consumer, manifest);
            self.unnoted.insert(consumer);
        }
        for consumer in std::mem::take(&mut self.unnoted) {
            let Some(live) = self.planner.actual().get(&consumer) else {
                continue;
            };
            if let Err(error) = self.delivery.rewrite_manifest(&consumer, &live.manifest) {
                // It holds as long as the agent lives, and is written with the next bindings.
                warn!(%consumer, %error, "It cannot be noted when values end.");
                self.unnoted.insert(consumer);
            }
        }
    }

    fn forget_end(&self, consumer: &ConsumerId) {
        // Left over, it is swept at the next start, or says that somebody should hear once more.
        if let Err(error) = self.delivery.forget_end(consumer) {
            warn!(%consumer, %error, "The note of an end cannot be removed.");
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
        let mut pages = Vec::with_capacity(work.targets.len());
        let mut prepared = self.prepare(&work.targets, &origin, &mut pages, now);
        if prepared.is_ok() {
            prepared = work
                .values
                .iter()
                .try_for_each(|item| self.write_value(item, &mut pages, opener));
        }
        if prepared.is_ok() {
            prepared = pages
                .iter_mut()
                .try_for_each(|page| self.write_templates(page, opener));
        }
        if prepared.is_ok() {
            prepared = pages.iter().try_for_each(|page| Ok(page.draft.finish()?));
        }
        let mut drafts = pages.into_iter().map(|page| page.draft);
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

    fn prepare<'t>(
        &mut self,
        targets: &'t [Target],
        origin: &Origin,
        pages: &mut Vec<Page<'t>>,
        now: Timestamp,
    ) -> Result<(), Trouble> {
        let generation = self.planner.generation().unwrap_or_default();
        for target in targets {
            let consumer = &target.consumer;
            let shaped = self.planner.shape(consumer);
            let shape = shaped.shape;
            let owner = resolve(shape.owner.as_ref(), shape.group.as_ref())
                .map_err(|error| Trouble::Error(failure(Code::Failed, error.to_string())))?;
            let live = self.planner.actual().get(consumer);
            let manifest = live.map(|live| &live.manifest);
            let header = Header {
                origin: origin.clone(),
                since: now,
                shape: target.mark.clone(),
                announce: self.planner.announces(consumer),
                private: shape.private,
            };
            let draft = Draft::begin(&self.delivery, consumer, manifest, header, generation)?;
            pages.push(Page {
                target,
                draft,
                owner,
            });
            let Some(page) = pages.last_mut() else {
                continue;
            };
            for (name, (version, format)) in &target.secrets {
                let kept = manifest.filter(|_| !target.fresh.contains(name));
                let secret = kept
                    .and_then(|manifest| manifest.secrets.get(name))
                    .cloned();
                let secret = secret.unwrap_or_else(|| ManifestSecret {
                    version: version.clone(),
                    format: *format,
                    since: now,
                    end: self.planner.end(&origin.deployment, name),
                });
                page.draft.shows(name, secret);
            }
            let mut damaged = live.map(|live| live.damaged.clone()).unwrap_or_default();
            let before = damaged.len();
            for file in kept(
                target,
                shape,
                manifest.map(|manifest| manifest.files.keys()),
            ) {
                if !page.draft.keep(&file)? {
                    damaged.insert(file);
                }
            }
            if damaged.len() > before {
                self.planner.damaged(consumer, damaged);
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
        pages: &mut [Page<'_>],
        opener: Option<Opener<'_>>,
    ) -> Result<(), Trouble> {
        let name = &item.name;
        let what = format!("secret {name}");
        let mut pages = pages
            .iter_mut()
            .filter(|page| page.target.fresh.contains(name))
            .peekable();
        if pages.peek().is_none() {
            return Ok(());
        }
        let reject = |reason: &dyn std::fmt::Display| {
            Trouble::Error(failure(Code::Failed, format!("{what}: {reason}")))
        };
        let (Some(sealed), Some(opener)) = (self.sealed.get(item), opener) else {
            return Err(reject(&"its value is not at hand"));
        };
        let len = sealed.plain_len().map_err(|e| reject(&e))?;
        let mut room = self
            .buffer
            .room(len.saturating_add(bound(len)))
            .map_err(|e| reject(&e))?;
        let unopened = &mut self.unopened;
        let len = open(item, sealed, opener, &mut room, len, unopened).map_err(|e| reject(&e))?;
        let (payload, out) = room.split_at_mut(len);
        for page in pages {
            let Some((_, format)) = page.target.secrets.get(name) else {
                continue;
            };
            let shape = self.planner.shape(&page.target.consumer).shape;
            let special = shape.secrets.get(name).and_then(|secret| secret.mode);
            let asked = page.target.modes.get(name).copied();
            let mode = special.or(shape.mode).or(asked).unwrap_or(VALUE_FILE);
            let (draft, owner) = (&mut page.draft, page.owner);
            if self.planner.shape(&page.target.consumer).api {
                let own = Ownership::default();
                let made_of = BTreeSet::from([name.clone()]);
                draft.write(&FileName::hidden(name), made_of, payload, VALUE_FILE, own)?;
            }
            render(name, payload, *format, out, &mut |file, content| {
                let made_of = BTreeSet::from([name.clone()]);
                draft
                    .write(file, made_of, content, mode, owner)
                    .map_err(FileTrouble::Fs)
            })
            .map_err(|trouble| trouble.of(&what))?;
        }
        Ok(())
    }

    /// Renders a consumer's templates. The values that one reads stand in the locked buffer side by
    /// side, and are wiped before the next.
    fn write_templates(
        &mut self,
        page: &mut Page<'_>,
        opener: Option<Opener<'_>>,
    ) -> Result<(), Trouble> {
        let target = page.target;
        let shape = self.planner.shape(&target.consumer).shape;
        for template in target
            .rendered
            .iter()
            .filter_map(|at| shape.templates.get(*at))
        {
            let what = format!("template {}", template.name);
            let reject = |reason: &dyn std::fmt::Display| {
                Trouble::Error(failure(Code::Failed, format!("{what}: {reason}")))
            };
            let reads = |name: &SecretName| {
                template
                    .reads
                    .as_ref()
                    .is_none_or(|reads| reads.contains(name))
            };
            let mut sources = Vec::new();
            let mut total = 0_usize;
            for (name, (version, _)) in target.secrets.iter().filter(|(name, _)| reads(name)) {
                let item = FetchItem {
                    service: target.consumer.service.clone(),
                    name: name.clone(),
                    version: version.clone(),
                };
                let Some(sealed) = self.sealed.get(&item) else {
                    return Err(reject(&format_args!(
                        "the value of secret {name} is not at hand"
                    )));
                };
                let len = sealed.plain_len().map_err(|e| reject(&e))?;
                total = total.saturating_add(len);
                sources.push((name, item, sealed, len));
            }
            if total > MAX_SOURCES {
                return Err(reject(&"the secrets that it reads are too large together"));
            }
            let Some(opener) = opener else {
                return Err(reject(&"there is no key at hand"));
            };
            let mut room = self
                .buffer
                .room(total.saturating_add(MAX_RENDERED))
                .map_err(|e| reject(&e))?;
            let mut rest: &mut [u8] = &mut room;
            let mut secrets = Vec::with_capacity(sources.len());
            for (name, item, sealed, len) in sources {
                let Some((part, tail)) = rest.split_at_mut_checked(len) else {
                    return Err(reject(&"there is too little room"));
                };
                let unopened = &mut self.unopened;
                let len =
                    open(&item, sealed, opener, part, len, unopened).map_err(|e| reject(&e))?;
                let fields = Fields::decode(part.get(..len).unwrap_or_default());
                secrets.push((name, fields.map_err(|e| reject(&e))?));
                rest = tail;
            }
            let len = render_template(&template.text, &template.name, &secrets, rest)
                .map_err(|error| FileTrouble::Render(error).of(&what))?;
            let made_of = secrets.iter().map(|(name, _)| (*name).clone()).collect();
            let mode = template.mode.or(shape.mode).unwrap_or(VALUE_FILE);
            let content = rest.get(..len).unwrap_or_default();
            let file = FileName::from(&template.name);
            page.draft
                .write(&file, made_of, content, mode, page.owner)?;
        }
        Ok(())
    }

    fn commit(&mut self, draft: Draft) -> Result<(), Trouble> {
        let consumer = draft.consumer().clone();
        let committed = self.delivery.commit(draft);
        let Some(manifest) = committed.live else {
            return committed.error.map_or(Ok(()), |error| Err(error.into()));
        };
        if self.planner.ended().contains_key(&consumer) {
            self.forget_end(&consumer);
        }
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

/// The files of the live generation that stay as they are.
fn kept<'f>(
    target: &Target,
    shape: &Shape,
    files: Option<impl Iterator<Item = &'f FileName>>,
) -> Vec<FileName> {
    let rendered: BTreeSet<&str> = target
        .rendered
        .iter()
        .filter_map(|at| Some(shape.templates.get(*at)?.name.as_str()))
        .collect();
    let stays = |file: &&FileName| {
        let stem = file.stem();
        let mut secrets = target.secrets.keys();
        match secrets.find(|name| name.as_str() == stem) {
            Some(name) => !target.fresh.contains(name),
            None => {
                let mut templates = shape.templates.iter();
                templates.any(|t| t.name.as_str() == stem) && !rendered.contains(stem)
            }
        }
    };
    files.into_iter().flatten().filter(stays).cloned().collect()
}

/// Opens `sealed` at the start of `room`, with the first key that fits.
fn open(
    item: &FetchItem,
    sealed: &Sealed,
    opener: Opener<'_>,
    room: &mut [u8],
    len: usize,
    unopened: &mut BTreeSet<FetchItem>,
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
    if error == SealError::Rejected {
        unopened.insert(item.clone());
    }
    Err(error)
}

fn failure(code: Code, detail: String) -> DeploymentError {
    DeploymentError { code, detail }
}

/// Most bytes of values that one template may read.
const MAX_SOURCES: usize = 4 * 1024 * 1024;
