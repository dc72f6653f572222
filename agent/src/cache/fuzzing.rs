//! The cache's index as foreign bytes: see [`crate::fuzzing`].

use super::index::Index;

/// An index is read again as it was written, whether its checksum fits or was made to fit.
///
/// # Panics
/// Where it is not.
pub fn cache(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), Index::checked(bytes)] {
        if let Ok(index) = Index::decode(&bytes) {
            let first = index.encode().ok();
            let again = first.as_deref().map(Index::decode);
            let second = again.and_then(|again| again.ok()?.encode().ok());
            assert!(first.is_some() && first == second, "written otherwise");
        }
    }
}
