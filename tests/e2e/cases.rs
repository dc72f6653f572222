//! Lists of cases that must be shown by tests, and whether those tests exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Something that others get wrong or leave untested, and the tests that show how it is here.
pub(crate) struct Case {
    pub(crate) number: &'static str,
    pub(crate) what: &'static str,
    pub(crate) shown_by: &'static [&'static str],
}

pub(crate) const fn case(
    number: &'static str,
    what: &'static str,
    shown_by: &'static [&'static str],
) -> Case {
    Case {
        number,
        what,
        shown_by,
    }
}

/// Demands that every case has tests, that these exist, and that no number stands twice.
pub(crate) fn check<'a>(cases: impl Iterator<Item = &'a Case>, tests: &BTreeSet<String>) {
    let mut numbers = BTreeSet::new();
    for case in cases {
        let (number, what) = (case.number, case.what);
        assert!(!case.shown_by.is_empty(), "{number}: {what}");
        for name in case.shown_by {
            assert!(tests.contains(*name), "{number}: {what}: no test {name}");
        }
        assert!(numbers.insert(number), "{number} stands twice");
    }
}

/// The names of all tests in the workspace, and of what else has no parameters or is a property.
pub(crate) fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut tests = BTreeSet::new();
    for member in ["protocol", "managers", "hub", "agent", "tests"] {
        collect(&root.join(member), &mut tests);
    }
    tests
}

fn collect(dir: &Path, tests: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, tests);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("readable");
            let mut former = "";
            for line in text.lines() {
                let name = line.split_once("fn ").and_then(|(_, rest)| {
                    let (name, parameters) = rest.split_once('(')?;
                    let is_test = parameters.starts_with(')') || former.trim() == "#[test]";
                    is_test.then(|| name.to_owned())
                });
                tests.extend(name);
                former = line;
            }
        }
    }
}
