//! Each stand-in is driven by its manager's own official client, from PyPI, before it is believed.
//!
//! `EDGE_SECRETS_CLIENTS_PYTHON` names the interpreter that has them (else `python3`):
//! `python3 -m venv DIR && DIR/bin/pip install hvac
//! ibm-secrets-manager-sdk python-tss-sdk`. Without, the trials are reported as ignored.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking: the message is the test's"
)]

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};

/// The kind of the stand-in, the script in `tests/clients`, and the module that it needs.
const CLIENTS: &[(&str, &str, &str)] = &[
    ("ibm", "ibm.py", "ibm_secrets_manager_sdk"),
    (
        "secret-server",
        "secret_server.py",
        "delinea.secrets.server",
    ),
    ("vault", "vault.py", "hvac"),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let python = env::var("EDGE_SECRETS_CLIENTS_PYTHON").unwrap_or_else(|_| "python3".into());
    let trials = CLIENTS
        .iter()
        .map(|&(kind, script, module)| {
            let missing = !has(&python, module);
            let python = python.clone();
            let trial = Trial::test(format!("{kind}_is_what_{module}_takes_it_for"), move || {
                drive(&python, kind, script)
            });
            match missing {
                true => trial
                    .with_kind(format!("needs python3 with {module}"))
                    .with_ignored_flag(true),
                false => trial,
            }
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn has(python: &str, module: &str) -> bool {
    Command::new(python)
        .args(["-c", &format!("import {module}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Starts the stand-in as its own process and the script with what the stand-in said of itself.
fn drive(python: &str, kind: &str, script: &str) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let program = env!("CARGO_BIN_EXE_fake-manager");
    let mut manager = Running(
        Command::new(program)
            .args([kind, "--listen", "127.0.0.1:0", "--dir"])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let mut ready = String::new();
    let out = manager.0.stdout.as_mut().ok_or("no standard output")?;
    BufReader::new(out).read_line(&mut ready)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../clients")
        .join(script);
    let output = Command::new(python)
        .arg(script)
        .env("FAKE_MANAGER", ready.trim())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}

/// A process that ends with its trial.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
