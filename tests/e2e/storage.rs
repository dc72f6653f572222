//! Files that are not what was written: each is named, with what to do, and nothing else is touched.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use edge_secrets_tests::operator::run;
use edge_secrets_tests::{TestAgent, TestHub, wait};
use libtest_mimic::Trial;

use crate::delivery::{URL, delivered};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        a_damaged_identity_is_named_with_what_to_do_and_nothing_else_is_touched,
        a_lost_sealing_key_or_mark_is_replaced_and_nothing_is_missing,
        a_state_directory_brought_back_from_an_older_copy_goes_on,
        a_damaged_cache_is_set_aside_and_filled_again,
        a_damaged_file_of_the_hub_is_named_with_what_to_do_and_left_as_it_is,
        a_damaged_log_of_the_hubs_database_is_not_passed_over,
    ]
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// One bit in its middle.
    Flipped,
    Truncated,
    Empty,
    /// Its first bytes.
    Header,
    /// The beginning of a page of a database, in its middle.
    Page,
    /// A directory stands in its place.
    Directory,
    Gone,
}

/// What may become of any file.
const ALL: [Damage; 5] = [
    Damage::Flipped,
    Damage::Truncated,
    Damage::Empty,
    Damage::Directory,
    Damage::Gone,
];

impl Damage {
    fn done_to(self, path: &Path) {
        let mut bytes = fs::read(path).expect("a file");
        let half = bytes.len() / 2;
        match self {
            Self::Flipped => bytes[half] ^= 1,
            Self::Header => bytes[..16].fill(0xa5),
            Self::Page => bytes[half / PAGE * PAGE..][..64].fill(0xa5),
            Self::Truncated => bytes.truncate(half),
            Self::Empty => bytes.clear(),
            Self::Directory | Self::Gone => {
                fs::remove_file(path).expect("removed");
                if self == Self::Directory {
                    fs::create_dir(path).expect("a directory");
                }
                return;
            }
        }
        fs::write(path, bytes).expect("written");
    }
}

/// Every file below a directory, links followed, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tree(BTreeMap<PathBuf, (u32, Option<Vec<u8>>)>);

impl Tree {
    fn of(dir: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut dirs = vec![dir.to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).expect("a directory") {
                let path = entry.expect("an entry").path();
                let metadata = fs::symlink_metadata(&path).expect("an entry");
                let mode = metadata.permissions().mode();
                if metadata.is_dir() {
                    dirs.push(path.clone());
                    files.insert(path, (mode, None));
                } else if metadata.is_file() {
                    let content = fs::read(&path).expect("readable");
                    files.insert(path, (mode, Some(content)));
                }
            }
        }
        Self(files)
    }

    /// Every file is the same, but for those that a lock or a reader of the database makes.
    fn assert_same(&self, after: &Self, what: &str) {
        let own = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            matches!(&*name, "lock" | "identity.lock" | "hub.db-shm")
                || (name == "hub.db-wal" && fs::metadata(path).is_ok_and(|wal| wal.len() == 0))
        };
        let paths = self.0.keys().chain(after.0.keys());
        for path in paths.filter(|path| !own(path)) {
            assert!(
                self.0.get(path) == after.0.get(path),
                "{what}: {} was changed",
                path.display()
            );
        }
    }

    /// Puts it back as it was.
    fn restore(&self, dir: &Path) {
        for path in Self::of(dir).0.into_keys().rev() {
            if !self.0.contains_key(&path) {
                match path.is_dir() {
                    true => fs::remove_dir_all(&path).expect("removed"),
                    false => fs::remove_file(&path).expect("removed"),
                }
            }
        }
        for (path, (mode, content)) in &self.0 {
            match content {
                None => fs::create_dir_all(path).expect("a directory"),
                Some(content) => {
                    if path.is_dir() {
                        fs::remove_dir_all(path).expect("removed");
                    }
                    fs::write(path, content).expect("written");
                }
            }
            fs::set_permissions(path, Permissions::from_mode(*mode)).expect("a mode");
        }
    }
}

fn a_damaged_identity_is_named_with_what_to_do_and_nothing_else_is_touched() {
    let (_hub, mut agent) = delivered("one");
    assert!(agent.stop().success());
    let state = agent.state_dir();
    let whole = Tree::of(&state);
    let cases = ["node.key", "node.crt", "ca.crt"].map(|name| ALL.map(|damage| (name, damage)));
    for (name, damage) in cases.into_iter().flatten() {
        let what = format!("{name} {damage:?}");
        let file = fs::canonicalize(state.join("identity"))
            .expect("a set")
            .join(name);
        let key = fs::read_to_string(state.join("identity/node.key")).expect("a key");
        damage.done_to(&file);
        let before = Tree::of(&state);
        // Where it is flipped decides whether that can be told without the hub.
        let starts = || agent.ended(&["check"]).code != 64;
        if (name, damage) == ("ca.crt", Damage::Flipped) && starts() {
            agent.run();
            agent.await_status(&what, |status| {
                let error = status["hub"]["error"].as_str().unwrap_or_default();
                error.contains("ca.crt") && error.contains("enrol")
            });
            assert!(agent.stop().success());
            whole.restore(&state);
            continue;
        }
        for args in [&["run"][..], &["check"]] {
            let ended = agent.ended(args);
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert_eq!(ended.code, 64, "{what}: {args:?}: {ended:?}");
            let path = file.to_str().expect("a plain path");
            assert!(said.contains(path), "{what}: {args:?}: {said}");
            let advice = "edge-secrets-agent enroll --force --token -";
            assert!(said.contains(advice), "{what}: {args:?}: {said}");
            assert_no_line_of(&key, &said, &what);
        }
        before.assert_same(&Tree::of(&state), &what);
        assert_eq!(fs::read(cred(&agent)).expect("it stays"), b"one", "{what}");
        whole.restore(&state);
    }
    agent.run();
    agent.await_hub("connected");
}

/// What values are sealed to is not who the node is: it goes on, and gets another key.
fn a_lost_sealing_key_or_mark_is_replaced_and_nothing_is_missing() {
    let (mut hub, mut agent) = delivered("0");
    let mut value = 0;
    let cases = ["sealing.key", "enrolment"].map(|name| ALL.map(|damage| (name, damage)));
    for (name, damage) in cases.into_iter().flatten() {
        let what = format!("{name} {damage:?}");
        hub.await_rollout("uplink", 1);
        agent.await_status(&what, |status| status["cache"]["values"] == 1);
        agent.kill();
        let file = agent.state_dir().join("identity").join(name);
        let former = fs::read(&file).expect("a file");
        damage.done_to(&file);
        // Half of the times it has nothing but the hub.
        if value % 2 == 0 {
            lose_memory(&agent);
        }
        value += 1;
        hub.operator()
            .set("cloudServiceXYZSecret", value.to_string());
        agent.run();
        wait::content(&cred(&agent), value.to_string().as_bytes());
        hub.await_rollout("uplink", 1);
        agent.await_status(&what, |status| {
            status["cache"]["values"] == 1 && status["cache"]["error"].is_null()
        });
        if (name, damage) == ("sealing.key", Damage::Empty) {
            agent.await_log("sealing.key: it is damaged; the next renewal");
        }
        let sets = || {
            let entries = fs::read_dir(agent.state_dir())
                .expect("a directory")
                .flatten();
            let names = entries.map(|entry| entry.file_name().into_string().expect("a name"));
            names.filter(|name| name.starts_with("identity-")).count()
        };
        wait::until(&agent.state_dir(), &what, || sets() == 1);
        if name == "enrolment" {
            // It stays as it is until the next renewal.
            fs::remove_dir(&file).ok();
            fs::write(&file, former).expect("written");
        }
    }
    // What is kept opens.
    agent.kill();
    agent.run();
    agent.await_hub("connected");
    agent.await_status("it is kept", |status| status["cache"]["values"] == 1);
    hub.kill();
    agent.kill();
    lose_memory(&agent);
    agent.run();
    wait::content(&cred(&agent), value.to_string().as_bytes());
}

/// The hub seals to the key that it was told last, which is not in the copy.
fn a_state_directory_brought_back_from_an_older_copy_goes_on() {
    let (hub, mut agent) = delivered("one");
    agent.kill();
    let (state, copy) = (agent.state_dir(), agent.place().join("copy"));
    let copied = |from: &Path, to: &Path| {
        let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(done.expect("cp").success());
    };
    copied(&state, &copy);
    // A lost key is how a renewal comes at once.
    Damage::Gone.done_to(&state.join("identity/sealing.key"));
    agent.run();
    agent.await_log("Certificate renewed.");
    wait::gone(&state.join("identity-1"));
    agent.kill();
    fs::remove_dir_all(&state).expect("removed");
    copied(&copy, &state);
    hub.operator().set("cloudServiceXYZSecret", "two");
    agent.run();
    wait::content(&cred(&agent), b"two");
    hub.await_rollout("uplink", 1);
}

fn a_damaged_cache_is_set_aside_and_filled_again() {
    let (mut hub, mut agent) = delivered("one");
    let (state, cache) = (agent.state_dir(), agent.state_dir().join("cache"));
    let kept = |end: &str| {
        let entries = fs::read_dir(&cache).ok()?.flatten();
        let mut paths = entries.map(|entry| entry.path());
        paths.find(|path| path.is_file() && path.to_string_lossy().ends_with(end))
    };
    for (end, damage) in ["index", ".sealed"]
        .into_iter()
        .flat_map(|end| ALL.map(|d| (end, d)))
    {
        let what = format!("{end} {damage:?}");
        hub.await_rollout("uplink", 1);
        hub.kill();
        agent.kill();
        lose_memory(&agent);
        fs::remove_dir_all(state.join("cache.set-aside")).ok();
        damage.done_to(&kept(end).expect("a file of the cache"));
        agent.forget_log();
        agent.run();
        agent.await_log("Hub not reached");
        assert!(!cred(&agent).exists(), "{what}: delivered");
        if damage != Damage::Gone {
            let word = if end == "index" {
                "set aside"
            } else {
                "cannot be used"
            };
            agent.await_log(word);
        }
        let aside = state.join("cache.set-aside").exists();
        assert_eq!(aside, end == "index" && damage != Damage::Gone, "{what}");
        hub.serve();
        wait::content(&cred(&agent), b"one");
        agent.await_status(&what, |status| {
            status["cache"]["values"] == 1 && status["cache"]["error"].is_null()
        });
        wait::until(&cache, &format!("{what}: it is kept"), || {
            kept("index").is_some() && kept(".sealed").is_some()
        });
    }
}

fn a_damaged_file_of_the_hub_is_named_with_what_to_do_and_left_as_it_is() {
    let (mut hub, _agent) = delivered("one");
    hub.operator().set("more", "x".repeat(20_000));
    assert!(hub.stop().success());
    let data = hub.data_dir();
    let whole = Tree::of(&data);
    let keys = ["ca.key", "ca.crt", "master.key", "sealing.key"];
    let cases = keys.map(|name| ALL.map(|damage| (name, damage)));
    let mut cases: Vec<_> = cases.into_iter().flatten().collect();
    // One that opens what is sent from now on is as good as the one before.
    cases.retain(|case| *case != ("sealing.key", Damage::Flipped));
    for damage in [
        Damage::Header,
        Damage::Page,
        Damage::Truncated,
        Damage::Empty,
        Damage::Directory,
        Damage::Gone,
    ] {
        cases.push(("hub.db", damage));
    }
    for damage in [Damage::Empty, Damage::Directory, Damage::Gone] {
        cases.push(("hub.yaml", damage));
    }
    for (name, damage) in cases {
        let what = format!("{name} {damage:?}");
        let file = data.join(name);
        let secrets =
            ["ca.key", "admin.key"].map(|name| fs::read_to_string(data.join(name)).expect("a key"));
        damage.done_to(&file);
        let before = Tree::of(&data);
        let ended = run(&mut hub.command(), b"");
        assert_eq!(ended.code, 64, "{what}: {ended:?}");
        let said = &ended.stderr;
        assert!(
            said.contains(file.to_str().expect("a plain path")),
            "{what}: {said}"
        );
        let advice = if name == "hub.yaml" {
            "hub.yaml: "
        } else {
            "ut back"
        };
        let restored = name == "hub.yaml"
            || said.contains("edge-secrets-hub restore")
            || said.contains("master key that belongs to it");
        assert!(
            restored && (said.contains(advice) || said.contains("put the file back")),
            "{what}: {said}"
        );
        for secret in &secrets {
            assert_no_line_of(secret, said, &what);
        }
        before.assert_same(&Tree::of(&data), &what);
        whole.restore(&data);
    }
    hub.serve();
    assert_eq!(
        hub.operator()
            .ok(&["secret", "show", "more", "--reveal"], "")
            .trim_end(),
        "x".repeat(20_000)
    );
}

/// SQLite takes a log that it cannot read for an empty one: what was answered last would be gone.
fn a_damaged_log_of_the_hubs_database_is_not_passed_over() {
    let (mut hub, _agent) = delivered("one");
    hub.operator().set("cloudServiceXYZSecret", "two");
    hub.kill();
    let data = hub.data_dir();
    let log = data.join("hub.db-wal");
    let whole = Tree::of(&data);
    let len = fs::metadata(&log).expect("a log").len();
    assert!(len > 4096, "changes that stand in the log alone");
    fs::write(&log, vec![0xa5; usize::try_from(len).expect("a size")]).expect("written");
    let before = Tree::of(&data);
    let ended = run(&mut hub.command(), b"");
    assert_eq!(ended.code, 64, "{ended:?}");
    assert!(ended.stderr.contains("hub.db-wal"), "{ended:?}");
    assert!(
        ended.stderr.contains("edge-secrets-hub restore"),
        "{ended:?}"
    );
    before.assert_same(&Tree::of(&data), "garbage");
    whole.restore(&data);
    // What a kill leaves of its beginning is no damage.
    for left in [0, 1, 3] {
        let content = whole.0[&log].1.as_ref().expect("a file");
        starts_with_log(&mut hub, &log, &content[..left]);
        whole.restore(&data);
    }
    hub.serve();
    let shown = hub
        .operator()
        .ok(&["secret", "show", "cloudServiceXYZSecret", "--reveal"], "");
    assert_eq!(shown.trim_end(), "two");
}

fn starts_with_log(hub: &mut TestHub, log: &Path, content: &[u8]) {
    fs::write(log, content).expect("written");
    hub.serve();
    hub.kill();
}

fn cred(agent: &TestAgent) -> PathBuf {
    agent.consumer(URL, "main").join("myCloudServiceCred")
}

/// What a power cut does to what is in memory.
fn lose_memory(agent: &TestAgent) {
    for entry in fs::read_dir(agent.runtime_dir()).expect("the runtime directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => fs::remove_dir_all(path).expect("removed"),
            false => fs::remove_file(path).expect("removed"),
        }
    }
}

/// Nothing of a key in PEM is said.
fn assert_no_line_of(pem: &str, said: &str, what: &str) {
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    for line in lines.filter(|line| line.len() > 16) {
        assert!(!said.contains(&line[..16]), "{what}: a key is shown");
    }
}

/// Bytes.
const PAGE: usize = 4096;
