//! What is fed with foreign bytes, for the fuzz targets under `fuzz/` and for the plain tests that run their
//! corpora.

use edge_secrets_protocol::Problem;
use edge_secrets_protocol::binding::Bindings;

use crate::config::Config;
use crate::hub::{MAX_DETAIL, check_bindings, tame};

pub use crate::cache::fuzzing::cache;
pub use crate::consumers::credentials::fuzzing::credential;
pub use crate::consumers::profiles::fuzzing::profile;
pub use edge_secrets_protocol::fuzzing::Target;

/// All of this crate.
pub const TARGETS: [Target; 6] = [
    ("bindings", bindings),
    ("problem", problem),
    ("agent_config", agent_config),
    ("profile", profile),
    ("credential", credential),
    ("cache", cache),
];

/// What the hub says that the node should have.
pub fn bindings(bytes: &[u8]) {
    if let Ok(bindings) = serde_json::from_slice::<Bindings>(bytes) {
        check_bindings(&bindings).ok();
    }
}

/// A problem document is one line that any terminal can show.
///
/// # Panics
/// Where it is not.
pub fn problem(bytes: &[u8]) {
    if let Ok(problem) = serde_json::from_slice::<Problem>(bytes) {
        let detail = tame(problem).detail;
        assert!(!detail.chars().any(char::is_control));
        assert!(detail.chars().count() <= MAX_DETAIL + 1);
    }
}

/// `agent.yaml`.
pub fn agent_config(bytes: &[u8]) {
    Config::parse(&String::from_utf8_lossy(bytes)).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpora_of_every_target_are_taken() {
        let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        edge_secrets_protocol::fuzzing::run_corpora(&TARGETS, &fuzz);
    }
}
