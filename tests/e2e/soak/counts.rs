//! What a process and its places hold, seen from outside.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use edge_secrets_tests::{TestAgent, TestHub};
use nix::unistd::Pid;

/// Counts by what is counted.
pub(super) type Counts = BTreeMap<String, u64>;

/// One moment of both programs, at rest.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) agent: Process,
    pub(super) hub: Process,
    /// What lies on the node's tmpfs and in its state directory.
    pub(super) node: Counts,
    /// Rows by table; empty where nothing can read them.
    pub(super) rows: Counts,
    /// Bytes of the database with its log.
    pub(super) database: u64,
}

/// What a process holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    /// KiB of its own memory: neither files nor what it shares.
    pub(super) anonymous: u64,
    /// KiB, its part of what is shared included.
    pub(super) proportional: u64,
    /// Open descriptors by kind, and threads.
    pub(super) open: Counts,
}

impl Sample {
    pub(super) fn take(agent: &TestAgent, hub: &TestHub) -> Self {
        Self {
            agent: Process::of(agent.pid()),
            hub: Process::of(hub.pid()),
            node: node(agent),
            rows: rows(hub),
            database: ["hub.db", "hub.db-wal"]
                .map(|name| fs::metadata(hub.data_dir().join(name)).map_or(0, |file| file.len()))
                .iter()
                .sum(),
        }
    }

    /// What has to be the same at any rest: everything but memory and what grows by design.
    pub(super) fn held(&self) -> Counts {
        let named = |prefix: &'static str, counts: &Counts| {
            let named = counts
                .iter()
                .map(move |(what, n)| (format!("{prefix} {what}"), *n));
            named.collect::<Vec<_>>()
        };
        [
            named("agent", &self.agent.open),
            named("hub", &self.hub.open),
            named("node", &self.node),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl Process {
    fn of(pid: Pid) -> Self {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("root reads it");
        let kib = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
            number.unwrap_or_else(|| panic!("no {name} in {text}"))
        };
        let mut open = Counts::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("root reads it") {
            // One that is closed meanwhile is none.
            let to = entry
                .ok()
                .and_then(|entry| fs::read_link(entry.path()).ok());
            if let Some(to) = to {
                *open.entry(kind(&to.to_string_lossy())).or_default() += 1;
            }
        }
        let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        open.insert("threads".into(), threads as u64);
        Self {
            anonymous: kib("Anonymous:"),
            proportional: kib("Pss:"),
            open,
        }
    }
}

fn kind(to: &str) -> String {
    let kind = match to {
        _ if to.starts_with("socket:") => "sockets",
        _ if to.starts_with("pipe:") => "pipes",
        _ if to.starts_with("anon_inode:") => return to["anon_inode:".len()..].to_owned(),
        _ if to.starts_with("/dev/") && !to.starts_with("/dev/shm") => "devices",
        _ => "files",
    };
    kind.to_owned()
}

fn node(agent: &TestAgent) -> Counts {
    let mut counts = Counts::new();
    below(agent.runtime_dir(), "tmpfs", &mut counts);
    below(&agent.state_dir(), "state", &mut counts);
    counts
}

/// By the first part of the path and by what it is.
fn below(dir: &Path, name: &str, counts: &mut Counts) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let kind = match entry.file_type() {
            Ok(kind) if kind.is_dir() => "directories",
            Ok(kind) if kind.is_symlink() => "links",
            Ok(_) => "files",
            // Gone meanwhile.
            Err(_) => continue,
        };
        *counts.entry(format!("{name}: {kind}")).or_default() += 1;
        if kind == "directories" {
            below(&entry.path(), name, counts);
        }
    }
}

/// Python's standard library reads the database, where there is one.
fn rows(hub: &TestHub) -> Counts {
    let program = "import sqlite3, sys
c = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)
for (t,) in c.execute(\"SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '%sqlite%' AND name NOT LIKE '_sqlx%'\"):
    print(t, c.execute('SELECT COUNT(*) FROM ' + t).fetchone()[0])";
    let mut python = Command::new("python3");
    python
        .args(["-c", program])
        .arg(hub.data_dir().join("hub.db"));
    let Ok(said) = python.output() else {
        return Counts::new();
    };
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let rows = said.lines().filter_map(|line| {
        let (table, rows) = line.split_once(' ')?;
        Some((table.to_owned(), rows.parse().ok()?))
    });
    rows.collect()
}

/// For the table that is printed.
impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open: u64 = self
            .open
            .iter()
            .filter(|(k, _)| *k != "threads")
            .map(|(_, n)| n)
            .sum();
        write!(
            f,
            "{:>7} {:>7} {open:>4} {:>4}",
            self.anonymous, self.proportional, self.open["threads"]
        )
    }
}
