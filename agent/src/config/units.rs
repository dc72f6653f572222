//! Sizes and durations as people write them: `16MiB`, `30d`, `1h30m`.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// A size in bytes, written with a unit: `B`, `KiB`, `MiB`, `GiB`, `kB`, `MB`, `GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct ByteSize(u64);

impl ByteSize {
    /// So many bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// How many bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// A duration, written as one or more numbers with a unit: `ms`, `s`, `m`, `h`, `d`, `w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(Duration);

impl Span {
    /// This duration.
    #[must_use]
    pub const fn new(duration: Duration) -> Self {
        Self(duration)
    }

    /// As a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

/// A text that is no size or duration. Says how one is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a duration.
    #[error(
        "{0:?} is not a duration: write a number and a unit (ms, s, m, h, d, w), like 30d or 1h30m"
    )]
    Duration(String),
    /// Not a size.
    #[error(
        "{0:?} is not a size: write a number and a unit (B, KiB, MiB, GiB, kB, MB, GB), like 16MiB"
    )]
    Size(String),
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let fail = || UnitError::Size(text.to_owned());
        let (number, unit, rest) = number_and_unit(text.trim()).ok_or_else(fail)?;
        let factor = factor(SIZES, unit)
            .filter(|_| rest.is_empty())
            .ok_or_else(fail)?;
        number.checked_mul(factor).map(Self).ok_or_else(fail)
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let fail = || UnitError::Duration(text.to_owned());
        let (mut rest, mut total) = (text.trim(), 0_u64);
        if rest.is_empty() {
            return Err(fail());
        }
        while !rest.is_empty() {
            let (number, unit, tail) = number_and_unit(rest).ok_or_else(fail)?;
            let part = factor(SPANS, unit).and_then(|f| number.checked_mul(f));
            total = part
                .and_then(|part| total.checked_add(part))
                .ok_or_else(fail)?;
            rest = tail.trim_start();
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl TryFrom<String> for ByteSize {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, UnitError> {
        text.parse()
    }
}

impl TryFrom<String> for Span {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, UnitError> {
        text.parse()
    }
}

/// The number and the unit at the start of `text`, and what follows.
fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, tail) = text.split_at(digits);
    let tail = tail.trim_start();
    let end = tail
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(tail.len());
    let (unit, rest) = tail.split_at(end);
    Some((number.parse().ok()?, unit, rest))
}

fn factor(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, factor)| *factor)
}

const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// In milliseconds.
const SPANS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_need_a_known_unit() {
        assert_eq!("64 KiB".parse(), Ok(ByteSize(65_536)));
        assert_eq!("2GB".parse(), Ok(ByteSize(2_000_000_000)));
        for bad in [
            "",
            "16",
            "MiB",
            "-1MiB",
            "1.5MiB",
            "16mib",
            "99999999999GiB",
            "1MiB2",
        ] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_add_up() {
        assert_eq!("1h30m".parse(), Ok(Span(Duration::from_secs(5400))));
        assert_eq!("250ms".parse(), Ok(Span(Duration::from_millis(250))));
        assert_eq!("0s".parse(), Ok(Span(Duration::ZERO)));
        for bad in [
            "",
            "10",
            "d",
            "1y",
            "1h-5m",
            "99999999999999999999d",
            "9999999999999999w",
        ] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn foreign_text_never_panics(text in "\\PC{0,30}") {
            text.parse::<ByteSize>().ok();
            text.parse::<Span>().ok();
        }

        #[test]
        fn any_duration_is_read_back(d in 0u64..10_000, h in 0u64..24, ms in 0u64..1000) {
            let span: Span = format!("{d}d{h}h {ms}ms").parse().unwrap();
            prop_assert_eq!(span.0.as_millis() as u64, d * 86_400_000 + h * 3_600_000 + ms);
        }
    }
}
