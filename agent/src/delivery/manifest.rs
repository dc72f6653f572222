//! What stands in one generation of one consumer: names and versions, never a value. Written before
//! the generation can be reached, so that what is live is known after every restart.

use std::collections::{BTreeMap, BTreeSet};

use edge_secrets_protocol::binding::Format;
use edge_secrets_protocol::{DeploymentId, Generation, SecretName, SecretVersion, Source};
use jiff::Timestamp;
use nix::sys::stat::FileStat;
use serde::{Deserialize, Serialize};

use super::GENERATION;
use super::dir::{Kind, kind};
use crate::clock::BootTime;
use crate::consumers::names::FileName;
use crate::ends::End;

/// What one consumer can read now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Where it came from; none when what lies there has no readable manifest.
    pub(crate) origin: Option<Origin>,
    /// The directory's name under the consumer, `..g42.k3f9`.
    pub(crate) generation: String,
    /// Since when it can be read.
    pub(crate) since: Timestamp,
    /// The mark of the shape that it was written by; empty for the one without a profile.
    #[serde(default)]
    pub(crate) shape: String,
    /// Its on-change action is still to be done.
    #[serde(default)]
    pub(crate) unannounced: bool,
    /// The boot whose clock the ends of secrets are told by, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) boot: Option<String>,
    /// Every secret that it was made of.
    pub(crate) secrets: BTreeMap<SecretName, ManifestSecret>,
    /// Every file.
    pub(crate) files: BTreeMap<FileName, ManifestFile>,
}

/// The deployment that a generation belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// The deployment.
    pub(crate) deployment: DeploymentId,
    /// The policy that placed it.
    pub(crate) policy: Source,
    /// The service's version.
    pub(crate) service_version: String,
}

/// One secret of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestSecret {
    /// The value's version.
    pub(crate) version: SecretVersion,
    /// How it is written.
    pub(crate) format: Format,
    /// Since when this version can be read.
    pub(crate) since: Timestamp,
    /// When it must not be read any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) end: Option<End>,
}

/// One file of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestFile {
    /// The secrets that it shows something of.
    pub(crate) made_of: BTreeSet<SecretName>,
    /// The very file that was written.
    pub(crate) file: FileMark,
}

/// Enough of a file to notice that it is another one or has been written to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileMark {
    inode: u64,
    len: i64,
    modified: (i64, i64),
}

impl FileMark {
    pub(crate) fn of(stat: &FileStat) -> Self {
        Self {
            inode: stat.st_ino,
            len: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
        }
    }

    /// Whether `stat` is of the file that was marked, as it was then. Says nothing of its owner and
    /// mode, which an administrator may have changed.
    pub(crate) fn fits(&self, stat: &FileStat) -> bool {
        kind(stat) == Kind::File && *self == Self::of(stat)
    }
}

impl Manifest {
    /// The generation that it was delivered by, where its name says so.
    pub(crate) fn number(&self) -> Option<Generation> {
        let number = self
            .generation
            .strip_prefix(GENERATION)?
            .split('.')
            .next()?;
        number.parse().ok().map(Generation)
    }

    /// The names in the consumer's directory itself.
    pub(crate) fn visible(&self) -> BTreeSet<&str> {
        let shown = self.files.keys().filter(|file| !file.is_hidden());
        shown.map(FileName::top).collect()
    }

    /// Takes it over in this boot. An end by another boot's clock cannot be judged: the value is taken
    /// for over, as it would otherwise live for an unknown time. Where either boot is not known they are
    /// one, since what lies in memory does not outlive a boot.
    pub(super) fn adopt(&mut self, boot: Option<&String>) {
        if self.boot.is_some() && boot.is_some() && self.boot.as_ref() != boot {
            let ends = self.secrets.values_mut().flat_map(|s| &mut s.end);
            ends.for_each(|end| end.at = BootTime::LONG_AGO);
        }
        self.boot = boot.cloned();
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Strings, numbers and maps with string keys: there is nothing that cannot be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(end: serde_json::Value, boot: serde_json::Value) -> Manifest {
        let mut text = json!({
            "origin": null, "generation": "..g1.x", "since": "2026-01-01T00:00:00Z", "files": {},
            "secrets": {"cred": {
                "version": "1", "format": "json", "since": "2026-01-01T00:00:00Z"
            }},
        });
        if !end.is_null() {
            text["secrets"]["cred"]["end"] = end;
            text["boot"] = boot;
        }
        Manifest::decode(text.to_string().as_bytes()).unwrap()
    }

    fn end(manifest: &Manifest) -> Option<BootTime> {
        let end = manifest.secrets.values().next().unwrap().end;
        end.map(|end| end.at)
    }

    #[test]
    fn one_of_an_older_agent_has_no_ends() {
        let mut old = manifest(json!(null), json!(null));
        assert_eq!((end(&old), &old.boot), (None, &None));
        old.adopt(Some(&"this".into()));
        assert_eq!(end(&old), None);
        assert_eq!(Manifest::decode(&old.encode()), Some(old));
    }

    #[test]
    fn an_end_by_the_clock_of_another_boot_is_over() {
        let told = json!({"boot_ms": 5000, "until": "2026-01-01T00:00:00Z"});
        let five = BootTime::LONG_AGO.after(std::time::Duration::from_secs(5));
        let this = "this".to_owned();
        for (written, now, expected) in [
            (json!("this"), Some(&this), five),
            (json!(null), Some(&this), five),
            (json!("this"), None, five),
            (json!("other"), Some(&this), BootTime::LONG_AGO),
        ] {
            let mut manifest = manifest(told.clone(), written);
            manifest.adopt(now);
            assert_eq!(end(&manifest), Some(expected));
            assert_eq!(manifest.boot.as_ref(), now);
        }
    }
}
