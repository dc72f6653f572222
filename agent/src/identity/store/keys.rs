//! The sealing keys among a store's files.

use std::io;

use edge_secrets_protocol::SealingKey;

use super::{SEALING_KEY, SEALING_NEXT, SetNumber, Store, StoreError, failed, malformed, read};
use crate::config::SealingKeyCustody;
use crate::disk;

/// A sealing key as it lies there.
pub(in crate::identity) struct StoredKey {
    /// None when it is encrypted and nothing at hand opens it.
    pub(in crate::identity) key: Option<SealingKey>,
    /// How it is kept.
    pub(in crate::identity) custody: SealingKeyCustody,
    /// Why there is no key, where there is none.
    pub(in crate::identity) lost: Option<String>,
}

impl Store {
    pub(super) fn sealing_key(
        &self,
        set: SetNumber,
        name: &'static str,
    ) -> Result<StoredKey, StoreError> {
        let path = self.set_dir(set).join(name);
        let file = read(&path)?;
        // A kill while a former set is wiped leaves zeros, which would be a key too.
        if file.iter().all(|byte| *byte == 0) {
            return Err(malformed(&path));
        }
        let custody = self.custody.kind_of(&file);
        let Some(bytes) = self.custody.decode(&place(set, name), &file) else {
            return Ok(StoredKey {
                key: None,
                custody,
                lost: Some(LOCKED.to_owned()),
            });
        };
        let key = SealingKey::from_bytes(&bytes).map_err(|_| malformed(&path))?;
        Ok(StoredKey {
            key: Some(key),
            custody,
            lost: None,
        })
    }

    /// The sealing keys beside that of `current`, the set in use: the next one, which the hub was perhaps
    /// told already, and those of sets that are not retired yet. Of these only what can be opened counts.
    ///
    /// # Errors
    /// When it cannot be told what is there.
    pub fn other_sealing_keys(
        &self,
        current: SetNumber,
    ) -> Result<(Option<SealingKey>, Vec<SealingKey>), StoreError> {
        let opened = |set, name| {
            self.sealing_key(set, name)
                .ok()
                .and_then(|stored| stored.key)
        };
        let others = self.sets()?.into_iter().filter(|set| *set != current);
        let former = others.flat_map(|set| {
            let own = opened(set, SEALING_KEY).into_iter();
            own.chain(opened(set, SEALING_NEXT))
        });
        Ok((opened(current, SEALING_NEXT), former.collect()))
    }

    /// The sealing key for the set after `current`, the set in use; the same one until there is such a
    /// set, unless nothing opens it. It is durable when this returns.
    ///
    /// # Errors
    /// When it cannot be read or written, or another set is in use.
    pub fn next_sealing_key(&self, current: SetNumber) -> Result<SealingKey, StoreError> {
        let _lock = self.lock()?;
        let dir = self.set_dir(current);
        if self.current()? != Some(current) {
            let gone = io::ErrorKind::NotFound.into();
            return Err(failed("not in use any more:", &dir, gone));
        }
        let stored = match self.sealing_key(current, SEALING_NEXT) {
            Ok(StoredKey { key, custody, .. }) => key.map(|key| (key, custody)),
            // Not there, or cut off before anybody was told.
            Err(error) if error.is_lost() => None,
            Err(error) => return Err(error),
        };
        let key = match stored {
            Some((key, custody)) if custody == self.custody.wanted() => return Ok(key),
            Some((key, _)) => key,
            None => SealingKey::generate(),
        };
        let written = self
            .custody
            .encode(&place(current, SEALING_NEXT), key.expose())
            .and_then(|file| disk::replace(&dir, SEALING_NEXT, &file))
            .and_then(|()| disk::sync(&dir));
        written.map_err(|error| failed("cannot write a sealing key in", &dir, error))?;
        Ok(key)
    }
}

/// What an encrypted key is bound to: it opens under no other name and in no other set.
pub(super) fn place(set: SetNumber, name: &str) -> String {
    format!("{}/{name}", super::set_name(set))
}

const LOCKED: &str = "its key is encrypted under a credential edge-secrets-key that this process was not given, \
                      or under another one";
