//! The parts of a running hub, as the API's handlers see them.

use std::sync::Arc;

use edge_secrets_protocol::SealingKey;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::deploy::Models;
use crate::feed::Feed;
use crate::lease::Leases;
use crate::managers::embedded::Embedded;
use crate::managers::registry::Registry;
use crate::observe::Hints;
use crate::pki::Pki;

/// A running hub.
pub struct Hub {
    /// What it was told.
    pub config: Config,
    /// What it remembers.
    pub catalog: Arc<dyn Catalog>,
    /// The hub's own secrets manager.
    pub secrets: Arc<Embedded>,
    /// The secrets managers outside it.
    pub managers: Registry,
    /// What tells their watchers to look at once.
    pub hints: Hints,
    /// The line to the keeper of leases, and the values of live ones.
    pub leases: Leases,
    /// Its certificate authority.
    pub pki: Pki,
    /// Who watches, and the news for them.
    pub feed: Feed,
    /// What operators seal values to.
    pub sealing_key: SealingKey,
    /// Parsed definitions by organisation and revision.
    pub models: Models,
}
