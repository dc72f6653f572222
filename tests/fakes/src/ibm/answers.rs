//! Small parts of answers.

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

/// Why a call is refused.
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
}

pub(super) fn refuse(status: u16, message: impl Into<String>) -> Refusal {
    Refusal {
        status,
        message: message.into(),
    }
}

pub(super) fn random(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).expect("randomness");
    HEXLOWER.encode(&random)
}

/// A UUID, version 4.
pub(super) fn uuid() -> String {
    let digits = random(16);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-4{}-a{}-{}",
        part(0, 8),
        part(8, 12),
        part(13, 16),
        part(17, 20),
        part(20, 32)
    )
}

pub(super) fn http_date(now: Timestamp) -> String {
    DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&now)
        .expect("a date")
}

/// RFC 3339 with milliseconds.
pub(super) fn date(at: Timestamp) -> String {
    format!("{at:.3}")
}
