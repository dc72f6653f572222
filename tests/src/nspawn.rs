//! A machine with a systemd of its own: a minimal Debian under systemd-nspawn, without network, in a
//! file system of which nothing stays. `tests/systemd/prepare` makes the root directory,
//! `packaging/build` the packages that are installed in it.

mod cgroup;
mod layers;

use std::env;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::daemon::Daemon;
use crate::operator::{Ended, run};
use crate::wait::{self, DEADLINE, tail};

use cgroup::Cgroup;
use layers::Layers;
pub use layers::isolate;

/// Why no machine can be started here; `None` where it can.
#[must_use]
pub fn missing() -> Option<String> {
    if !crate::is_root() {
        return Some("needs root".into());
    }
    let in_path = |program: &str| {
        env::var_os("PATH")
            .is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
    };
    for (program, package) in [
        ("systemd-nspawn", "systemd-container"),
        ("nsenter", "util-linux"),
        ("setpriv", "util-linux"),
    ] {
        if !in_path(program) {
            return Some(format!("needs {program}: apt-get install {package}"));
        }
    }
    if !root_dir().join("stamp").is_file() {
        return Some("needs a root directory: bash tests/systemd/prepare".into());
    }
    if packages().len() != 2 {
        return Some("needs the packages: bash packaging/build".into());
    }
    None
}

/// The packages under test: what lies in the directory in `EDGE_SECRETS_PACKAGES`, by default
/// `target/debian`.
#[must_use]
pub fn packages() -> Vec<PathBuf> {
    let dir = place("EDGE_SECRETS_PACKAGES", "target/debian");
    let entries = fs::read_dir(dir).into_iter().flatten();
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut packages: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|kind| kind == "deb"))
        .collect();
    packages.sort();
    packages
}

/// One machine. Ends, with all that it wrote, when it is dropped.
#[derive(Debug)]
pub struct Machine {
    name: String,
    dir: PathBuf,
    root: PathBuf,
    booted: Option<Booted>,
}

// Fields are dropped in order: the group is removed when nothing runs in it.
#[derive(Debug)]
struct Booted {
    nspawn: Daemon,
    _cgroup: Cgroup,
    /// Its first process, as the host counts.
    leader: Option<i32>,
}

impl Machine {
    /// A machine that is off. With the packages installed, or with nothing but Debian.
    ///
    /// # Panics
    /// When there is no place for it.
    #[must_use]
    pub fn new(installed: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("es-{}-{count}", std::process::id());
        let layers = Layers::get();
        let dir = layers.work().join(&name);
        let root = layers.mount(&dir, installed);
        Self {
            name,
            dir,
            root,
            booted: None,
        }
    }

    /// Starts it, and waits until all that starts at boot has started or failed.
    ///
    /// # Panics
    /// When it does not.
    pub fn boot(&mut self) {
        let socket = self.dir.join("notify.sock");
        fs::remove_file(&socket).ok();
        let notify = UnixDatagram::bind(&socket).expect("a socket");
        let cgroup = Cgroup::new(&self.name);
        let mut command = Command::new("/bin/sh");
        command
            .args(["-ec", &format!("{}exec \"$@\" >&2", cgroup.enter()), "sh"])
            // Shuts the machine down when this test is killed.
            .args(["setpriv", "--pdeathsig", "TERM", "systemd-nspawn"])
            .args(["--quiet", "--boot", "--keep-unit", "--register=no"])
            .args(["--private-network", "--notify-ready=yes", "--console=pipe"])
            .arg(format!("--machine={}", self.name))
            // As on a machine: nspawn's own filter would stand in the way of locked memory.
            .arg("--capability=CAP_IPC_LOCK")
            .arg("--system-call-filter=@memlock memfd_secret")
            .arg("--directory")
            .arg(&self.root)
            .env("NOTIFY_SOCKET", &socket);
        let nspawn = Daemon::start(&mut command, &self.console());
        let mut booted = Booted {
            nspawn,
            _cgroup: cgroup,
            leader: None,
        };
        self.await_ready(&notify, &mut booted.leader);
        assert!(
            booted.leader.is_some(),
            "{} has no first process",
            self.name
        );
        self.booted = Some(booted);
    }

    /// Shuts it down in good order; what is written to its disk stays, and it can boot again.
    ///
    /// # Panics
    /// When it does not end.
    pub fn power_off(&mut self) {
        // Its answer may be lost with the bus.
        self.run(&["systemctl", "poweroff"], "");
        let mut booted = self.booted.take().expect("a booted machine");
        booted.nspawn.wait();
    }

    /// A file of the machine's disk.
    #[must_use]
    pub fn disk(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A path as the booted machine sees it, tmpfs included.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.leader());
        Path::new(&root).join(path.trim_start_matches('/'))
    }

    /// Writes a file of its disk, making the directories on the way.
    ///
    /// # Panics
    /// When it cannot.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.disk(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    /// Copies a file of the host's to its disk.
    ///
    /// # Panics
    /// When it cannot.
    pub fn copy(&self, from: &Path, to: &str) {
        let bytes = fs::read(from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        self.write(to, bytes);
    }

    /// Runs a command on the booted machine, as root, to its end.
    ///
    /// # Panics
    /// When it does not start.
    pub fn run(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> Ended {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", &DEADLINE.as_secs().to_string()])
            .args(["nsenter", "--all", "--target", &self.leader().to_string()])
            .arg("--wd=/")
            .args(args)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LC_ALL", "C.UTF-8")
            .env(
                "EDGE_SECRETS_CONTEXT",
                "/var/lib/edge-secrets-hub/admin.yaml",
            );
        run(&mut command, stdin.as_ref())
    }

    /// Runs a command that must succeed, and gives its standard output without the last line's end.
    ///
    /// # Panics
    /// When it fails.
    pub fn ok(&self, args: &[&str]) -> String {
        let ended = self.run(args, "");
        assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
        ended.stdout.trim_end().to_owned()
    }

    /// Runs a shell's commands, the first of which must not fail.
    pub fn sh(&self, script: &str) -> String {
        self.ok(&["sh", "-ec", script])
    }

    /// One property of a unit.
    #[must_use]
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.ok(&["systemctl", "show", "--value", "--property", property, unit])
    }

    /// What a unit and systemd said of it.
    #[must_use]
    pub fn journal(&self, unit: &str) -> String {
        // What was sent before is in it.
        self.run(&["journalctl", "--sync"], "");
        self.ok(&["journalctl", "--no-pager", "--output=cat", "--unit", unit])
    }

    /// Waits until `done`, looking again whenever something is written to the journal.
    pub fn until(&self, what: &str, done: impl FnMut() -> bool) {
        wait::until(&self.journal_dir(), what, done);
    }

    /// Waits until a unit's journal says so.
    pub fn until_says(&self, unit: &str, text: &str) {
        self.until(&format!("{unit} says {text:?}"), || {
            self.journal(unit).contains(text)
        });
    }

    /// What came to the console.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    fn journal_dir(&self) -> PathBuf {
        let id = fs::read_to_string(self.path("/etc/machine-id")).expect("a machine's id");
        for place in ["/var/log/journal", "/run/log/journal"] {
            let dir = self.path(place).join(id.trim());
            if dir.is_dir() {
                return dir;
            }
        }
        panic!("there is no journal");
    }

    /// Waits for what systemd-nspawn and the machine's own systemd tell (sd_notify(3)).
    fn await_ready(&self, notify: &UnixDatagram, leader: &mut Option<i32>) {
        let until = Instant::now() + DEADLINE;
        let mut buffer = [0; 4096];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let got = notify
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))
                .and_then(|()| notify.recv(&mut buffer));
            let Ok(len) = got else {
                panic!("{} does not boot:\n{}", self.name, tail(&self.console()));
            };
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            for line in text.lines() {
                if let Some(pid) = line.strip_prefix("X_NSPAWN_LEADER_PID=") {
                    *leader = pid.parse().ok();
                }
            }
            if text.lines().any(|line| line == "READY=1") {
                return;
            }
        }
    }

    fn leader(&self) -> i32 {
        let booted = self.booted.as_ref().expect("a booted machine");
        booted.leader.expect("its first process")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if self.booted.is_some() {
                let journal = self.run(&["journalctl", "--no-pager", "--lines=80"], "");
                eprintln!("--- the journal of {}:\n{}", self.name, journal.stdout);
            } else {
                eprintln!(
                    "--- the console of {}:\n{}",
                    self.name,
                    tail(&self.console())
                );
            }
        }
        drop(self.booted.take());
        Layers::get().unmount(&self.root, &self.dir);
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // Everything in the machine ends with its first process, and systemd-nspawn then. Killed
        // itself, systemd-nspawn would leave the machine running.
        if self.nspawn.has_ended() {
            return;
        }
        match self.leader {
            Some(leader) => {
                kill(Pid::from_raw(leader), Signal::SIGKILL).ok();
            }
            None => self.nspawn.signal(Signal::SIGTERM),
        }
        self.nspawn.wait();
    }
}

/// Where the root directory is.
fn root_dir() -> PathBuf {
    place("EDGE_SECRETS_TEST_ROOT", "target/systemd-root")
}

/// What the environment says, else a path below the workspace.
fn place(variable: &str, default: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    env::var_os(variable).map_or_else(|| workspace.join(default), PathBuf::from)
}
