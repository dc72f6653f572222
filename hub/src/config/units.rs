//! Durations as people write them: `90s`, `7d`, `1h30m`.

use std::time::Duration;

/// A text that is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a duration; write whole numbers with a unit of ms, s, m, h, d or w, like `7d` or `1h30m`"
)]
pub struct DurationError;

/// Reads whole numbers with units from weeks down to milliseconds, each unit at most once and the
/// larger first.
///
/// # Errors
/// When the text is anything else, or longer than 100 years.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text.trim();
    let mut units = UNITS.iter();
    let mut total = 0_u64;
    if rest.is_empty() {
        return Err(DurationError);
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits).ok_or(DurationError)?;
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(letters).ok_or(DurationError)?;
        let number: u64 = number.parse().map_err(|_| DurationError)?;
        // Consumes the larger units, so that none comes twice or out of order.
        let (_, millis) = units.find(|(name, _)| *name == unit).ok_or(DurationError)?;
        total = number
            .checked_mul(*millis)
            .and_then(|part| total.checked_add(part))
            .ok_or(DurationError)?;
        rest = tail.trim_start();
    }
    if total > MAX_MILLIS {
        return Err(DurationError);
    }
    Ok(Duration::from_millis(total))
}

/// For serde's `deserialize_with`.
///
/// # Errors
/// As [`parse_duration`].
pub fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = <String as serde::Deserialize>::deserialize(deserializer)?;
    parse_duration(&text).map_err(|error| serde::de::Error::custom(format!("{text:?} {error}")))
}

const UNITS: [(&str, u64); 6] = [
    ("w", 7 * DAY),
    ("d", DAY),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];
const DAY: u64 = 86_400_000;
const MAX_MILLIS: u64 = 36_525 * DAY;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("7d", 604_800),
            ("30d", 2_592_000),
            ("1h30m", 5_400),
            ("1h 30m", 5_400),
            ("2w", 1_209_600),
            ("10s", 10),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        assert_eq!(parse_duration("1s500ms"), Ok(Duration::from_millis(1_500)));
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        for text in [
            "",
            "7",
            "d",
            "-1s",
            "1.5h",
            "1m1h",
            "1s1s",
            "1y",
            "5 days",
            "101w100000d",
            "1e9s",
            "99999999999999999999s",
        ] {
            assert_eq!(parse_duration(text), Err(DurationError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whole_seconds_survive(seconds in 0_u64..1_000_000_000) {
            prop_assert_eq!(
                parse_duration(&format!("{seconds}s")),
                Ok(Duration::from_secs(seconds))
            );
        }

        #[test]
        fn foreign_text_never_panics(text in "\\PC{0,30}") {
            parse_duration(&text).ok();
        }
    }
}
