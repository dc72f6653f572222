//! Lines and columns for what is found in a document only when it is seen with others: that a service is
//! not published, that two bindings contradict each other, that a secret is not there. Such findings name
//! paths into the document; who publishes its text is told where those stand.

use serde_json::Value;

use super::document::{self, Fault, Step};

/// The findings, with the place in `text` after every path that they name: at the end of a finding where
/// the path stands in front. As they are where they have a place already, or name nothing that is there;
/// and after 8 places, as each takes another look at the text.
#[must_use]
pub fn placed(text: &str, findings: &[String]) -> Vec<String> {
    match document::read(text) {
        Ok(root) => {
            let mut left = MAX_PLACES;
            let mut place = |path: &str| {
                let steps = steps(path).filter(|steps| is_there(&root, steps))?;
                left = left.checked_sub(1)?;
                let reason = String::new();
                let found = Fault { steps, reason }.in_text(text);
                Some(format!(" (line {}, column {})", found.line?, found.column?))
            };
            let placed = findings.iter().map(|finding| one(finding, &mut place));
            placed.collect()
        }
        Err(_) => findings.to_vec(),
    }
}

fn one(finding: &str, place: &mut dyn FnMut(&str) -> Option<String>) -> String {
    if finding.contains(" (line ") {
        return finding.to_owned();
    }
    let (front, rest) = finding.split_once(": ").unwrap_or(("", finding));
    let mut is_placed = false;
    let words = rest.split(' ').map(|word| {
        // A word alone is no path: it stands in sentences too.
        match word.contains('[').then(|| place(word)).flatten() {
            Some(place) => {
                is_placed = true;
                word.to_owned() + &place
            }
            None => word.to_owned(),
        }
    });
    let rest = words.collect::<Vec<_>>().join(" ");
    // What it names further on is nearer.
    match (is_placed, front.is_empty()) {
        (true, true) => rest,
        (true, false) => format!("{front}: {rest}"),
        (false, _) => finding.to_owned() + &place(front).unwrap_or_default(),
    }
}

/// The steps of a path of plain names, as [`document::path`] writes it.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let mut indexes = part.split('[');
        let key = indexes.next().filter(|key| !key.is_empty())?;
        steps.push(Step::Key(key.to_owned()));
        for index in indexes {
            let index = index.strip_suffix(']')?.parse().ok()?;
            steps.push(Step::Index(index));
        }
    }
    Some(steps)
}

fn is_there(root: &Value, steps: &[Step]) -> bool {
    let found = steps.iter().try_fold(root, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(at) => value.get(at),
    });
    found.is_some()
}

/// How often a text is looked at again.
const MAX_PLACES: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "service:\n  name: up\n  serviceVersions:\n  - version: 1.0.0\nsecretBinding:\n\
                        - secrets:\n  - a: x\n- secrets:\n  - a: y\n";

    #[test]
    fn what_a_finding_names_is_found_again() {
        for (finding, expected) in [
            (
                "service.serviceVersions[0]: o/up 1.0.0 is not published",
                "service.serviceVersions[0]: o/up 1.0.0 is not published (line 4, column 5)",
            ),
            (
                "secretBinding: o/up: secret a is bound twice: secretBinding[0].secrets[0] and \
                 secretBinding[1].secrets[0] apply equally",
                "secretBinding: o/up: secret a is bound twice: secretBinding[0].secrets[0] (line 7, \
                 column 5) and secretBinding[1].secrets[0] (line 9, column 5) apply equally",
            ),
            // What is placed already, what is not there, and what is no path.
            (
                "service: x (line 1, column 2)",
                "service: x (line 1, column 2)",
            ),
            ("service[0]: x", "service[0]: x"),
            ("secretBinding[2]: x", "secretBinding[2]: x"),
            (
                "another service published it",
                "another service published it",
            ),
            (
                "secret \"service\" does not exist",
                "secret \"service\" does not exist",
            ),
        ] {
            assert_eq!(placed(TEXT, &[finding.to_owned()]), [expected]);
        }
        let found = ["service: x".to_owned()];
        assert_eq!(placed("[", &found), found);
    }

    #[test]
    fn a_text_is_looked_at_no_more_often_than_is_bounded() {
        let found = vec!["service: x".to_owned(); MAX_PLACES + 1];
        let told = placed(TEXT, &found);
        assert_eq!(told[MAX_PLACES - 1], "service: x (line 2, column 3)");
        assert_eq!(told[MAX_PLACES], "service: x");
    }

    proptest! {
        #[test]
        fn whatever_is_found_is_told(finding in "[a-c.\\[\\]0-9: ü]{0,40}") {
            let told = placed("a: [b]\nb: {c: 1}", std::slice::from_ref(&finding));
            prop_assert!(told[0].len() >= finding.len());
        }
    }
}
