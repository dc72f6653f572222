//! The key exchange that seals values to the node at the other end of a connection.

use std::sync::{Arc, Mutex, PoisonError};

use edge_secrets_protocol::PublicKey;
use edge_secrets_protocol::sealed::{SealError, Sealer};

/// At most one exchange per connection and sealing key: it costs more than all else in a fetch of
/// one value. Clones share it; the server puts one among the extensions of a connection's requests.
#[derive(Clone, Default)]
pub struct Exchange(Arc<Mutex<Option<Sealer>>>);

impl Exchange {
    /// What seals to `key`, made anew when the key is another than before.
    ///
    /// # Errors
    /// When the key is unfit.
    pub fn sealer(&self, key: &PublicKey) -> Result<Sealer, SealError> {
        // A poisoned lock holds a whole exchange, or none.
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sealer) = held.as_ref().filter(|sealer| sealer.key() == key) {
            return Ok(sealer.clone());
        }
        Ok(held.insert(key.sealer()?).clone())
    }
}

#[cfg(test)]
mod tests {
    use edge_secrets_protocol::sealed::Place;
    use edge_secrets_protocol::{SealingKey, Secret};

    use super::*;

    #[test]
    fn a_rotated_key_gets_an_exchange_of_its_own() {
        let exchange = Exchange::default();
        let (org, user) = ("o".parse().unwrap(), "u".parse().unwrap());
        let place = Place::Set {
            org: &org,
            user: &user,
            reference: "db",
        };
        for key in [SealingKey::generate(), SealingKey::generate()] {
            for text in ["a", "b"] {
                let sealer = exchange.sealer(&key.public()).unwrap();
                let sealed = sealer.seal(&place, &Secret::new(text.into())).unwrap();
                let opened = sealed.open(&key, &place).unwrap();
                assert_eq!(opened.expose(), text.as_bytes());
            }
        }
    }
}
