//! When a certificate is renewed, and how: new keys each time, over the old identity.

use std::time::Duration;

use edge_secrets_protocol::enroll::{Identity, RenewRequest};
use jiff::{SignedDuration, Timestamp};

use super::certificate;
use super::keys::NewKey;
use super::{
    IdentityError, KeyError, Material, NodeIdentity, SetNumber, Store, Validity, certificates,
    ready,
};
use crate::clock::{BootTime, Now};
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

/// When the certificate in use is to be renewed.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    validity: Validity,
    /// When the hub gave it, where this process has seen that.
    given: Option<BootTime>,
    /// Drawn once per certificate.
    random: u64,
}

impl Plan {
    /// For a certificate that lay on disk: how old it is, the wall clock says.
    #[must_use]
    pub fn found(validity: Validity, random: u64) -> Self {
        Self {
            validity,
            given: None,
            random,
        }
    }

    /// For one that the hub has given just now. It is new, whatever the wall clock says: by one that is
    /// ahead, each would be old when it comes, and be renewed for ever.
    #[must_use]
    pub fn given(validity: Validity, random: u64, now: Now) -> Self {
        Self {
            given: Some(now.boot),
            ..Self::found(validity, random)
        }
    }

    /// How long to wait with it. A wall clock that is set changes that of what was found alone.
    #[must_use]
    pub fn wait(&self, now: Now) -> Duration {
        let due = due_at(self.validity, self.random);
        let positive = |time: SignedDuration| Duration::try_from(time).unwrap_or(Duration::ZERO);
        match self.given {
            Some(given) => {
                let life = positive(self.validity.not_before.duration_until(due));
                given.after(life).since(now.boot)
            }
            // It begins in the future: a clock was wrong when it was made, or is now. Nobody can tell how
            // long the hub takes it for good, so it is exchanged for one of whose age is known.
            None if now.wall.duration_until(self.validity.not_before) > SKEW => Duration::ZERO,
            None => positive(now.wall.duration_until(due)),
        }
    }
}

/// How far the hub's clock may be ahead without being taken for wrong.
const SKEW: SignedDuration = SignedDuration::from_mins(10);

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
    #[test]
    fn a_wall_clock_that_is_wrong_makes_no_new_certificate_old() {
        let start = 1_700_000_000;
        let week = Validity {
            not_before: at(start),
            not_after: at(start + 7 * DAY),
        };
        let now = |wall: i64, boot: u64| Now {
            wall: at(wall),
            boot: BootTime::LONG_AGO.after(Duration::from_secs(boot)),
        };
        for wall in [0, start, start + 30 * DAY, start + 10_000 * DAY] {
            let given = Plan::given(week, 7, now(wall, 100));
            let wait = given.wait(now(wall, 100)).as_secs() as i64;
            assert!((4 * DAY..6 * DAY).contains(&wait), "{wait} s at {wall}");
            // It grows old by the time that passes, asleep or awake, and by nothing else.
            let later = given.wait(now(0, 100 + DAY as u64)).as_secs() as i64;
            assert_eq!(wait - later, DAY);
            assert_eq!(given.wait(now(wall, 100 + 6 * DAY as u64)), Duration::ZERO);
        }
        // What was found is as old as the wall clock says.
        let found = Plan::found(week, 7);
        assert_eq!(
            found.wait(now(0, 100)),
            Duration::ZERO,
            "it begins in the future"
        );
        assert!(found.wait(now(start - 500, 100)).as_secs() as i64 > 4 * DAY);
        assert!(found.wait(now(start, 100)).as_secs() as i64 > 4 * DAY);
        assert_eq!(found.wait(now(start + 6 * DAY, 100)), Duration::ZERO);
    }

    const DAY: i64 = 86_400;
}
