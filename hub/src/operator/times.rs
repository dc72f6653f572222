//! Times and durations as people read and write them.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

/// How long ago, in the one unit that matters: `3m ago`, `in 2h`, `just now`.
pub fn age(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(at).as_secs();
    let text = short(seconds.unsigned_abs());
    match seconds {
        0 => "just now".to_owned(),
        1.. => format!("{text} ago"),
        _ => format!("in {text}"),
    }
}

/// The same for what may never have been.
pub fn age_or_never(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(|| "never".to_owned(), |at| age(at, now))
}

/// For how long something lasts that began then, in the one unit that matters: `3m`.
pub fn lasting(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs();
    short(u64::try_from(seconds).unwrap_or_default())
}

/// Reads a duration like `90s`, `1h30m` or `7d`; days have 24 hours.
///
/// # Errors
/// When it is none, or not positive.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "is not a duration like 90s, 1h30m or 7d".to_owned();
    let span: Span = text.parse().map_err(|_| wrong())?;
    let duration: SignedDuration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| wrong())?;
    let duration = Duration::try_from(duration).map_err(|_| wrong())?;
    if duration.is_zero() {
        Err(wrong())
    } else {
        Ok(duration)
    }
}

/// A point in time, or how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// Then.
    At(Timestamp),
}

impl Since {
    /// Reads RFC 3339 (`2026-03-01T12:00:00Z`) or a duration (`2h`).
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        let time = text.parse().map(Self::At);
        time.or_else(|_| parse_duration(text).map(Self::Ago))
            .map_err(|_| {
                "is neither a time like 2026-03-01T12:00:00Z nor a duration like 2h or 7d"
                    .to_owned()
            })
    }

    /// The point in time.
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::MIN),
        }
    }
}

/// A point in time, or how long from now it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// So long from now.
    In(Duration),
    /// Then.
    At(Timestamp),
}

impl Until {
    /// Reads RFC 3339 (`2026-03-01T12:00:00Z`) or a duration (`30d`).
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        match Since::parse(text)? {
            Since::Ago(duration) => Ok(Self::In(duration)),
            Since::At(at) => Ok(Self::At(at)),
        }
    }

    /// The point in time; to the second where it is counted from `now`.
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        let then = match self {
            Self::At(at) => return at,
            Self::In(duration) => now.checked_add(duration).unwrap_or(Timestamp::MAX),
        };
        Timestamp::from_second(then.as_second()).unwrap_or(then)
    }
}

fn short(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(365 * DAY, "y"), (DAY, "d"), (HOUR, "h"), (60, "m")];
    let fits = UNITS.iter().find(|(length, _)| seconds >= *length);
    let (length, unit) = fits.copied().unwrap_or((1, "s"));
    format!("{}{unit}", seconds / length)
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_lasts_has_a_length_and_never_a_negative_one() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        for (seconds, text) in [(0, "0s"), (185, "3m"), (7200, "2h"), (-60, "0s")] {
            let since = now - SignedDuration::from_secs(seconds);
            assert_eq!(lasting(since, now), text);
        }
    }

    #[test]
    fn ages_are_in_the_unit_that_matters() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        for (seconds, text) in [
            (0, "just now"),
            (59, "59s ago"),
            (185, "3m ago"),
            (7200, "2h ago"),
            (30 * 86400, "30d ago"),
            (800 * 86400, "2y ago"),
            (-3600, "in 1h"),
        ] {
            let at = now - SignedDuration::from_secs(seconds);
            assert_eq!(age(at, now), text);
        }
        assert_eq!(age_or_never(None, now), "never");
    }

    #[test]
    fn durations_are_positive() {
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        for text in ["", "0s", "-1h", "5", "1h ago", "tomorrow", "1 month"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn since_is_a_time_or_an_age() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let at = |text| Since::parse(text).unwrap().resolve(now).to_string();
        assert_eq!(at("2h"), "2026-03-01T10:00:00Z");
        assert_eq!(at("2026-02-01T00:00:00Z"), "2026-02-01T00:00:00Z");
        assert!(Since::parse("yesterday").is_err());
    }

    #[test]
    fn until_is_a_time_or_a_while_from_now() {
        let now: Timestamp = "2026-03-01T12:00:00.75Z".parse().unwrap();
        let at = |text| Until::parse(text).unwrap().resolve(now).to_string();
        assert_eq!(at("30d"), "2026-03-31T12:00:00Z");
        assert_eq!(at("2026-04-01T00:00:00Z"), "2026-04-01T00:00:00Z");
        assert!(Until::parse("tomorrow").is_err() && Until::parse("-1d").is_err());
        let last = Until::In(Duration::MAX).resolve(now);
        assert!(last > now);
    }

    proptest! {
        #[test]
        fn foreign_text_never_panics(text in "\\PC{0,30}", seconds in any::<i32>()) {
            let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
            if let Ok(since) = Since::parse(&text) {
                age(since.resolve(now), now);
            }
            age(now + SignedDuration::from_secs(seconds.into()), now);
        }
    }
}
