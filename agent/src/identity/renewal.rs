//! When a certificate is renewed, and how: new keys each time, over the old identity.

use edge_secrets_protocol::enroll::{Identity, RenewRequest};
use jiff::{SignedDuration, Timestamp};

use super::certificate;
use super::keys::NewKey;
use super::{
    IdentityError, KeyError, Material, NodeIdentity, SetNumber, Store, Validity, certificates,
    ready,
};
use crate::hub::{Connection, HubError};

/// Why a renewal did not come about. The old identity stays in use.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// The hub did not give a certificate.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// What it gave, or what is on disk, cannot be used.
    #[error("the hub's new certificate cannot be taken into use: {0}")]
    Identity(#[from] IdentityError),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It gave a certificate of another node.
    #[error("the hub's new certificate is refused: it is of another node")]
    OtherNode,
}

/// Asks the hub for a certificate over a new key, tells it a new sealing key, and swaps both in. The
/// old set stays in the store until the new one has been used ([`Store::retire`]).
///
/// The sealing key is on disk before the hub hears of it, and the same one is told until that has come
/// about: whatever is lost in between, the node can open what the hub seals.
///
/// # Errors
/// When the hub, the store or the answer fails; then nothing has changed.
pub async fn renew(
    connection: Connection,
    store: Store,
    current: SetNumber,
) -> Result<NodeIdentity, RenewalError> {
    let fresh = NewKey::generate()?;
    let sealing_key = store
        .next_sealing_key(current)
        .map_err(IdentityError::from)?;
    let request = RenewRequest {
        csr: fresh.request,
        sealing_key: Some(sealing_key.public()),
    };
    let Identity {
        certificate,
        trust_bundle,
        ..
    } = connection.renew(&request).await?;
    let (_, old) = store
        .load()
        .map_err(IdentityError::from)?
        .filter(|(set, _)| *set == current)
        .ok_or(IdentityError::Malformed("the identity in use"))?;
    let material = Material {
        key: fresh.key,
        certificate,
        trust_bundle,
        sealing_key,
        enrolment: old.enrolment,
    };
    let (fresh, _) = ready(&material.key, &material.certificate, &material.trust_bundle)?;
    let old = certificates(&old.certificate, "node.crt")?;
    let old = old
        .first()
        .and_then(|leaf| certificate::inspect(leaf).ok())
        .ok_or(IdentityError::Malformed("node.crt"))?;
    if (&fresh.org, &fresh.node) != (&old.org, &old.node) {
        return Err(RenewalError::OtherNode);
    }
    store.install(&material).map_err(IdentityError::from)?;
    Ok(NodeIdentity::installed(&store)?)
}

/// When to renew: at two thirds of the certificate's life, moved by up to a tenth of that either
/// way, so that nodes that enrolled together do not renew together. `random` is any number.
#[must_use]
pub fn due_at(validity: Validity, random: u64) -> Timestamp {
    let life = validity
        .not_before
        .duration_until(validity.not_after)
        .as_secs()
        .max(0);
    let base = i128::from(life) * 2 / 3;
    let spread = base / 10;
    let moved = base - spread + i128::from(random) % (2 * spread + 1);
    let seconds = i64::try_from(moved).unwrap_or(i64::MAX);
    validity
        .not_before
        .checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(validity.not_after)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    proptest! {
        #[test]
        fn renewal_falls_around_two_thirds_of_life(
            start in 0i64..4_000_000_000, life in 0i64..1_000_000_000, random in any::<u64>(),
        ) {
            let validity = Validity { not_before: at(start), not_after: at(start + life) };
            let due = due_at(validity, random).as_second() - start;
            prop_assert!(due >= life * 2 / 3 * 9 / 10 - 1, "{due} of {life}");
            prop_assert!(due <= life * 2 / 3 * 11 / 10 + 1, "{due} of {life}");
            prop_assert!(due <= life);
        }
    }
}
