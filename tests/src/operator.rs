//! The operator's real command.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::binaries::binaries;
use crate::clock::Rule;

/// Somebody with a context file.
#[derive(Debug, Clone)]
pub struct Operator {
    context: PathBuf,
    rule: Rule,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Operator {
    /// Uses this context file.
    #[must_use]
    pub fn new(context: &Path) -> Self {
        Self {
            context: context.to_owned(),
            rule: Rule::default(),
        }
    }

    /// The same, by another clock.
    #[must_use]
    pub(crate) fn ruled(mut self, rule: &Rule) -> Self {
        self.rule = rule.clone();
        self
    }

    /// The context file.
    #[must_use]
    pub fn context(&self) -> &Path {
        &self.context
    }

    /// Runs a command with `stdin` as its standard input.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn run(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> Ended {
        let mut command = Command::new(&binaries().operator);
        // Nobody can be asked here.
        command
            .args(["--yes", "--context"])
            .arg(&self.context)
            .args(args);
        self.rule.apply(&mut command);
        run(&mut command, stdin.as_ref())
    }

    /// Runs a command that must succeed, and gives its standard output.
    ///
    /// # Panics
    /// When it fails.
    pub fn ok(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> String {
        let ended = self.run(args, stdin);
        assert_eq!(ended.code, 0, "edge-secrets {args:?}: {ended:?}");
        ended.stdout
    }

    /// Runs a command that must succeed, with `-o json`.
    ///
    /// # Panics
    /// When it fails or its output is no JSON.
    #[must_use]
    pub fn json(&self, args: &[&str]) -> Value {
        let args = [args, &["-o", "json"]].concat();
        let stdout = self.ok(&args, "");
        serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {stdout}"))
    }

    /// Sets a secret with the one field `value`.
    pub fn set(&self, reference: &str, value: impl AsRef<[u8]>) {
        self.ok(&["secret", "set", reference, "--value-file", "-"], value);
    }

    /// Publishes a service definition.
    pub fn publish_service(&self, definition: &Value) {
        self.ok(&["service", "publish", "-"], definition.to_string());
    }

    /// Publishes a deployment policy.
    pub fn publish_policy(&self, name: &str, policy: &Value) {
        self.ok(&["policy", "publish", name, "-"], policy.to_string());
    }

    /// The audit records whose fields have these values.
    #[must_use]
    pub fn audit(&self, wanted: &[(&str, &str)]) -> Vec<Value> {
        let Value::Array(records) = self.json(&["audit"]) else {
            panic!("audit is no list")
        };
        let fits = |record: &Value| wanted.iter().all(|(key, value)| record[*key] == *value);
        records.into_iter().filter(fits).collect()
    }
}

/// Runs a command to its end.
///
/// # Panics
/// When it does not start.
#[must_use]
pub fn run(command: &mut Command, stdin: &[u8]) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut pipe = child.stdin.take().expect("piped");
    let stdin = stdin.to_vec();
    // A command that refuses early does not read it.
    let writer = std::thread::spawn(move || pipe.write_all(&stdin).ok());
    let output = child.wait_with_output().expect("the command ends");
    writer.join().ok();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
