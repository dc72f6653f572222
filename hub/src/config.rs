//! `hub.yaml`.

/// What the hub was told.
#[derive(Debug, Clone)]
pub struct Config {}
