//! What is fed with foreign bytes, for the fuzz targets under `fuzz/` and for the plain tests that run their
//! corpora.

use std::path::Path;

use crate::config::Config;
use crate::reference::SecretRef;

pub use crate::backup::fuzzing::{archive, backup};
pub use crate::policy::fuzzing::{
    constraint, definition, document, node_policy, pattern, policy, version_range,
};
pub use edge_secrets_protocol::fuzzing::Target;

/// All of this crate.
pub const TARGETS: [Target; 11] = [
    ("definition", definition),
    ("policy", policy),
    ("pattern", pattern),
    ("node_policy", node_policy),
    ("document", document),
    ("constraint", constraint),
    ("version_range", version_range),
    ("hub_config", hub_config),
    ("reference", reference),
    ("backup", backup),
    ("archive", archive),
];

/// `hub.yaml`.
pub fn hub_config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    Config::parse(&text, Path::new("hub.yaml")).ok();
}

/// A secret's reference is canonical: written as it was read, or read again as it is written.
///
/// # Panics
/// Where it is not.
pub fn reference(bytes: &[u8]) {
    if let Ok(read) = String::from_utf8_lossy(bytes).parse::<SecretRef>() {
        assert_eq!(read.to_string().parse(), Ok(read));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpora_of_every_target_are_taken() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        edge_secrets_protocol::fuzzing::run_corpora(&TARGETS, &fuzz);
    }
}
