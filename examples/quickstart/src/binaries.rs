//! The three programs that the quickstart runs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;
use crate::tell::{command, say};

/// Where the programs are.
#[derive(Debug)]
pub(crate) struct Binaries {
    /// `edge-secrets-hub`.
    pub(crate) hub: PathBuf,
    /// `edge-secrets`.
    pub(crate) operator: PathBuf,
    /// `edge-secrets-agent`.
    pub(crate) agent: PathBuf,
}

/// Builds them as the quickstart itself was built, with cargo's own progress; or takes them from
/// the directory in `EDGE_SECRETS_BIN_DIR`.
pub(crate) fn build() -> Result<Binaries, Failure> {
    let dir = match env::var_os("EDGE_SECRETS_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => run_cargo()?,
    };
    let found = Binaries {
        hub: dir.join("edge-secrets-hub"),
        operator: dir.join("edge-secrets"),
        agent: dir.join("edge-secrets-agent"),
    };
    for binary in [&found.hub, &found.operator, &found.agent] {
        if !binary.is_file() {
            return Err(format!("{} is not there", binary.display()).into());
        }
    }
    Ok(found)
}

fn run_cargo() -> Result<PathBuf, Failure> {
    let exe = env::current_exe()?;
    let odd = || format!("{} does not lie in a target directory", exe.display());
    // target/<profile>/quickstart
    let profile_dir = exe.parent().ok_or_else(odd)?;
    let target_dir = profile_dir.parent().ok_or_else(odd)?;
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    say("Building the hub, the agent and the operator's command. The first time takes minutes.");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--bins", "--package", "edge-secrets-hub"])
        .args(["--package", "edge-secrets-agent", "--profile", profile])
        .arg("--target-dir")
        .arg(target_dir)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    command("cargo build --bins --package edge-secrets-hub --package edge-secrets-agent");
    if !cargo.status()?.success() {
        return Err("the programs do not build, see above".into());
    }
    Ok(profile_dir.to_owned())
}
