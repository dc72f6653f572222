//! Random passwords.

use edge_secrets_hub::generator::PasswordPolicy;
use edge_secrets_protocol::Secret;
use zeroize::Zeroizing;

/// A password that keeps to `policy`, made in place from what `fill` gives; `None` when it gives
/// nothing.
///
/// First come the characters that the minimums ask for, each drawn evenly from those of its kind,
/// then the others, drawn evenly from all; then all are shuffled evenly. Without minimums every
/// password is equally likely. With them it is not promised: one that holds more than the minimum of
/// a kind comes a little more often.
pub(super) fn make(
    policy: &PasswordPolicy,
    mut fill: impl FnMut(&mut [u8]) -> bool,
) -> Option<Secret> {
    let alphabet = policy.alphabet();
    let mut password = Secret::zeroed(policy.length());
    let mut places = password.expose_mut().iter_mut();
    for (class, minimum) in policy.minimums() {
        let of_class = |byte: &u8| class.has(*byte);
        let letters: Vec<u8> = alphabet.iter().copied().filter(of_class).collect();
        for place in places.by_ref().take(minimum) {
            *place = pick(&letters, &mut fill)?;
        }
    }
    for place in places {
        *place = pick(&alphabet, &mut fill)?;
    }
    for last in (1..password.len()).rev() {
        let other = below(last + 1, &mut fill)?;
        password.expose_mut().swap(last, other);
    }
    Some(password)
}

fn pick(letters: &[u8], fill: &mut impl FnMut(&mut [u8]) -> bool) -> Option<u8> {
    letters.get(below(letters.len(), fill)?).copied()
}

/// A number below `count`, each equally likely.
fn below(count: usize, fill: &mut impl FnMut(&mut [u8]) -> bool) -> Option<usize> {
    let count = u32::try_from(count).ok()?;
    loop {
        let mut bytes = Zeroizing::new([0; 2]);
        if !fill(&mut *bytes) {
            return None;
        }
        if let Some(number) = fair(u16::from_le_bytes(*bytes), count)? {
            return usize::try_from(number).ok();
        }
    }
}

/// What a draw stands for; `Some(None)` for one beyond the last whole round, which would favour the
/// small numbers. `None` where there is nothing to choose from, or more than a draw can tell apart.
fn fair(draw: u16, count: u32) -> Option<Option<u32>> {
    if count == 0 || count > DRAWS {
        return None;
    }
    let draw = u32::from(draw);
    Some((draw < DRAWS - DRAWS % count).then_some(draw % count))
}

const DRAWS: u32 = 1 << 16;

#[cfg(test)]
mod tests {
    use edge_secrets_hub::generator::{Charset, PasswordSpec};
    use proptest::prelude::*;

    use super::*;

    fn spec(charset: Charset, length: usize, minimums: [usize; 4]) -> PasswordSpec {
        PasswordSpec {
            field: "value".parse().unwrap(),
            length,
            charset,
            exclude: String::new(),
            min_upper: minimums[0],
            min_lower: minimums[1],
            min_digits: minimums[2],
            min_symbols: minimums[3],
        }
    }

    fn random(bytes: &mut [u8]) -> bool {
        getrandom::fill(bytes).is_ok()
    }

    #[test]
    fn no_number_comes_more_often_than_another() {
        for count in [1, 2, 3, 10, 62, 94, 4096, 65_535, 65_536] {
            let mut times = vec![0_u32; usize::try_from(count).unwrap()];
            for draw in 0..=u16::MAX {
                if let Some(number) = fair(draw, count).unwrap() {
                    times[usize::try_from(number).unwrap()] += 1;
                }
            }
            assert!(
                times[0] > 0 && times.iter().all(|t| *t == times[0]),
                "{count}"
            );
        }
        assert_eq!((fair(0, 0), fair(0, 65_537)), (None, None));
    }

    #[test]
    fn every_order_comes_equally_often() {
        // Three letters that must all be there: the order alone is random. Every sequence of draws
        // of a small source is tried once.
        let policy = PasswordPolicy::try_from(PasswordSpec {
            exclude: ('b'..='z').chain('B'..='Z').chain('1'..='9').collect(),
            ..spec(Charset::Alnum, 3, [1, 1, 1, 0])
        });
        let policy = policy.unwrap();
        let mut times = std::collections::BTreeMap::new();
        for first in 0..3_u16 {
            for second in 0..2_u16 {
                let mut draws = [0, 0, 0, first, second].into_iter();
                let made = make(&policy, |bytes| {
                    bytes.copy_from_slice(&draws.next().unwrap().to_le_bytes());
                    true
                });
                *times.entry(made.unwrap().expose().to_vec()).or_insert(0) += 1;
            }
        }
        assert_eq!(times.len(), 6, "each order once");
    }

    #[test]
    fn without_random_bytes_there_is_no_password() {
        let policy = PasswordPolicy::try_from(spec(Charset::Ascii, 20, [1; 4])).unwrap();
        for left in 0..39 {
            let mut left = left;
            let made = make(&policy, |bytes| {
                left -= 1;
                left >= 0 && random(bytes)
            });
            assert!(made.is_none());
        }
    }

    #[test]
    fn two_passwords_are_not_the_same() {
        let policy = PasswordPolicy::try_from(spec(Charset::Alnum, 32, [0; 4])).unwrap();
        let two = [(); 2].map(|()| make(&policy, random).unwrap());
        assert!(two[0].expose() != two[1].expose());
    }

    proptest! {
        #[test]
        fn a_password_keeps_to_its_policy(
            charset in prop::sample::select(vec![
                Charset::Alnum, Charset::Ascii, Charset::Hex, Charset::Base64url, Charset::Digits,
            ]),
            length in 1_usize..80,
            minimums in prop::array::uniform4(0_usize..12),
            exclude in "[!-~]{0,20}",
        ) {
            let spec = PasswordSpec { exclude, ..spec(charset, length, minimums) };
            // Policies that nothing can keep to are refused elsewhere.
            if let Ok(policy) = PasswordPolicy::try_from(spec) {
                let password = make(&policy, random).unwrap();
                let (bytes, alphabet) = (password.expose(), policy.alphabet());
                // `prop_assert` would show what it compares.
                prop_assert!(bytes.len() == length);
                prop_assert!(bytes.iter().all(|byte| alphabet.contains(byte)));
                for (class, minimum) in policy.minimums() {
                    prop_assert!(bytes.iter().filter(|b| class.has(**b)).count() >= minimum);
                }
            }
        }
    }
}
