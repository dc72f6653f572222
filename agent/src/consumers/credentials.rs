//! `LoadCredential=NAME:/run/edge-secrets/credentials.sock` (systemd.exec(5)): one connection per
//! credential, from root, from an address that names unit and credential.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::names::FileName;
use super::profiles::Profiles;
use crate::delivery::ConsumerId;

/// What can be given out now. Published by the agent whenever it changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf {
    pub(crate) profiles: Arc<Profiles>,
    pub(crate) consumers: BTreeMap<ConsumerId, Shelved>,
}

/// One consumer's live generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shelved {
    /// The generation's own directory: what is opened below it is never of another generation.
    pub(crate) generation: PathBuf,
    pub(crate) files: BTreeSet<FileName>,
}
