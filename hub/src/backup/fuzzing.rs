//! Backups as foreign bytes: see [`crate::fuzzing`].

use edge_secrets_protocol::SealingKey;

use super::cipher::Opening;
use super::lock::Unlock;
use super::{BackupError, archive as inside};

/// A backup's header, and what follows it.
pub fn backup(bytes: &[u8]) {
    let Ok(key) = SealingKey::from_bytes(&[7; 32]) else {
        return;
    };
    let mut from = bytes;
    if let Ok((_, key)) = Unlock::Key(key).begin(&mut from)
        && let Ok(opening) = Opening::new(from, &key)
    {
        inside::unpack(opening, &mut inside::Nowhere).ok();
    }
}

/// The archive within, as whoever has the key could have made it.
///
/// # Panics
/// Where it holds what is no plain file's name.
pub fn archive(bytes: &[u8]) {
    let read: Result<_, BackupError> = inside::unpack(bytes, &mut inside::Nowhere);
    if let Ok(list) = read {
        let plain = |name: &str| !name.contains('/') && !name.starts_with('.');
        assert!(list.files.iter().all(|file| plain(&file.name)));
    }
}
