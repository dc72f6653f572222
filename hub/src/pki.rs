//! The hub's certificate authority.

/// The certificate authority and the server's own identity.
pub struct Pki {}
