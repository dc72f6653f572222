//! Each stand-in, driven by its manager's own official client: one that such a client does not accept
//! would prove nothing about our backend.
//!
//! Needs Python with the client's module: `EDGE_SECRETS_CLIENTS_PYTHON`, else `python3`. A client that
//! is not there is reported as ignored.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking: the message is the test's"
)]

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};

/// Kind of the stand-in, script below `tests/clients`, Python module that the script needs.
const CLIENTS: &[(&str, &str, &str)] = &[("ibm", "ibm.py", "ibm_secrets_manager_sdk")];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let python = env::var("EDGE_SECRETS_CLIENTS_PYTHON").unwrap_or_else(|_| "python3".into());
    let trials = CLIENTS.iter().map(|&(kind, script, module)| {
        let there = has(&python, module);
        let python = python.clone();
        Trial::test(kind, move || drive(&python, kind, script))
            .with_kind(format!("needs {module} in EDGE_SECRETS_CLIENTS_PYTHON"))
            .with_ignored_flag(!there)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn has(python: &str, module: &str) -> bool {
    let import = format!("import {module}");
    let status = Command::new(python)
        .args(["-c", &import])
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn drive(python: &str, kind: &str, script: &str) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let mut fake = Command::new(env!("CARGO_BIN_EXE_fake-manager"))
        .args([kind, "--listen", "127.0.0.1:0", "--dir"])
        .arg(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut reached = String::new();
    BufReader::new(fake.stdout.take().expect("its output")).read_line(&mut reached)?;
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients");
    let output = Command::new(python)
        .arg(scripts.join(script))
        .arg(reached.trim())
        .arg(dir.path().join("ca.pem"))
        .output();
    // Its input ends, and so does it.
    drop(fake.stdin.take());
    fake.wait()?;
    let output = output?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}
