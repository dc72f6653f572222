//! What policies and patterns are called: `hzn` is told on its command line, here it is found out.

use std::path::{Component, Path};

use edge_secrets_protocol::PolicyName;

use super::recognise::Kind;

/// The name of a document that does not say it, from its file, else from the directory of its project.
/// `None` where neither leaves anything that a name can be made of.
pub(super) fn of_file(kind: Kind, file: &Path, root: &Path) -> Option<PolicyName> {
    let stem = file.file_stem()?.to_string_lossy();
    if let Some(name) = named(bare(kind, &stem)) {
        return Some(name);
    }
    let inside = file.parent()?.strip_prefix(root).ok();
    let below = inside.into_iter().flat_map(Path::components);
    let above = root.components().next_back();
    let directories: Vec<_> = above.into_iter().chain(below).collect();
    directories.into_iter().rev().find_map(|directory| {
        let Component::Normal(directory) = directory else {
            return None;
        };
        let directory = directory.to_string_lossy();
        let generic = GENERIC.contains(&directory.to_lowercase().as_str());
        named(&directory).filter(|_| !generic)
    })
}

/// The name behind an organisation: `ORG/NAME`.
pub(super) fn of_key(key: &str) -> Option<PolicyName> {
    named(key.split_once('/').map_or(key, |(_, name)| name))
}

/// A name made of a text: characters that no name has become `-`.
pub(super) fn named(text: &str) -> Option<PolicyName> {
    let plain = |c: char| match c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
        true => c,
        false => '-',
    };
    let text: String = text.chars().map(plain).take(MAX).collect();
    let text = text.trim_matches(['.', '-', '_']);
    text.parse().ok()
}

/// A stem without the words that only say what the file is.
fn bare(kind: Kind, stem: &str) -> &str {
    let words: &[&str] = match kind {
        Kind::Pattern => &["pattern"],
        _ => &["policy", "pol", "deployment", "business"],
    };
    let mut stem = stem;
    loop {
        let lower = stem.to_ascii_lowercase();
        let cut = |word: &&str| {
            let (word, len): (&str, usize) = (word, stem.len());
            if lower == word {
                return Some("");
            }
            let end = lower
                .strip_suffix(word)
                .filter(|rest| rest.ends_with(SEPARATORS));
            let start = lower
                .strip_prefix(word)
                .filter(|rest| rest.starts_with(SEPARATORS));
            match (end, start) {
                (Some(rest), _) => stem.get(..rest.len()),
                (None, Some(rest)) => stem.get(len - rest.len()..),
                (None, None) => None,
            }
        };
        match words.iter().find_map(cut) {
            Some(shorter) => stem = shorter.trim_matches(SEPARATORS),
            None => return stem,
        }
    }
}

const MAX: usize = 128;
const SEPARATORS: [char; 4] = ['.', '_', '-', ' '];
/// Directories that say nothing of the project in them.
const GENERIC: [&str; 12] = [
    "horizon",
    "hzn",
    "policy",
    "policies",
    "pattern",
    "patterns",
    "deployment",
    "deployments",
    "deployment_policies",
    "config",
    "configs",
    "services",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_what_the_file_or_its_project_is_called() {
        for (kind, file, name) in [
            (Kind::Policy, "/fleet/uplink.policy.json", "uplink"),
            (
                Kind::Policy,
                "/fleet/uplink-deployment.policy.json",
                "uplink",
            ),
            (
                Kind::Policy,
                "/fleet/business_pol_location.json",
                "location",
            ),
            (Kind::Policy, "/fleet/Deployment.Policy.json", "fleet"),
            (
                Kind::Policy,
                "/fleet/uplink/horizon/deployment.policy.json",
                "uplink",
            ),
            (Kind::Policy, "/fleet/horizon/policies/policy.yaml", "fleet"),
            (
                Kind::Policy,
                "/fleet/edge site/deployment.policy.json",
                "edge-site",
            ),
            (Kind::Pattern, "/fleet/uplink/pattern.json", "uplink"),
            (Kind::Pattern, "/fleet/pattern-uplink.json", "uplink"),
            (Kind::Pattern, "/fleet/sall.json", "sall"),
            (Kind::Policy, "/fleet/policymaker.json", "policymaker"),
        ] {
            let found = of_file(kind, Path::new(file), Path::new("/fleet"));
            assert_eq!(found.unwrap().as_str(), name, "{file}");
        }
        assert_eq!(
            of_file(Kind::Policy, Path::new("policy.json"), Path::new("")),
            None
        );
        assert_eq!(
            of_file(Kind::Policy, Path::new("/policy.json"), Path::new("/")),
            None
        );
    }

    #[test]
    fn keys_of_listings_are_names_behind_their_organisation() {
        assert_eq!(of_key("myorg/uplink").unwrap().as_str(), "uplink");
        assert_eq!(of_key("myorg/a/b").unwrap().as_str(), "a-b");
        assert_eq!(of_key("myorg/"), None);
    }

    proptest! {
        #[test]
        fn foreign_paths_never_panic(file in "(/|\\.|policy|deployment|\\PC){0,12}", root in "(/|\\.|\\PC){0,4}") {
            for kind in [Kind::Policy, Kind::Pattern] {
                of_file(kind, Path::new(&file), Path::new(&root));
            }
        }
    }
}
