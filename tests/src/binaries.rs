//! The three programs under test.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where the programs are.
#[derive(Debug)]
pub struct Binaries {
    /// `edge-secrets-hub`.
    pub hub: PathBuf,
    /// `edge-secrets`.
    pub operator: PathBuf,
    /// `edge-secrets-agent`.
    pub agent: PathBuf,
}

/// The programs, built once per run in the profile and target directory of the test itself; taken
/// from the directory in `EDGE_SECRETS_BIN_DIR` where that is set.
///
/// # Panics
/// When they do not build.
pub fn binaries() -> &'static Binaries {
    static BINARIES: OnceLock<Binaries> = OnceLock::new();
    BINARIES.get_or_init(|| {
        let dir = match env::var_os("EDGE_SECRETS_BIN_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => build(),
        };
        let found = Binaries {
            hub: dir.join("edge-secrets-hub"),
            operator: dir.join("edge-secrets"),
            agent: dir.join("edge-secrets-agent"),
        };
        for binary in [&found.hub, &found.operator, &found.agent] {
            assert!(binary.is_file(), "{} is not there", binary.display());
        }
        found
    })
}

/// Builds as packages do, the agent on its own: features that only the hub or the tests want would
/// otherwise be built into it.
fn build() -> PathBuf {
    build_packages("--bins", &["edge-secrets-agent", "edge-secrets-hub"])
}

/// The library that gives a program a clock of the test's own, built and found as the programs are.
///
/// # Panics
/// When it does not build.
#[must_use]
pub fn test_clock() -> PathBuf {
    let dir = match env::var_os("EDGE_SECRETS_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => build_packages("--lib", &["edge-secrets-test-clock"]),
    };
    dir.join("libedge_secrets_test_clock.so")
}

/// Builds what these packages have of that kind. Gives the directory where it lies.
fn build_packages(kind: &str, packages: &[&str]) -> PathBuf {
    let exe = env::current_exe().expect("the test's own path");
    // target/<profile>/deps/<test>
    let profile_dir = exe.ancestors().nth(2).expect("a target directory");
    let target_dir = profile_dir.parent().expect("a target directory");
    let lock = File::create(target_dir.join(".edge-secrets-tests.lock")).expect("a lock file");
    lock.lock().expect("the lock");
    for package in packages {
        build_package(kind, package, profile_dir, target_dir);
    }
    profile_dir.to_owned()
}

fn build_package(kind: &str, package: &str, profile_dir: &Path, target_dir: &Path) {
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let status = Command::new(cargo)
        .args(["build", kind, "--package", package])
        .args(["--profile", profile])
        .arg("--target-dir")
        .arg(target_dir)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "{package} does not build");
}

/// The size of a program in bytes, as it lies there.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn size(binary: &Path) -> u64 {
    fs::metadata(binary).expect("the program is there").len()
}
