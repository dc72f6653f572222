//! What a former life left: what is referenced stays as it is, everything else is wiped.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::time::Instant;

use edge_secrets_protocol::{OrgId, ServiceId, ServiceUrl};
use jiff::Timestamp;
use tracing::{info, warn};

use super::dir::{Dir, FsError, Kind};
use super::generation::mend_links;
use super::manifest::Manifest;
use super::{ConsumerId, DATA, Delivery, ENDED, Former, GENERATION, place, wipe};

impl Delivery {
    /// Wipes what nothing points to, mends links, and gives what every consumer can read. Values that
    /// a service could have open wait for it, as after a rotation.
    pub(super) fn sweep(&mut self) -> Result<Former, FsError> {
        let mut errors = Vec::new();
        let mut live = BTreeMap::new();
        let mut unclear = BTreeSet::new();
        for consumer in self.consumers(&mut errors) {
            match self.sweep_consumer(&consumer, &mut errors) {
                Ok(Some(manifest)) => {
                    live.insert(consumer, manifest);
                }
                Ok(None) => {}
                Err(error) => {
                    errors.push(error);
                    unclear.insert(consumer);
                }
            }
        }
        let ended = self.sweep_manifests(&live, &unclear, &mut errors);
        for error in errors {
            warn!(%error, "Part of the runtime directory cannot be swept.");
        }
        if !self.wiper.is_empty() {
            info!("Values of a former life are being wiped.");
            self.wiper
                .tick(Instant::now(), &self.services, &self.manifests);
        }
        Ok(Former { live, ended })
    }

    /// Every consumer that has a directory. What does not fit into the layout is named in `errors`
    /// and left alone.
    pub(super) fn consumers(&self, errors: &mut Vec<FsError>) -> Vec<ConsumerId> {
        let mut found = Vec::new();
        each_place(&self.services, errors, |consumer, dir, _| match consumer {
            Some(consumer) => found.push(consumer),
            None => warn!(
                directory = %dir.path().display(),
                "A directory among the services is not one of the agent's; left alone."
            ),
        });
        found
    }

    /// What is in the way of cleaning is noted in `errors`; an error is that nothing is known.
    fn sweep_consumer(
        &mut self,
        consumer: &ConsumerId,
        errors: &mut Vec<FsError>,
    ) -> Result<Option<Manifest>, FsError> {
        let home = place(&self.services, consumer)?;
        let live = live_generation(&home)?;
        for (name, kind) in home.list()? {
            let reserved = name.to_str().is_some_and(|name| name.starts_with(".."));
            if live.is_some() && (live.as_deref() == name.to_str() || name == DATA) {
                continue;
            }
            let swept = match kind {
                Kind::Directory => self.wiper.discard(consumer, &home, &name),
                Kind::Link if reserved || live.is_none() => home.unlink(&name),
                Kind::Link => Ok(()),
                _ => wipe::wipe_now(&home, &name),
            };
            errors.extend(swept.err());
        }
        let Some(generation) = live else {
            return Ok(None);
        };
        let manifest = place(&self.manifests, consumer)
            .and_then(|dir| dir.read_small(&generation))
            .ok()
            .and_then(|bytes| Manifest::decode(&bytes))
            .filter(|manifest| manifest.generation == generation);
        if let Some(mut manifest) = manifest {
            manifest.adopt(self.boot.as_ref());
            errors.extend(mend_links(&home, &manifest).err());
            return Ok(Some(manifest));
        }
        warn!(%consumer, "What a consumer reads has no manifest; it stays until the hub has been asked.");
        Ok(Some(Manifest {
            origin: None,
            generation,
            since: Timestamp::now(),
            shape: String::new(),
            unannounced: false,
            boot: None,
            secrets: BTreeMap::new(),
            files: BTreeMap::new(),
        }))
    }

    /// Gives the notes of what has ended.
    fn sweep_manifests(
        &self,
        live: &BTreeMap<ConsumerId, Manifest>,
        unclear: &BTreeSet<ConsumerId>,
        errors: &mut Vec<FsError>,
    ) -> BTreeMap<ConsumerId, Manifest> {
        let mut ended = BTreeMap::new();
        let mut nothing = Vec::new();
        let generations: BTreeSet<(&ConsumerId, &str)> = live
            .iter()
            .map(|(consumer, manifest)| (consumer, manifest.generation.as_str()))
            .collect();
        each_place(&self.manifests, errors, |consumer, dir, errors| {
            if consumer.as_ref().is_some_and(|id| unclear.contains(id)) {
                return;
            }
            let entries = match dir.list() {
                Ok(entries) => entries,
                Err(error) => {
                    errors.push(error);
                    return;
                }
            };
            for (file, _) in entries {
                let kept = consumer.as_ref().zip(file.to_str());
                if kept.is_some_and(|key| generations.contains(&key)) {
                    continue;
                }
                let note = kept.filter(|(id, file)| *file == ENDED && !live.contains_key(id));
                let note = note.and_then(|(id, _)| {
                    let manifest = Manifest::decode(&dir.read_small(ENDED).ok()?)?;
                    Some((id.clone(), manifest))
                });
                match note {
                    Some((id, manifest)) => {
                        ended.insert(id, manifest);
                    }
                    None => errors.extend(dir.unlink(&file).err()),
                }
            }
            nothing.extend(consumer.filter(|id| !live.contains_key(id) && !ended.contains_key(id)));
        });
        // A kill while something was undeployed leaves the empty directory.
        for consumer in nothing {
            errors.extend(self.drop_manifests(&consumer));
        }
        ended
    }
}

/// The generation that `..data` points to, when it is one and is there.
fn live_generation(home: &Dir) -> Result<Option<String>, FsError> {
    let target = home.link_target(DATA)?;
    let Some(name) = target.as_deref().and_then(OsStr::to_str) else {
        return Ok(None);
    };
    if !name.starts_with(GENERATION) || name.contains('/') {
        return Ok(None);
    }
    match home.kind(name) {
        Ok(Kind::Directory) => Ok(Some(name.to_owned())),
        Ok(_) => Ok(None),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Shows every directory of the third level, with the consumer that its path names, if any.
pub(super) fn each_place(
    root: &Dir,
    errors: &mut Vec<FsError>,
    mut show: impl FnMut(Option<ConsumerId>, &Dir, &mut Vec<FsError>),
) {
    each_directory(root, errors, |org, org_dir, errors| {
        each_directory(org_dir, errors, |url, url_dir, errors| {
            each_directory(url_dir, errors, |name, dir, errors| {
                show(consumer_id(org, url, name), dir, errors);
            });
        });
    });
}

/// Shows the directories in `dir`, one open at a time: there can be more of them than descriptors.
/// A link is none.
fn each_directory(
    dir: &Dir,
    errors: &mut Vec<FsError>,
    mut show: impl FnMut(&OsStr, &Dir, &mut Vec<FsError>),
) {
    let entries = match dir.list() {
        Ok(entries) => entries,
        Err(error) => {
            errors.push(error);
            return;
        }
    };
    for (name, _) in entries {
        match dir.open_dir(&name) {
            Ok(sub) => show(&name, &sub, errors),
            Err(error) => errors.push(error),
        }
    }
}

fn consumer_id(org: &OsStr, url: &OsStr, consumer: &OsStr) -> Option<ConsumerId> {
    let org: OrgId = org.to_str()?.parse().ok()?;
    let url = service_url(url.to_str()?)?;
    Some(ConsumerId {
        service: ServiceId { org, url },
        consumer: consumer.to_str()?.parse().ok()?,
    })
}

/// Undoes [`ServiceUrl::dir_name`].
fn service_url(dir_name: &str) -> Option<ServiceUrl> {
    let mut bytes = Vec::with_capacity(dir_name.len());
    let mut rest = dir_name.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let (digits, tail) = tail.split_first_chunk::<2>()?;
            let digits = std::str::from_utf8(digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    let url: ServiceUrl = String::from_utf8(bytes).ok()?.parse().ok()?;
    (url.dir_name() == dir_name).then_some(url)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_service_is_found_again_by_its_directory(url in "[!-~]{1,60}") {
            let url: ServiceUrl = url.parse().unwrap();
            prop_assert_eq!(service_url(&url.dir_name()), Some(url));
        }

        #[test]
        fn a_foreign_directory_is_no_service(name in any::<String>()) {
            if let Some(url) = service_url(&name) {
                prop_assert_eq!(url.dir_name(), name);
            }
        }
    }
}
