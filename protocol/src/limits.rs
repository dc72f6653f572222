//! Bounds that both sides keep to. A body, value or list above its bound is refused, never cut.

/// Largest encoded payload of one secret (all fields together), in bytes.
pub const MAX_SECRET_BYTES: usize = 512 * 1024;

/// Most fields that one secret may have.
pub const MAX_FIELDS: usize = 64;

/// Most items in one `POST /v1/secrets`; who wants more asks again.
pub const MAX_BATCH_ITEMS: usize = 512;

/// The hub stops adding sealed values to one answer past this many bytes and marks the remaining
/// items [`Code::BatchFull`](crate::Code::BatchFull).
pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Largest request body that the hub reads from a node, or from who would be one, in bytes; but for
/// reports.
pub const MAX_NODE_REQUEST: usize = 1024 * 1024;

/// Largest report that the hub reads from a node, in bytes. One of [`MAX_DEPLOYMENTS`] and
/// [`MAX_NODE_SECRETS`] fits.
pub const MAX_STATUS_REQUEST: usize = 4 * 1024 * 1024;

/// Largest request body that the hub reads from an operator, in bytes.
pub const MAX_ADMIN_REQUEST: usize = 2 * 1024 * 1024;

/// Largest response body that an agent reads, in bytes.
pub const MAX_RESPONSE: usize = 8 * 1024 * 1024;

/// Longest line of a watch stream that an agent reads, in bytes.
pub const MAX_WATCH_LINE: usize = 4096;

/// Most declared secrets on one node, counted once for their deployment and once for every consumer
/// that reads them. Their bindings fit into [`MAX_RESPONSE`].
pub const MAX_NODE_SECRETS: usize = 16_384;

/// Most deployments on one node.
pub const MAX_DEPLOYMENTS: usize = 4096;
