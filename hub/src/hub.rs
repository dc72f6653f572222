//! The parts of a running hub, as the API's handlers see them.

use std::sync::Arc;

use edge_secrets_protocol::SealingKey;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::deploy::Models;
use crate::feed::Feed;
use crate::managers::embedded::Embedded;
use crate::pki::Pki;

/// A running hub.
pub struct Hub {
    /// What it was told.
    pub config: Config,
    /// What it remembers.
    pub catalog: Arc<dyn Catalog>,
    /// The default secrets manager.
    pub secrets: Embedded,
    /// Its certificate authority.
    pub pki: Pki,
    /// Who watches, and the news for them.
    pub feed: Feed,
    /// What operators seal values to.
    pub sealing_key: SealingKey,
    /// Parsed definitions by organisation and revision.
    pub models: Models,
}
