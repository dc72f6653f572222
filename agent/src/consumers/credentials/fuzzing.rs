//! Peers' names as foreign bytes: see [`crate::fuzzing`].

use super::address::Request;

/// The address that a connection comes from.
///
/// # Panics
/// Where what it names could be more than one path's part.
pub fn credential(bytes: &[u8]) {
    if let Ok(request) = Request::parse(bytes) {
        let shown = request.to_string();
        assert!(!shown.contains('/') && !shown.contains('\0'), "{shown}");
    }
}
