//! What stands in one generation of one consumer: names and versions, never a value. Written before
//! the generation can be reached, so that what is live is known after every restart.

use std::collections::{BTreeMap, BTreeSet};

use edge_secrets_protocol::binding::Format;
use edge_secrets_protocol::{DeploymentId, PolicyName, SecretName, SecretVersion};
use jiff::Timestamp;
use nix::sys::stat::FileStat;
use serde::{Deserialize, Serialize};

use super::dir::{Kind, kind};
use crate::consumers::names::FileName;

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
    pub(crate) policy: PolicyName,
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
    /// The names in the consumer's directory itself.
    pub(crate) fn visible(&self) -> BTreeSet<&str> {
        self.files.keys().map(FileName::top).collect()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Strings, numbers and maps with string keys: there is nothing that cannot be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
