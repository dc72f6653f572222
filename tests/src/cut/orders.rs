//! What the tracer is to do, as one line of text.

use std::fmt;
use std::str::FromStr;

/// What is to happen at which change; they count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Nothing: count.
    Count,
    /// The process is killed before this one has any effect.
    Kill(usize),
    /// Half of this one is written, then the process is killed. What is no write is not begun.
    Tear(usize),
    /// This one fails with this error, when it can fail so; the process goes on.
    Fail(usize, i32),
    /// This one and all after it fail so, but for removals: a disk that stays full.
    FailFrom(usize, i32),
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => write!(f, "count"),
            Self::Kill(at) => write!(f, "kill {at}"),
            Self::Tear(at) => write!(f, "tear {at}"),
            Self::Fail(at, errno) => write!(f, "fail {at} {errno}"),
            Self::FailFrom(at, errno) => write!(f, "fail-from {at} {errno}"),
        }
    }
}

impl FromStr for Order {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let words: Vec<_> = text.split(' ').collect();
        let at = |word: &str| word.parse().map_err(drop);
        let errno = |word: &str| word.parse().map_err(drop);
        match words[..] {
            ["count"] => Ok(Self::Count),
            ["kill", n] => Ok(Self::Kill(at(n)?)),
            ["tear", n] => Ok(Self::Tear(at(n)?)),
            ["fail", n, code] => Ok(Self::Fail(at(n)?, errno(code)?)),
            ["fail-from", n, code] => Ok(Self::FailFrom(at(n)?, errno(code)?)),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for order in [
            Order::Count,
            Order::Kill(7),
            Order::Tear(1),
            Order::Fail(3, 28),
            Order::FailFrom(3, 5),
        ] {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        assert_eq!("kill".parse::<Order>(), Err(()));
    }
}
