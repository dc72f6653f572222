//! Unit files as they lie on this machine (systemd.unit(5)): fragments, drop-ins, and the one
//! setting that matters here. No D-Bus: it works in an image too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::config::read_bounded;
use crate::consumers::names::UnitName;

/// The unit files below a root.
#[derive(Debug)]
pub(super) struct UnitFiles {
    root: PathBuf,
}

/// A unit as its files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// There is no file of that name.
    Absent,
    /// It is linked to `/dev/null`.
    Masked,
    /// It is there; which credentials it loads, by id, and from where.
    Present(BTreeMap<String, String>),
}

impl UnitFiles {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// A unit with its drop-ins; an instance is looked for under its own name and its template's.
    pub(super) fn find(&self, unit: &UnitName) -> Found {
        let names = [Some(unit.clone()), unit.template()];
        let names: Vec<_> = names.into_iter().flatten().collect();
        let Some(fragment) = names.iter().find_map(|name| self.first(name.as_str())) else {
            return Found::Absent;
        };
        if is_masked(&fragment) {
            return Found::Masked;
        }
        let mut credentials = BTreeMap::new();
        for file in std::iter::once(fragment).chain(self.drop_ins(&names)) {
            take_credentials(&self.text(&file), &mut credentials);
        }
        Found::Present(credentials)
    }

    /// Every unit whose files load a credential from `socket`.
    pub(super) fn loading_from(&self, socket: &str) -> BTreeSet<UnitName> {
        let mut names = BTreeSet::new();
        for entry in self.directories().flat_map(|dir| entries(&dir)) {
            let name = entry
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let name = name.strip_suffix(".d").unwrap_or(&name);
            names.extend(name.parse::<UnitName>().ok());
        }
        names.retain(|unit| {
            let Found::Present(credentials) = self.find(unit) else {
                return false;
            };
            credentials.values().any(|from| from == socket)
        });
        names
    }

    fn directories(&self) -> impl Iterator<Item = PathBuf> {
        DIRECTORIES.iter().map(|dir| self.root.join(dir))
    }

    /// The file of the highest precedence.
    fn first(&self, name: &str) -> Option<PathBuf> {
        let mut places = self.directories().map(|dir| dir.join(name));
        places.find(|path| fs::symlink_metadata(path).is_ok())
    }

    /// In the order in which they count: by file name, of which the directory that comes first
    /// decides.
    fn drop_ins(&self, names: &[UnitName]) -> Vec<PathBuf> {
        let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
        for name in names {
            for dir in self.directories() {
                for file in entries(&dir.join(format!("{name}.d"))) {
                    let conf = file.file_name().unwrap_or_default().to_string_lossy();
                    if conf.ends_with(".conf") {
                        files.entry(conf.into_owned()).or_insert(file);
                    }
                }
            }
        }
        files.into_values().collect()
    }

    /// What cannot be read says nothing. An absolute link stays below the root.
    fn text(&self, path: &Path) -> String {
        let target = fs::read_link(path)
            .ok()
            .filter(|target| target.is_absolute());
        let target = target.and_then(|it| Some(self.root.join(it.strip_prefix("/").ok()?)));
        read_bounded(target.as_deref().unwrap_or(path)).unwrap_or_default()
    }
}

fn is_masked(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/null"))
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let entries = entries.filter_map(Result::ok).take(MAX_ENTRIES);
    entries.map(|entry| entry.path()).collect()
}

/// `LoadCredential=ID:PATH` of the section `[Service]` (and its like); an empty one takes back those
/// before it.
fn take_credentials(text: &str, credentials: &mut BTreeMap<String, String>) {
    let text = text.replace("\\\n", " ");
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            section = name;
        }
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        if !SECTIONS.contains(&section) || key.trim_end() != "LoadCredential" {
            continue;
        }
        let value = value.trim().trim_matches(['"', '\'']);
        if value.is_empty() {
            credentials.clear();
        } else if let Some((id, path)) = value.split_once(':') {
            // Of the specifiers (systemd.unit(5)) only this one makes sense in a socket's path.
            let path = path.trim().replace("%t", "/run").replace("%%", "%");
            credentials.insert(id.trim().to_owned(), path);
        }
    }
}

/// In the order of precedence; a generator's units are there for Quadlet.
const DIRECTORIES: &[&str] = &[
    "etc/systemd/system.control",
    "run/systemd/system.control",
    "run/systemd/transient",
    "run/systemd/generator.early",
    "etc/systemd/system",
    "run/systemd/system",
    "run/systemd/generator",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
    "run/systemd/generator.late",
];
/// The sections with the settings of systemd.exec(5).
const SECTIONS: &[&str] = &["Service", "Socket", "Mount", "Swap"];
const MAX_ENTRIES: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn find(&self, unit: &str) -> Found {
            UnitFiles::new(self.0.path()).find(&unit.parse().unwrap())
        }
    }

    fn present(credentials: &[(&str, &str)]) -> Found {
        let own = |(id, path): &(&str, &str)| (id.to_string(), path.to_string());
        Found::Present(credentials.iter().map(own).collect())
    }

    #[test]
    fn a_unit_is_its_first_file_with_all_drop_ins() {
        let machine = Machine::new();
        assert_eq!(machine.find("a.service"), Found::Absent);
        machine.write(
            "usr/lib/systemd/system/a.service",
            "[Unit]\nLoadCredential=no:/no\n[Service]\nLoadCredential=vendor:/v\n",
        );
        assert_eq!(machine.find("a.service"), present(&[("vendor", "/v")]));
        machine.write(
            "etc/systemd/system/a.service",
            "[Service]\n# LoadCredential=c:/c\nLoadCredential = x:%t/s.sock\nLoadCredential=\\\n y:/y\n",
        );
        let own = [("x", "/run/s.sock"), ("y", "/y")];
        assert_eq!(machine.find("a.service"), present(&own));
        machine.write(
            "usr/lib/systemd/system/a.service.d/20.conf",
            "[Service]\nLoadCredential=z:/z\n",
        );
        machine.write(
            "run/systemd/system/a.service.d/10.conf",
            "[Service]\nLoadCredential=\nLoadCredential=\"w:/w\"\n",
        );
        assert_eq!(
            machine.find("a.service"),
            present(&[("w", "/w"), ("z", "/z")])
        );
        // A file of the same name in a higher place is instead of it.
        machine.write("etc/systemd/system/a.service.d/20.conf", "");
        assert_eq!(machine.find("a.service"), present(&[("w", "/w")]));
    }

    #[test]
    fn an_instance_is_its_template() {
        let machine = Machine::new();
        let text = "[Service]\nLoadCredential=a:/s\n";
        machine.write("etc/systemd/system/u@.service", text);
        machine.write(
            "etc/systemd/system/u@b.service.d/x.conf",
            "[Service]\nLoadCredential=b:/s\n",
        );
        assert_eq!(machine.find("u@a.service"), present(&[("a", "/s")]));
        assert_eq!(
            machine.find("u@b.service"),
            present(&[("a", "/s"), ("b", "/s")])
        );
        let found = UnitFiles::new(machine.0.path()).loading_from("/s");
        let names: Vec<_> = found.iter().map(UnitName::as_str).collect();
        assert_eq!(names, ["u@.service", "u@b.service"]);
    }

    #[test]
    fn links_stay_below_the_root_and_null_is_masked() {
        let machine = Machine::new();
        machine.write("opt/a.service", "[Service]\nLoadCredential=a:/s\n");
        let dir = machine.0.path().join("etc/systemd/system");
        fs::create_dir_all(&dir).unwrap();
        symlink("/opt/a.service", dir.join("a.service")).unwrap();
        symlink("/dev/null", dir.join("b.service")).unwrap();
        assert_eq!(machine.find("a.service"), present(&[("a", "/s")]));
        assert_eq!(machine.find("b.service"), Found::Masked);
    }

    proptest! {
        #[test]
        fn whatever_stands_in_a_file_is_read_without_a_fault(text in "(\\PC|\n){0,200}") {
            let mut credentials = BTreeMap::new();
            take_credentials(&text, &mut credentials);
            prop_assert!(credentials.keys().all(|id| !id.contains(':')));
        }
    }
}
