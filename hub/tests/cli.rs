//! The operator's command line as a process: what scripts and shells rely on.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

use std::io::Read;
use std::process::{Command, Output, Stdio};

fn edge_secrets(line: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-secrets"));
    command
        .args(line)
        .env_remove("EDGE_SECRETS_CONTEXT")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null());
    command
}

fn run(line: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = edge_secrets(line).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn help_is_an_answer_and_not_a_failure() {
    for line in [
        &["--help"][..],
        &["-h"],
        &["help", "secret"],
        &["secret", "set", "--help"],
        &["policy", "publish", "--help"],
        &["--version"],
    ] {
        let (code, out, err) = run(line);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{line:?}");
        assert!(out.contains("edge-secrets"), "{out}");
    }
    assert!(run(&["--help"]).1.contains("Exit codes"));
}

#[test]
fn wrong_usage_exits_64_on_standard_error() {
    for line in [
        &[][..],
        &["secret"],
        &["secrets", "list"],
        &["secret", "show"],
        &["secret", "show", "../x"],
        &[
            "secret",
            "set",
            "db",
            "--value-file",
            "a",
            "--from-file",
            "b",
        ],
        &["node", "list", "-o", "xml"],
        &["node", "token", "edge-01", "--ttl", "soon"],
        &["user", "add", "bob", "--role", "king", "--out", "f"],
    ] {
        let (code, out, err) = run(line);
        assert_eq!((code, out.as_str()), (Some(64), ""), "{line:?}: {err}");
        assert!(!err.is_empty());
    }
}

#[test]
fn a_missing_context_exits_64_and_says_how_to_get_one() {
    let default = run(&["node", "list"]);
    assert_eq!(default.0, Some(64));
    assert!(
        default
            .2
            .contains("/nonexistent/.config/edge-secrets/context.yaml")
    );
    assert!(default.2.contains("admin.yaml") && default.2.contains("user add"));

    let named = run(&["node", "list", "--context", "/nonexistent/c.yaml"]);
    assert_eq!(named.0, Some(64));
    assert!(named.2.contains("/nonexistent/c.yaml"), "{}", named.2);

    let env = edge_secrets(&["node", "list"])
        .env("EDGE_SECRETS_CONTEXT", "/nonexistent/e.yaml")
        .output()
        .unwrap();
    assert_eq!(env.status.code(), Some(64));
    assert!(
        String::from_utf8(env.stderr)
            .unwrap()
            .contains("/nonexistent/e.yaml")
    );
}

#[test]
fn a_reader_that_went_away_is_no_panic() {
    let mut child = edge_secrets(&["--help"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}
