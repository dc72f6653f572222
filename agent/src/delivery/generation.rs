//! One consumer's next generation: written beside the live one, then swapped in. The order of steps
//! and its reasons stand in `delivery.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use edge_secrets_protocol::{Generation, SecretName};
use jiff::Timestamp;
use tracing::warn;

use super::dir::{Dir, FsError, Kind};
use super::manifest::{FileMark, Manifest, ManifestFile, ManifestSecret, Origin};
use super::owner::Ownership;
use super::wipe::Wiper;
use super::{ConsumerId, DATA, Delivery, GENERATION, OPEN_DIR, OWN_DIR, ensure_place, random_name};
use crate::consumers::names::FileName;

/// A generation that nobody can reach yet. It ends in [`Delivery::commit`] or
/// [`Delivery::discard`]; one that is forgotten is swept at the next start.
#[derive(Debug)]
pub(crate) struct Draft {
    consumer: ConsumerId,
    home: Dir,
    manifests: Dir,
    dir: Dir,
    manifest: Manifest,
    live: Option<Manifest>,
}

/// What a generation says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) origin: Origin,
    pub(crate) since: Timestamp,
    /// The mark of the shape that it is written by.
    pub(crate) shape: String,
    /// Somebody is to hear of it.
    pub(crate) announce: bool,
    /// Nobody but the agent's user looks into the consumer's directory.
    pub(crate) private: bool,
}

/// What came of a swap.
#[derive(Debug)]
pub(crate) struct Commit {
    /// What is live now; none when the swap itself was not done.
    pub(crate) live: Option<Manifest>,
    /// The first of what went wrong, in the swap or after it.
    pub(crate) error: Option<FsError>,
}

impl Draft {
    /// Begins the generation after `live`.
    pub(crate) fn begin(
        delivery: &Delivery,
        consumer: &ConsumerId,
        live: Option<&Manifest>,
        header: Header,
        generation: Generation,
    ) -> Result<Self, FsError> {
        let home = ensure_place(&delivery.services, consumer, OPEN_DIR)?;
        let manifests = ensure_place(&delivery.manifests, consumer, OWN_DIR)?;
        home.require_memory()?;
        manifests.require_memory()?;
        if header.private {
            // Before there is anything in it that it keeps from others.
            home.set_mode(OWN_DIR)?;
        }
        let name = random_name(&format!("{GENERATION}{generation}."));
        let dir = home.make_dir(&name, OWN_DIR)?;
        Ok(Self {
            consumer: consumer.clone(),
            home,
            manifests,
            dir,
            manifest: Manifest {
                origin: Some(header.origin),
                generation: name,
                since: header.since,
                shape: header.shape,
                unannounced: header.announce,
                boot: delivery.boot.clone(),
                secrets: BTreeMap::new(),
                files: BTreeMap::new(),
            },
            live: live.cloned(),
        })
    }

    pub(crate) fn consumer(&self) -> &ConsumerId {
        &self.consumer
    }

    /// Notes which version of a secret the generation shows.
    pub(crate) fn shows(&mut self, name: &SecretName, secret: ManifestSecret) {
        self.manifest.secrets.insert(name.clone(), secret);
    }

    /// Takes a file over from the live generation by a second link, so that nothing is written.
    /// `false` when there is none, or not the one that was written.
    pub(crate) fn keep(&mut self, name: &FileName) -> Result<bool, FsError> {
        let Some(live) = &self.live else {
            return Ok(false);
        };
        let Some(file) = live.files.get(name) else {
            return Ok(false);
        };
        let linked = self.home.open_dir(&live.generation).and_then(|old| {
            let Some(below) = name.below() else {
                old.link_to(name.top(), &self.dir)?;
                return self.dir.stat(name.top());
            };
            let new = self.dir.ensure_dir(name.top(), mode_above(name))?;
            old.open_dir(name.top())?.link_to(below, &new)?;
            new.stat(below)
        });
        match linked {
            Ok(stat) if file.file.fits(&stat) => {
                self.manifest.files.insert(name.clone(), file.clone());
                Ok(true)
            }
            // The whole draft is thrown away then, this link with it.
            Ok(_) => Ok(false),
            Err(error) if error.is_full() => Err(error),
            Err(error) => {
                warn!(consumer = %self.consumer, %error, "A delivered file is not what was written.");
                Ok(false)
            }
        }
    }

    /// Writes one file. The file system is looked at before every one.
    pub(crate) fn write(
        &mut self,
        name: &FileName,
        made_of: BTreeSet<SecretName>,
        content: &[u8],
        mode: u32,
        owner: Ownership,
    ) -> Result<(), FsError> {
        let stat = match name.below() {
            None => {
                self.dir.require_memory()?;
                self.dir.write_new(name.top(), content, mode, owner)?
            }
            Some(below) => {
                let dir = self.dir.ensure_dir(name.top(), mode_above(name))?;
                dir.require_memory()?;
                dir.write_new(below, content, mode, owner)?
            }
        };
        let file = FileMark::of(&stat);
        self.manifest
            .files
            .insert(name.clone(), ManifestFile { made_of, file });
        Ok(())
    }

    /// Makes everything ready for the swap: nothing after this needs room for more than a link.
    pub(crate) fn finish(&self) -> Result<(), FsError> {
        self.dir.set_mode(OPEN_DIR)?;
        let content = self.manifest.encode();
        self.manifests
            .write_new(
                &self.manifest.generation,
                &content,
                0o600,
                Ownership::default(),
            )
            .map(drop)
    }

    pub(super) fn commit(self, wiper: &mut Wiper) -> Commit {
        if let Err(error) = point(&self.home, DATA, OsStr::new(&self.manifest.generation)) {
            self.discard(wiper);
            return Commit {
                live: None,
                error: Some(error),
            };
        }
        let mut errors = mend_names(&self.home, &self.manifest);
        if let Some(old) = &self.live {
            for name in old.visible().difference(&self.manifest.visible()) {
                errors.extend(self.home.unlink(name).err());
            }
            wiper.superseded(&self.consumer, &old.generation);
        }
        Commit {
            live: Some(self.manifest),
            error: errors.into_iter().next(),
        }
    }

    pub(super) fn discard(self, wiper: &mut Wiper) {
        let name = OsStr::new(&self.manifest.generation);
        let gone = wiper
            .discard_unused(&self.consumer, &self.home, name)
            .and_then(|()| self.manifests.unlink(name));
        if let Err(error) = gone {
            warn!(consumer = %self.consumer, %error, "An unused generation cannot be wiped yet.");
            wiper.superseded(&self.consumer, &self.manifest.generation);
        }
    }
}

/// The mode of the directory that a file stands in, below its generation.
fn mode_above(name: &FileName) -> u32 {
    if name.is_hidden() { OWN_DIR } else { OPEN_DIR }
}

/// The files of `manifest` that are missing or not the ones that were written.
pub(super) fn damaged(home: &Dir, manifest: &Manifest) -> Result<BTreeSet<FileName>, FsError> {
    let all = || manifest.files.keys().cloned().collect();
    let dir = match home.kind(&manifest.generation) {
        Ok(Kind::Directory) => home.open_dir(&manifest.generation)?,
        Ok(_) => return Ok(all()),
        Err(error) if error.is_missing() => return Ok(all()),
        Err(error) => return Err(error),
    };
    let mut damaged = BTreeSet::new();
    for (name, file) in &manifest.files {
        let stat = match name.below() {
            None => dir.stat(name.top()),
            Some(below) => dir.open_dir(name.top()).and_then(|dir| dir.stat(below)),
        };
        match stat {
            Ok(stat) if file.file.fits(&stat) => {}
            Ok(_) => {
                damaged.insert(name.clone());
            }
            Err(error) if error.is_missing() => {
                damaged.insert(name.clone());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(damaged)
}

/// Makes `..data` and the visible names what they should be, and removes links of other names.
pub(super) fn mend_links(home: &Dir, manifest: &Manifest) -> Result<(), FsError> {
    point(home, DATA, OsStr::new(&manifest.generation))?;
    if let Some(error) = mend_names(home, manifest).into_iter().next() {
        return Err(error);
    }
    let visible = manifest.visible();
    for (name, kind) in home.list()? {
        let known = name
            .to_str()
            .is_some_and(|name| name == DATA || visible.contains(name));
        if kind == Kind::Link && !known {
            home.unlink(&name)?;
        }
    }
    Ok(())
}

fn mend_names(home: &Dir, manifest: &Manifest) -> Vec<FsError> {
    let mut errors = Vec::new();
    for name in manifest.visible() {
        let target = format!("{DATA}/{name}");
        errors.extend(point(home, name, OsStr::new(&target)).err());
    }
    errors
}

/// Lets the link `name` point to `target`, by a rename, whatever link or file stood there.
fn point(home: &Dir, name: &str, target: &OsStr) -> Result<(), FsError> {
    if home.link_target(name)?.as_deref() == Some(target) {
        return Ok(());
    }
    let temporary = random_name("..link.");
    home.symlink(target, &temporary)?;
    let moved = home.rename(&temporary, home, name);
    if moved.is_err() {
        home.unlink(&temporary).ok();
    }
    moved
}
