//! From a change of definitions or nodes to committed placements.

use edge_secrets_protocol::OrgId;

use crate::catalog::CatalogError;
use crate::catalog::records::{Change, Committed, NewAudit};
use crate::hub::Hub;

/// Parsed definitions by organisation and revision, so that a change does not parse the rest again.
#[derive(Debug, Default)]
pub struct Models {}

/// Works out what `change` does to the organisation's nodes and commits both, taking a new snapshot
/// and trying again when another change came between.
pub async fn apply(
    _hub: &Hub,
    _org: &OrgId,
    _change: Change,
    _audit: NewAudit,
) -> Result<Committed, CatalogError> {
    unimplemented!()
}
