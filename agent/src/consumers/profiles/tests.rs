use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;
use tempfile::TempDir;

use super::ProfileEffect::{FormerStays, Ignored, Warning};
use super::*;

/// A directory of profiles, and a store over it.
struct Node {
    dir: TempDir,
    store: ProfileStore,
}

impl Node {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        make_dir(&dir.path().join("services.d"));
        let store = Self::open(&dir);
        let mut node = Self { dir, store };
        for (name, text) in files {
            node.write(name, text);
        }
        node.restart();
        node
    }

    fn open(dir: &TempDir) -> ProfileStore {
        ProfileStore::open(
            &dir.path().join("services.d"),
            &dir.path().join("state/kept"),
        )
    }

    fn restart(&mut self) {
        self.store = Self::open(&self.dir);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("services.d").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// The owner that the profile of `service` gives.
    fn owner(&self, service: &str) -> Option<String> {
        let profile = self.store.profiles().of(&consumer(service, "c"))?.clone();
        Some(format!("{:?}", profile.shape.owner.clone()?))
    }

    /// File, line, effect of every problem.
    fn problems(&self) -> Vec<(String, Option<usize>, ProfileEffect)> {
        let shown = |problem: &ProfileProblem| {
            let name = Path::new(&problem.file)
                .file_name()
                .unwrap()
                .to_str()
                .unwrap();
            (name.to_owned(), problem.line, problem.effect)
        };
        self.store.problems().iter().map(shown).collect()
    }

    fn reason(&self) -> &str {
        &self.store.problems()[0].reason
    }

    fn kept(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join("state/kept"));
        let names = entries
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Whatever the umask says: what others can write is refused.
fn make_dir(path: &Path) {
    fs::create_dir(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn consumer(service: &str, consumer: &str) -> ConsumerId {
    ConsumerId {
        service: service.parse().unwrap(),
        consumer: consumer.parse().unwrap(),
    }
}

fn id(number: u32) -> Option<String> {
    Some(format!("Id({number})"))
}

#[test]
fn a_missing_directory_is_no_profiles_and_no_problem() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Node::open(&dir);
    assert_eq!(*store.profiles(), Profiles::default());
    assert_eq!(store.problems(), []);
    assert!(!store.reload());
    assert_eq!(store.watched(), [dir.path().join("services.d")]);
}

#[test]
fn a_change_is_told_once() {
    let mut node = Node::new(&[("a.yaml", "service: o/a\nowner: 1\n")]);
    assert_eq!(node.owner("o/a"), id(1));
    assert!(!node.store.reload());
    node.write("a.yaml", "service: o/a\nowner: 2\n");
    assert!(node.store.reload());
    assert!(!node.store.reload());
    assert_eq!(node.owner("o/a"), id(2));
    node.remove("a.yaml");
    assert!(node.store.reload());
    assert_eq!(node.owner("o/a"), None);
    assert!(node.kept().is_empty(), "what is deleted is forgotten");
}

#[test]
fn a_bad_file_keeps_its_last_good_version_over_restarts_and_touches_no_other() {
    let mut node = Node::new(&[
        (
            "a.yaml",
            "service: o/a\nowner: 1\n---\nservice: o/a2\nowner: 1\n",
        ),
        ("b.yaml", "service: o/b\nowner: 1\n"),
    ]);
    node.write(
        "a.yaml",
        "service: o/a\nowner: 2\n---\nservice: o/a2\nownr: 2\n",
    );
    node.write("b.yaml", "service: o/b\nowner: 2\n");
    node.write("c.yaml", "nonsense\n");
    assert!(node.store.reload());
    for _ in 0..2 {
        assert_eq!(node.owner("o/a"), id(1), "as a whole");
        assert_eq!(node.owner("o/a2"), id(1));
        assert_eq!(node.owner("o/b"), id(2));
        let wanted = [
            ("a.yaml".to_owned(), Some(5), FormerStays),
            ("c.yaml".to_owned(), Some(1), Ignored),
        ];
        assert_eq!(node.problems(), wanted);
        assert!(
            node.reason().contains("unknown field `ownr`"),
            "{}",
            node.reason()
        );
        node.restart();
    }
    node.write("a.yaml", "service: o/a\nowner: 3\n");
    node.remove("c.yaml");
    assert!(node.store.reload());
    assert_eq!(node.problems(), []);
    assert_eq!((node.owner("o/a"), node.owner("o/a2")), (id(3), None));
}

#[test]
fn what_is_remembered_is_for_the_agent_alone_and_dropped_when_it_does_not_parse() {
    let mut node = Node::new(&[
        ("a.yaml", "service: o/a\nowner: 1\n"),
        ("b.yaml", "service: o/b\nowner: 1\n"),
    ]);
    assert_eq!(node.kept(), ["a.yaml", "b.yaml"]);
    let kept = node.dir.path().join("state/kept");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&kept), mode(&kept.join("a.yaml"))), (0o700, 0o600));
    fs::write(kept.join("a.yaml"), r#"{"text":"nonsense","sources":{}}"#).unwrap();
    fs::write(kept.join("b.yaml"), "{").unwrap();
    fs::write(kept.join(".fresh"), "left by a kill").unwrap();
    node.write("a.yaml", "?");
    node.write("b.yaml", "?");
    node.restart();
    assert_eq!((node.owner("o/a"), node.owner("o/b")), (None, None));
    assert_eq!(node.kept(), [""; 0]);
}

#[test]
fn where_nothing_can_be_remembered_profiles_are_in_force_and_that_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let services = dir.path().join("services.d");
    make_dir(&services);
    fs::write(services.join("a.yaml"), "service: o/a\n").unwrap();
    fs::set_permissions(services.join("a.yaml"), fs::Permissions::from_mode(0o600)).unwrap();
    let blocked = dir.path().join("file");
    fs::write(&blocked, "").unwrap();
    let mut store = ProfileStore::open(&services, &blocked.join("kept"));
    assert!(store.profiles().of(&consumer("o/a", "c")).is_some());
    assert_eq!(store.problems()[0].effect, Warning);
    assert!(!store.reload());
}

#[test]
fn of_two_files_that_contradict_each_other_the_later_is_refused() {
    let mut node = Node::new(&[(
        "b.yaml",
        "service: o/x\nowner: 2\n---\nservice: o/b\nowner: 2\n",
    )]);
    node.write("a.yaml", "# first\nservice: o/x\nowner: 1\n");
    assert!(node.store.reload());
    for _ in 0..2 {
        assert_eq!((node.owner("o/x"), node.owner("o/b")), (id(1), None));
        assert_eq!(node.problems(), [("b.yaml".to_owned(), Some(1), Ignored)]);
        assert!(node.reason().contains("a.yaml:2"), "{}", node.reason());
        node.restart();
    }
    // What was remembered of it is of no use while it contradicts; then it is itself again.
    node.remove("a.yaml");
    assert!(node.store.reload());
    assert_eq!((node.owner("o/x"), node.owner("o/b")), (id(2), id(2)));
    assert_eq!(node.problems(), []);
}

#[test]
fn a_file_that_begins_to_contradict_another_falls_back_to_what_it_was() {
    let mut node = Node::new(&[
        ("a.yaml", "service: o/a\nowner: 1\n"),
        ("b.yaml", "service: o/b\nowner: 1\n"),
    ]);
    node.write("b.yaml", "service: o/a\nowner: 2\n");
    assert!(node.store.reload());
    assert_eq!((node.owner("o/a"), node.owner("o/b")), (id(1), id(1)));
    assert_eq!(
        node.problems(),
        [("b.yaml".to_owned(), Some(1), FormerStays)]
    );
}

#[test]
fn a_refused_files_former_version_takes_nothing_from_a_good_file() {
    let mut node = Node::new(&[("a.yaml", "service: o/x\nowner: 1\n")]);
    node.write("a.yaml", "service: [\n");
    node.write("b.yaml", "service: o/x\nowner: 2\n");
    assert!(node.store.reload());
    assert_eq!(node.owner("o/x"), id(2));
    assert_eq!(node.problems()[0].2, Ignored);
    assert!(node.reason().contains("b.yaml:1"), "{}", node.reason());
}

#[test]
fn a_unit_has_one_profile() {
    let node = Node::new(&[
        ("a.yaml", "service: o/a\nsystemd: { units: [u.service] }\n"),
        (
            "b.yaml",
            "service: o/b\nsystemd:\n  units:\n  - v.service\n  - u.service\n",
        ),
    ]);
    assert_eq!(node.problems(), [("b.yaml".to_owned(), Some(5), Ignored)]);
    assert!(node.reason().contains("a.yaml:2"), "{}", node.reason());
    assert!(
        node.store
            .profiles()
            .of_unit(&"v.service".parse().unwrap())
            .is_none()
    );
}

#[test]
fn what_others_can_write_is_refused_and_its_last_good_version_stays() {
    let mut node = Node::new(&[("a.yaml", "service: o/a\nowner: 1\n")]);
    let chmod = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    node.write("a.yaml", "service: o/a\nowner: 2\n");
    chmod(&node.path("a.yaml"), 0o666);
    assert!(node.store.reload());
    assert_eq!(node.owner("o/a"), id(1));
    assert_eq!(node.problems(), [("a.yaml".to_owned(), None, FormerStays)]);
    assert!(node.reason().contains("chmod go-w"), "{}", node.reason());

    chmod(&node.path("a.yaml"), 0o644);
    chmod(&node.path(""), 0o777);
    assert!(node.store.reload());
    for _ in 0..2 {
        assert_eq!(node.owner("o/a"), id(1));
        assert_eq!(
            node.problems(),
            [("services.d".to_owned(), None, FormerStays)]
        );
        node.restart();
    }
    chmod(&node.path(""), 0o755);
    assert!(node.store.reload());
    assert_eq!((node.owner("o/a"), node.problems()), (id(2), Vec::new()));
}

#[test]
fn a_templates_source_is_watched_checked_and_remembered() {
    let profile = "service: o/a\ntemplates: [{ name: t, source: templates/t.j2 }]\n";
    let mut node = Node::new(&[("a.yaml", profile)]);
    assert_eq!(node.problems(), [("a.yaml".to_owned(), Some(2), Ignored)]);
    assert!(node.store.watched().contains(&node.path("templates/t.j2")));
    make_dir(&node.path("templates"));
    node.write("templates/t.j2", "one");
    assert!(node.store.reload());
    let text = |node: &Node| {
        let profiles = node.store.profiles();
        let profile = profiles.of(&consumer("o/a", "c")).unwrap().clone();
        profile.shape.templates[0].text.clone()
    };
    assert_eq!(text(&node), "one");
    node.write("templates/t.j2", "{{");
    assert!(node.store.reload());
    for _ in 0..2 {
        assert_eq!(text(&node), "one");
        assert_eq!(
            node.problems(),
            [("a.yaml".to_owned(), Some(2), FormerStays)]
        );
        node.restart();
    }
    node.write("templates/t.j2", "two");
    assert!(node.store.reload());
    assert_eq!(
        (text(&node), node.problems()),
        ("two".to_owned(), Vec::new())
    );
}

#[test]
fn links_are_followed_and_dangling_ones_are_wrong() {
    let mut node = Node::new(&[]);
    make_dir(&node.path("..1"));
    node.write("..1/a.yaml", "service: o/a\nowner: 1\n");
    symlink("..1", node.path("..data")).unwrap();
    symlink("..data/a.yaml", node.path("a.yaml")).unwrap();
    assert!(node.store.reload());
    assert_eq!(node.owner("o/a"), id(1));
    assert!(node.store.watched().contains(&node.path("a.yaml")));
    fs::remove_file(node.path("..data")).unwrap();
    assert!(node.store.reload());
    assert_eq!(node.problems(), [("a.yaml".to_owned(), None, FormerStays)]);
    assert_eq!(node.owner("o/a"), id(1));
}

#[test]
fn more_files_than_allowed_are_named() {
    let files: Vec<_> = (0..257)
        .map(|n| (format!("{n:03}.yaml"), format!("service: o/{n}\n")))
        .collect();
    let files: Vec<_> = files
        .iter()
        .map(|(n, t)| (n.as_str(), t.as_str()))
        .collect();
    let node = Node::new(&files);
    assert_eq!(node.store.profiles().iter().count(), 256);
    assert_eq!(node.problems(), [("256.yaml".to_owned(), None, Ignored)]);
}

#[test]
fn the_example_profiles_are_right() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/services.d");
    let mut read = 0;
    for entry in fs::read_dir(&examples).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let source = |source: &str| {
            fs::read_to_string(examples.join(source)).map_err(|error| error.to_string())
        };
        let checked = Parsed::new(&text).unwrap().check(&path, &text, source);
        assert_eq!(
            checked
                .unwrap_or_else(|wrong| panic!("{} {wrong:?}", path.display()))
                .warnings,
            []
        );
        read += 1;
    }
    assert!(read > 0);
}

proptest! {
    #[test]
    fn the_own_profile_goes_before_the_services_and_the_exact_unit_before_its_template(
        whole in any::<bool>(), own in any::<bool>(),
        template in any::<bool>(), exact in any::<bool>(),
        instance in "[a-z]{1,5}", order in any::<bool>(),
    ) {
        let mut documents = Vec::new();
        if whole {
            documents.push("service: o/s\nowner: 1\n".to_owned());
        }
        if own {
            documents.push("service: o/s\nconsumer: c\nowner: 2\n".to_owned());
        }
        if template {
            documents.push("service: o/t\nsystemd: { units: [u@.service] }\n".to_owned());
        }
        if exact {
            let units = format!("service: o/e\nsystemd: {{ units: [u@{instance}.service] }}\n");
            documents.push(units);
        }
        if order {
            documents.reverse();
        }
        let text = documents.join("---\n");
        let none = |_: &str| Err(String::new());
        let checked = Parsed::new(&text).unwrap().check(Path::new("x"), &text, none).unwrap();
        let mut claims = Claims::default();
        claims.take(&Arc::new(checked)).unwrap();
        let profiles = claims.into_profiles();

        let owner = |name| profiles.of(&consumer("o/s", name)).and_then(|p| p.shape.owner.clone());
        let whole = whole.then_some(super::super::profile::Principal::Id(1));
        let wanted = if own {
            Some(super::super::profile::Principal::Id(2))
        } else {
            whole.clone()
        };
        prop_assert_eq!(owner("c"), wanted);
        prop_assert_eq!(owner("d"), whole);

        let unit = |name: &str| {
            let profile = profiles.of_unit(&name.parse().unwrap())?;
            Some(profile.service.to_string())
        };
        let template = template.then(|| "o/t".to_owned());
        let wanted = if exact { Some("o/e".to_owned()) } else { template.clone() };
        prop_assert_eq!(unit(&format!("u@{instance}.service")), wanted);
        prop_assert_eq!(unit("u@other0.service"), template);
        prop_assert_eq!(unit("u.service"), None);
        prop_assert_eq!(profiles.iter().count(), documents.len());
    }
}
