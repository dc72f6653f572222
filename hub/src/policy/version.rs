//! Versions and OSGi version ranges (OSGi Core 3.2.6), as Open Horizon writes them.

use std::fmt;
use std::str::FromStr;

use edge_secrets_protocol::NameError;

/// A version of numeric parts; parts that are left out count as 0, so `1` equals `1.0.0`. A
/// pre-release (`1.0.0-rc.1`) comes before its version, in the order of Semantic Versioning 2.0.0 §11.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Version {
    // Without trailing zeros, so that the derived order and equality are those of versions.
    parts: Vec<u64>,
    stage: Stage,
}

/// In the order in which they come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    PreRelease(Vec<Identifier>),
    Release,
}

/// Numbers come before words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Identifier {
    Number(u64),
    Word(String),
}

impl FromStr for Version {
    type Err = NameError;

    /// Reads 1 to 16 numbers with dots between them, and perhaps a pre-release behind a dash.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused = |reason| NameError::new("version", text, reason);
        if text.is_empty() {
            return Err(refused("is empty"));
        }
        let (numbers, stage) = match text.split_once('-') {
            None => (text, Stage::Release),
            Some((numbers, pre)) => (numbers, Stage::PreRelease(read_pre(pre).map_err(refused)?)),
        };
        let mut parts = Vec::with_capacity(3);
        for part in numbers.split('.') {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(refused("is not numbers with dots between them"));
            }
            if parts.len() == MAX_PARTS {
                return Err(refused("has too many parts"));
            }
            parts.push(part.parse().map_err(|_| refused("has a part too large"))?);
        }
        while parts.last() == Some(&0) {
            parts.pop();
        }
        Ok(Self { parts, stage })
    }
}

fn read_pre(text: &str) -> Result<Vec<Identifier>, &'static str> {
    let mut identifiers = Vec::new();
    for part in text.split('.') {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if part.is_empty() || part.len() > MAX_IDENTIFIER || !part.bytes().all(fits) {
            return Err("has a pre-release that is not words of letters, digits and dashes");
        }
        if identifiers.len() == MAX_PARTS {
            return Err("has too many parts");
        }
        identifiers.push(match part.bytes().all(|b| b.is_ascii_digit()) {
            true => Identifier::Number(part.parse().map_err(|_| "has a part too large")?),
            false => Identifier::Word(part.to_owned()),
        });
    }
    Ok(identifiers)
}

impl fmt::Display for Version {
    /// With at least three parts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for at in 0..self.parts.len().max(3) {
            let dot = if at == 0 { "" } else { "." };
            write!(f, "{dot}{}", self.parts.get(at).unwrap_or(&0))?;
        }
        let Stage::PreRelease(identifiers) = &self.stage else {
            return Ok(());
        };
        for (at, identifier) in identifiers.iter().enumerate() {
            f.write_str(if at == 0 { "-" } else { "." })?;
            match identifier {
                Identifier::Number(number) => number.fmt(f)?,
                Identifier::Word(word) => f.write_str(word)?,
            }
        }
        Ok(())
    }
}

/// A range of versions. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VersionRange {
    low: Version,
    low_included: bool,
    /// `None` is infinity.
    high: Option<Version>,
    high_included: bool,
}

impl VersionRange {
    /// Every version.
    pub(super) fn any() -> Self {
        Self::from_version(Version {
            parts: Vec::new(),
            stage: Stage::Release,
        })
    }

    /// This version and every later one: what a single version means where a range is wanted.
    pub(super) fn from_version(low: Version) -> Self {
        Self {
            low,
            low_included: true,
            high: None,
            high_included: false,
        }
    }

    /// Whether `version` lies in it.
    pub(super) fn contains(&self, version: &Version) -> bool {
        let above = *version > self.low || (self.low_included && *version == self.low);
        let below = self
            .high
            .as_ref()
            .is_none_or(|high| *version < *high || (self.high_included && *version == *high));
        above && below
    }

    /// Whether every version of `other` lies in it, and some that do not lie in `other`.
    pub(super) fn is_wider_than(&self, other: &Self) -> bool {
        let low = self.low < other.low
            || (self.low == other.low && (self.low_included || !other.low_included));
        let high = match (&self.high, &other.high) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => {
                own > others || (own == others && (self.high_included || !other.high_included))
            }
        };
        low && high && self != other
    }
}

impl FromStr for VersionRange {
    type Err = NameError;

    /// Reads `[1.0.0,2.0.0)` and its like, `INFINITY` as the upper end; `1.2.3` is
    /// `[1.2.3,INFINITY)`; empty and `*` are any version.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused = |reason| NameError::new("version range", text, reason);
        let bare = text.trim();
        if bare.is_empty() || bare == "*" {
            return Ok(Self::any());
        }
        let low_included = match bare.chars().next() {
            Some('[') => true,
            Some('(') => false,
            _ => return Ok(Self::from_version(bare.parse()?)),
        };
        let Some(inner) = bare[1..].strip_suffix([']', ')']) else {
            return Err(refused("does not end with `]` or `)`"));
        };
        let Some((low, high)) = inner.split_once(',') else {
            return Err(refused("has no comma between its ends"));
        };
        let low: Version = low.trim().parse()?;
        let high = match high.trim() {
            text if text.eq_ignore_ascii_case("INFINITY") => None,
            text => Some(text.parse::<Version>()?),
        };
        let high_included = bare.ends_with(']') && high.is_some();
        if let Some(high) = &high
            && (low > *high || (low == *high && !(low_included && high_included)))
        {
            return Err(refused("holds no version"));
        }
        Ok(Self {
            low,
            low_included,
            high,
            high_included,
        })
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.low_included { '[' } else { '(' };
        let close = if self.high_included { ']' } else { ')' };
        match &self.high {
            Some(high) => write!(f, "{open}{},{high}{close}", self.low),
            None => write!(f, "{open}{},INFINITY{close}", self.low),
        }
    }
}

const MAX_IDENTIFIER: usize = 64;
const MAX_PARTS: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn range(text: &str) -> VersionRange {
        text.parse().unwrap()
    }

    #[test]
    fn parts_left_out_are_zero() {
        assert_eq!(version("1"), version("1.0.0"));
        assert_eq!(version("0"), version("0.0"));
        assert!(version("1.0.1") > version("1"));
        assert!(version("1.10") > version("1.9.9"));
        assert!(version("1.0.0.1") > version("1.0.0"));
        assert_eq!(version("1.2").to_string(), "1.2.0");
    }

    /// The example of Semantic Versioning 2.0.0 §11.
    #[test]
    fn a_pre_release_comes_before_its_version() {
        let in_order = [
            "0.9.9",
            "1.0.0-7",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1-rc-1",
        ];
        let versions = in_order.map(version);
        assert!(versions.is_sorted_by(|a, b| a < b));
        for (text, version) in in_order.iter().zip(&versions) {
            assert_eq!(version.to_string(), *text);
        }
        assert!(!range("1.0.0").contains(&version("1.0.0-rc.1")));
        assert!(range("[1.0.0,2.0.0)").contains(&version("2.0.0-rc.1")));
    }

    #[test]
    fn every_spelling_of_a_range_is_read() {
        for any in ["", "*", " ", "0.0.0", "[0,INFINITY)", "[0.0.0,INFINITY]"] {
            assert_eq!(range(any), VersionRange::any(), "{any:?}");
        }
        assert_eq!(range("1.2.3"), range("[1.2.3,INFINITY)"));
        assert_eq!(range("( 1 , 2 ]").to_string(), "(1.0.0,2.0.0]");
        assert_eq!(range("[1,infinity)"), range("1"));
        assert!(range("[1,1]").contains(&version("1.0")));
        assert!(!range("[1.0.0,2.0.0)").contains(&version("2.0.0")));
        assert!(!range("(1,2]").contains(&version("1")));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "x",
            "1.",
            ".1",
            "1..2",
            "-1",
            "+1",
            "1.0.0-",
            "1.0.0-rc..1",
            "1.0.0-rc_1",
            "-rc1",
            "v1",
            "[1,2",
            "1,2",
            "[1 2]",
            "[,]",
            "[1,]",
            "[INFINITY,1]",
            "[2,1]",
            "(1,1]",
            "[1,1)",
            "[1,2)x",
            "[",
            "(",
            "[]",
            "[,",
            "99999999999999999999",
            "1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1",
        ] {
            assert!(text.parse::<VersionRange>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_narrower_range_is_known() {
        assert!(range("").is_wider_than(&range("1")));
        assert!(range("[1,2]").is_wider_than(&range("[1,2)")));
        assert!(range("[1,2]").is_wider_than(&range("(1,2]")));
        assert!(!range("[1,2]").is_wider_than(&range("[1,2]")));
        assert!(!range("[1,3]").is_wider_than(&range("[2,4]")));
        assert!(!range("[1,2]").is_wider_than(&range("1")));
    }

    /// A version as the naive model has it: four parts, written with as many as wanted.
    fn padded() -> impl Strategy<Value = ([u64; 4], String)> {
        (prop::array::uniform4(0..4_u64), 1..=4_usize).prop_map(|(mut parts, written)| {
            parts[written..].fill(0);
            let text: Vec<String> = parts[..written].iter().map(u64::to_string).collect();
            (parts, text.join("."))
        })
    }

    proptest! {
        #[test]
        fn ranges_agree_with_a_naive_model(
            (low, low_text) in padded(), (high, high_text) in padded(), (at, at_text) in padded(),
            open in any::<bool>(), close in any::<bool>(), infinite in any::<bool>(),
            space in " {0,2}",
        ) {
            let text = format!(
                "{}{space}{low_text}{space},{space}{}{space}{}",
                if open { '(' } else { '[' },
                if infinite { "INFINITY" } else { &high_text },
                if close { ')' } else { ']' },
            );
            let empty = !infinite && (low > high || (low == high && (open || close)));
            let parsed = text.parse::<VersionRange>();
            prop_assert_eq!(parsed.is_err(), empty, "{}", text);
            if let Ok(range) = parsed {
                let inside = (if open { at > low } else { at >= low })
                    && (infinite || if close { at < high } else { at <= high });
                prop_assert_eq!(range.contains(&version(&at_text)), inside, "{} {}", at_text, text);
                prop_assert_eq!(range.to_string().parse::<VersionRange>().unwrap(), range);
            }
        }

        #[test]
        fn a_wider_range_holds_all_of_the_narrower(
            (a, b) in (padded(), padded()), (c, d) in (padded(), padded()), (_, at) in padded(),
        ) {
            let one = format!("[{},{})", a.1, b.1).parse::<VersionRange>();
            let two = format!("({},{}]", c.1, d.1).parse::<VersionRange>();
            if let (Ok(one), Ok(two)) = (one, two)
                && one.is_wider_than(&two)
            {
                prop_assert!(!two.is_wider_than(&one));
                prop_assert!(one.contains(&version(&at)) || !two.contains(&version(&at)));
            }
        }

        #[test]
        fn no_text_makes_it_panic(
            text in any::<String>(), likely in "[\\[(]?[0-9., *INFTY]{0,12}[\\])]?",
        ) {
            for text in [text, likely] {
                if let Ok(range) = text.parse::<VersionRange>() {
                    prop_assert_eq!(range.to_string().parse::<VersionRange>().unwrap(), range);
                }
            }
        }
    }
}
