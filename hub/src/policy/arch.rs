//! Architectures, with the synonyms under which different tools know them.

/// An architecture; `*` and empty are any.
#[derive(Debug, Clone)]
pub(super) struct Arch {
    written: String,
    canonical: Option<String>,
}

impl Arch {
    /// Reads an architecture as it is written.
    pub(super) fn new(text: &str) -> Self {
        let trimmed = text.trim();
        Self {
            written: text.to_owned(),
            canonical: (!matches!(trimmed, "" | "*")).then(|| canonical(trimmed)),
        }
    }

    /// As it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.written
    }

    /// Whether it names one architecture.
    pub(super) fn is_named(&self) -> bool {
        self.canonical.is_some()
    }

    /// Whether the two can be the same one.
    pub(super) fn matches(&self, other: &Self) -> bool {
        match (&self.canonical, &other.canonical) {
            (Some(own), Some(others)) => own == others,
            _ => true,
        }
    }

    /// Whether it admits a node of this architecture; one that does not say its own is admitted
    /// where any is.
    pub(super) fn admits(&self, node: Option<&Self>) -> bool {
        !self.is_named() || node.is_some_and(|node| node.is_named() && self.matches(node))
    }
}

fn canonical(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let known = SYNONYMS
        .iter()
        .find(|names| names.contains(&lower.as_str()));
    known.map_or(lower, |names| names[0].to_owned())
}

const SYNONYMS: &[&[&str]] = &[
    &["amd64", "x86_64", "x86-64", "x64"],
    &["arm64", "aarch64", "armv8"],
    &[
        "arm", "armhf", "armv6", "armv6l", "armv7", "armv7l", "armel",
    ],
    &["386", "i386", "i486", "i586", "i686", "x86"],
    &["ppc64le", "ppc64el", "powerpc64le"],
    &["riscv64", "riscv64gc"],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synonyms_are_one_architecture() {
        let same = |a, b| Arch::new(a).matches(&Arch::new(b));
        assert!(same("amd64", "x86_64"));
        assert!(same("AARCH64", "arm64"));
        assert!(same("armhf", "arm"));
        assert!(same("s390x", "s390x"));
        assert!(same("*", "s390x"));
        assert!(!same("arm", "arm64"));
        assert_eq!(Arch::new("x86_64").as_str(), "x86_64");
    }

    #[test]
    fn a_node_that_does_not_say_its_architecture_gets_what_runs_on_any() {
        assert!(Arch::new("").admits(None));
        assert!(!Arch::new("amd64").admits(None));
        assert!(!Arch::new("amd64").admits(Some(&Arch::new(""))));
        assert!(Arch::new("amd64").admits(Some(&Arch::new("x86_64"))));
    }
}
