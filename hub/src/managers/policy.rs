//! Which organisation may reach which paths at a manager.

use std::collections::BTreeMap;

use edge_secrets_protocol::OrgId;
use serde::Deserialize;

/// Per organisation the prefixes of the places that it may reach; an organisation that is not named
/// reaches none. A prefix is whole parts of a path (`team` allows `team` and `team/db`, not `team2`);
/// with a `*` at its end it may break off within one (`database/creds/myorg-*`); `*` alone is all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct PathPolicy(BTreeMap<OrgId, Vec<Prefix>>);

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Prefix {
    text: String,
    open: bool,
}

impl PathPolicy {
    /// Whether the organisation may reach this place.
    #[must_use]
    pub fn allows(&self, org: &OrgId, place: &str) -> bool {
        let prefixes = self.0.get(org).into_iter().flatten();
        prefixes.into_iter().any(|prefix| prefix.allows(place))
    }

    /// Whether a folder is on the way to a place that the organisation may reach, or all in it is one;
    /// empty or with a slash at its end.
    #[must_use]
    pub fn leads(&self, org: &OrgId, folder: &str) -> bool {
        let prefixes = self.0.get(org).into_iter().flatten();
        let inside = format!("{folder}x");
        prefixes
            .into_iter()
            .any(|prefix| prefix.text.starts_with(folder) || prefix.allows(&inside))
    }

    /// Whether what is of the manager as a whole is the organisation's: it may reach everything there, or
    /// no other one reaches anything.
    #[must_use]
    pub fn governs(&self, org: &OrgId) -> bool {
        let prefixes = self.0.get(org).map_or(&[][..], Vec::as_slice);
        let everything = |prefix: &Prefix| prefix.open && prefix.text.is_empty();
        let others = self.0.iter().filter(|(other, _)| *other != org);
        let alone = others.map(|(_, prefixes)| prefixes).all(Vec::is_empty);
        prefixes.iter().any(everything) || (alone && !prefixes.is_empty())
    }

    /// What an organisation may reach, as it was written.
    #[must_use]
    pub fn prefixes(&self, org: &OrgId) -> Vec<String> {
        let prefixes = self.0.get(org).into_iter().flatten();
        prefixes.map(Prefix::written).collect()
    }
}

impl Prefix {
    fn allows(&self, place: &str) -> bool {
        let Some(rest) = place.strip_prefix(&self.text) else {
            return false;
        };
        self.open || rest.is_empty() || rest.starts_with('/')
    }

    fn written(&self) -> String {
        let end = if self.open { "*" } else { "" };
        format!("{}{end}", self.text)
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (prefix, open) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text.trim_end_matches('/'), false),
        };
        if prefix.is_empty() && !open {
            return Err("an empty prefix allows nothing: `*` allows everything".into());
        }
        let odd = |part: &str| part.is_empty() || part == "." || part == "..";
        let mut parts = prefix.split('/').collect::<Vec<_>>();
        if open {
            // What comes before the star may be a part's beginning, or nothing.
            parts.pop();
        }
        if prefix.contains('*') || parts.into_iter().any(odd) {
            return Err(format!(
                "{text:?} is no prefix: write parts with `/` between them, and at most one `*`, at \
                 the end"
            ));
        }
        Ok(Self {
            text: prefix.to_owned(),
            open,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(yaml: &str) -> Result<PathPolicy, String> {
        serde_yaml::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn a_prefix_is_whole_parts_unless_it_says_otherwise() {
        let policy = policy("{a: [team, secret/x/], b: ['database/creds/b-*'], c: ['*']}").unwrap();
        for (org, place, allowed) in [
            ("a", "team", true),
            ("a", "team/db", true),
            ("a", "team2/db", false),
            ("a", "secret/x/y", true),
            ("a", "secret/y", false),
            ("a", "", false),
            ("b", "database/creds/b-app", true),
            ("b", "database/creds/a-app", false),
            ("b", "team/db", false),
            ("c", "anything/at/all", true),
            ("d", "team", false),
        ] {
            assert_eq!(
                policy.allows(&org.parse().unwrap(), place),
                allowed,
                "{org} {place}"
            );
        }
        assert_eq!(policy.prefixes(&"a".parse().unwrap()), ["team", "secret/x"]);
    }

    #[test]
    fn folders_are_seen_on_the_way_and_within() {
        let policy = policy("{a: [team/x, 'db/creds/a-*'], b: ['*'], c: []}").unwrap();
        for (org, folder, leads) in [
            ("a", "", true),
            ("a", "team/", true),
            ("a", "team/x/", true),
            ("a", "team/x/y/", true),
            ("a", "team/y/", false),
            ("a", "team/x2/", false),
            ("a", "tea/", false),
            ("a", "db/creds/", true),
            ("a", "db/creds/a-b/", true),
            ("a", "db/creds/b/", false),
            ("a", "db/roles/", false),
            ("b", "anything/", true),
            ("c", "", false),
            ("d", "", false),
        ] {
            let org = org.parse().unwrap();
            assert_eq!(policy.leads(&org, folder), leads, "{org} {folder}");
        }
    }

    #[test]
    fn the_whole_of_a_manager_is_of_who_has_everything_or_is_alone() {
        for (yaml, governs) in [
            ("{a: [team]}", true),
            ("{a: [team], b: []}", true),
            ("{a: [team], b: [x]}", false),
            ("{a: ['*'], b: [x]}", true),
            ("{a: ['x*'], b: [x]}", false),
            ("{a: [team], b: ['*']}", false),
            ("{a: []}", false),
            ("{b: [team]}", false),
            ("{}", false),
        ] {
            let governed = policy(yaml).unwrap().governs(&"a".parse().unwrap());
            assert_eq!(governed, governs, "{yaml}");
        }
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for prefix in ["", "/", "a//b", "../a", "a/*/b", "a**", "/a"] {
            assert!(policy(&format!("{{o: ['{prefix}']}}")).is_err(), "{prefix}");
        }
    }
}
