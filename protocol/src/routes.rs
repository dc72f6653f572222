//! The paths of the node protocol, version 1. `protocol/openapi.yaml` describes them.

/// `POST`: a one-time token, a CSR and a sealing key for an identity. No client certificate.
pub const ENROLL: &str = "/v1/enroll";
/// `POST`: a new CSR, and perhaps a new sealing key, over the old identity.
pub const RENEW: &str = "/v1/renew";
/// `PUT`: what the node says of itself.
pub const NODE: &str = "/v1/node";
/// `GET`: server-sent events, see [`crate::watch`].
pub const WATCH: &str = "/v1/watch";
/// `GET`: the node's deployments and bindings; the entity tag is the generation.
pub const BINDINGS: &str = "/v1/bindings";
/// `POST`: a batch of sealed values.
pub const SECRETS: &str = "/v1/secrets";
/// `PUT`: what is applied.
pub const STATUS: &str = "/v1/status";
