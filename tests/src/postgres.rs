//! A PostgreSQL of a test's own, on a socket in a temporary place, run as its own user.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, User, chown};
use tempfile::TempDir;

use crate::{is_root, wait};

/// A running server. It ends, and its files go, when this is dropped.
pub struct Postgres {
    server: Child,
    place: TempDir,
    programs: PathBuf,
}

/// The superuser's password: nobody but this test can reach the socket's directory anyway.
const PASSWORD: &str = "superuser-of-a-test";

impl Postgres {
    /// Where its programs are, as Debian installs them; none where it is not installed, or where root
    /// has nobody to run it as.
    #[must_use]
    pub fn programs() -> Option<PathBuf> {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
        let mut found: Vec<_> = versions
            .filter_map(Result::ok)
            .map(|version| version.path().join("bin"))
            .filter(|bin| bin.join("initdb").exists() && bin.join("postgres").exists())
            .collect();
        found.sort();
        let found = found.pop()?;
        (!is_root() || account().is_some()).then_some(found)
    }

    /// A new database.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start() -> Self {
        let programs = Self::programs().expect("PostgreSQL is installed");
        let place = tempfile::Builder::new()
            .prefix("edge-secrets-postgres-")
            .tempdir()
            .expect("a place");
        let password = place.path().join("password");
        fs::write(&password, PASSWORD).expect("a writable place");
        if let Some((uid, gid)) = account() {
            chown(place.path(), Some(uid), Some(gid)).expect("its owner");
            chown(&password, Some(uid), Some(gid)).expect("its owner");
        }
        let data = place.path().join("data");
        let made = as_its_user(&programs.join("initdb"), place.path())
            .args(["--auth=scram-sha-256", "--username=postgres", "--no-sync"])
            .arg(format!("--pwfile={}", password.display()))
            .arg(format!("--pgdata={}", data.display()))
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "{made:?}");
        let log = place.path().join("log");
        let out = fs::File::create(&log).expect("a log");
        let server = as_its_user(&programs.join("postgres"), place.path())
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(place.path())
            .args(["-c", "listen_addresses=", "-c", "fsync=off"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(out)
            .spawn()
            .expect("postgres starts");
        let postgres = Self {
            server,
            place,
            programs,
        };
        wait::until(&log, "PostgreSQL takes connections", || {
            postgres.can_log_in("postgres", PASSWORD)
        });
        postgres
    }

    /// Does something as its superuser.
    ///
    /// # Panics
    /// When it fails.
    pub fn act(&self, statement: &str) {
        let done = self.psql("postgres", PASSWORD, statement);
        assert!(done, "{statement}");
    }

    /// Whether a user can log in with this password and do something.
    #[must_use]
    pub fn can_log_in(&self, user: &str, password: &str) -> bool {
        self.psql(user, password, "SELECT 1")
    }

    /// What [`act`](Self::act) does, for those who outlive a borrow.
    pub fn actor(&self) -> impl Fn(&str) + Send + 'static {
        let (programs, place) = (self.programs.clone(), self.place.path().to_owned());
        move |statement: &str| {
            let done = psql(&programs, &place, "postgres", PASSWORD, statement);
            assert!(done, "{statement}");
        }
    }

    fn psql(&self, user: &str, password: &str, statement: &str) -> bool {
        psql(&self.programs, self.place.path(), user, password, statement)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Ends at once, with its children.
        if let Ok(pid) = i32::try_from(self.server.id()) {
            kill(Pid::from_raw(pid), Signal::SIGQUIT).ok();
        }
        self.server.wait().ok();
    }
}

fn psql(programs: &Path, place: &Path, user: &str, password: &str, statement: &str) -> bool {
    let output = Command::new(programs.join("psql"))
        .args([
            "--no-psqlrc",
            "--no-password",
            "--quiet",
            "--dbname=postgres",
        ])
        .arg(format!("--host={}", place.display()))
        .arg(format!("--username={user}"))
        .args(["--set=ON_ERROR_STOP=1", "--command"])
        .arg(statement)
        .env("PGPASSWORD", password)
        .output();
    output.is_ok_and(|output| output.status.success())
}

fn as_its_user(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir);
    if let Some((uid, gid)) = account() {
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    command
}

/// Whom root runs it as: it refuses to be root.
fn account() -> Option<(Uid, Gid)> {
    if !is_root() {
        return None;
    }
    let user = User::from_name("postgres").ok()??;
    Some((user.uid, user.gid))
}
