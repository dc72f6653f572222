//! The wall clock, read in one place.

use jiff::Timestamp;

/// Now, to the millisecond that the catalog keeps.
#[must_use]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}
