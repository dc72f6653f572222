//! The temporary place: two directories, two daemons, and the commands that are run in it.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::Failure;
use crate::binaries::Binaries;
use crate::tell;

/// What is started is ended, and what is written is removed, at the latest when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    binaries: Binaries,
    // Before the directories: they end first. The agent before the hub.
    agent: Option<Daemon>,
    hub: Option<Daemon>,
    dir: TempDir,
    runtime: TempDir,
}

impl Place {
    /// Two new directories: one for everything, and one on a tmpfs for what services read.
    pub(crate) fn new(binaries: Binaries) -> Result<Self, Failure> {
        let name = |kind: &str| format!("edge-secrets-quickstart-{kind}-");
        let dir = tempfile::Builder::new().prefix(&name("place")).tempdir()?;
        let runtime = tempfile::Builder::new()
            .prefix(&name("run"))
            .tempdir_in(tmpfs()?)?;
        Ok(Self {
            binaries,
            agent: None,
            hub: None,
            dir,
            runtime,
        })
    }

    /// A path in the place.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The runtime directory.
    pub(crate) fn runtime(&self) -> &Path {
        self.runtime.path()
    }

    /// `edge-secrets-hub`.
    pub(crate) fn hub(&self, args: &[&str]) -> Result<String, Failure> {
        self.run(&self.binaries.hub, args, b"", args)
    }

    /// `edge-secrets-agent`.
    pub(crate) fn agent(&self, args: &[&str], stdin: &[u8]) -> Result<String, Failure> {
        let config = self.path("agent.yaml");
        let config = config.to_str().ok_or("a path that is no text")?;
        self.run(
            &self.binaries.agent,
            &[&["--config", config], args].concat(),
            stdin,
            args,
        )
    }

    /// `edge-secrets`.
    pub(crate) fn operator(&self, args: &[&str], stdin: &[u8]) -> Result<String, Failure> {
        let context = self.path("hub/admin.yaml");
        let context = context.to_str().ok_or("a path that is no text")?;
        self.run(
            &self.binaries.operator,
            &[&["--context", context], args].concat(),
            stdin,
            args,
        )
    }

    fn run(
        &self,
        program: &Path,
        args: &[&str],
        stdin: &[u8],
        shown: &[&str],
    ) -> Result<String, Failure> {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        tell::command(&format!("{name} {}", shown.join(" ")));
        let mut child = Command::new(program)
            .args(args)
            // The commands are shown as they work in a checkout.
            .current_dir(CHECKOUT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        // A command that refuses early does not read it; its exit code says so.
        let mut pipe = child.stdin.take().ok_or("no pipe")?;
        pipe.write_all(stdin).ok();
        drop(pipe);
        let output = child.wait_with_output()?;
        if !output.status.success() {
            return Err(format!("{name} {}: {}", shown.join(" "), output.status).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Starts the hub and gives the address it listens on.
    pub(crate) fn start_hub(&mut self) -> Result<String, Failure> {
        let config = self.path("hub/hub.yaml");
        tell::command("edge-secrets-hub serve --config hub/hub.yaml &");
        let mut command = Command::new(&self.binaries.hub);
        command.arg("serve").arg("--config").arg(config);
        let (daemon, stdout) = Daemon::start(command, self.path("hub.log"))?;
        self.hub = Some(daemon);
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        // Nobody reads the rest, but the hub must not wait for a reader.
        thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        let address = line.trim().strip_prefix("listening on ");
        Ok(address
            .ok_or("the hub did not start, see its log")?
            .to_owned())
    }

    /// Starts the agent.
    pub(crate) fn start_agent(&mut self) -> Result<(), Failure> {
        tell::command("edge-secrets-agent run &");
        let mut command = Command::new(&self.binaries.agent);
        command
            .arg("--config")
            .arg(self.path("agent.yaml"))
            .arg("run");
        let (daemon, mut stdout) = Daemon::start(command, self.path("agent.log"))?;
        thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        self.agent = Some(daemon);
        Ok(())
    }

    /// The ends of both logs.
    pub(crate) fn show_logs(&self) {
        for log in ["hub.log", "agent.log"] {
            let text = fs::read_to_string(self.path(log)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("\n--- the end of {log}:");
            for line in &lines[lines.len().saturating_sub(20)..] {
                eprintln!("{line}");
            }
        }
    }

    /// Ends both daemons and removes both directories.
    pub(crate) fn clean_up(self) -> Result<(), Failure> {
        let Self {
            agent,
            hub,
            dir,
            runtime,
            ..
        } = self;
        for daemon in [agent, hub].into_iter().flatten() {
            daemon.stop()?;
        }
        runtime.close()?;
        Ok(dir.close()?)
    }
}

/// One process in the background. Killed when dropped.
#[derive(Debug)]
struct Daemon(Child);

impl Daemon {
    fn start(
        mut command: Command,
        log: PathBuf,
    ) -> Result<(Self, std::process::ChildStdout), Failure> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(log)?)
            .spawn()?;
        let mut daemon = Self(child);
        let stdout = daemon.0.stdout.take().ok_or("no pipe")?;
        Ok((daemon, stdout))
    }

    fn stop(mut self) -> Result<(), Failure> {
        kill(Pid::from_raw(i32::try_from(self.0.id())?), Signal::SIGTERM)?;
        let status = self.0.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("a daemon ended with {status}").into())
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A directory on tmpfs that an ordinary user may write to.
fn tmpfs() -> Result<PathBuf, Failure> {
    let of_session = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    of_session
        .into_iter()
        .chain([PathBuf::from("/dev/shm")])
        .find(|dir| {
            let fits = statfs(dir).is_ok_and(|stat| stat.filesystem_type() == TMPFS_MAGIC);
            fits && tempfile::tempfile_in(dir).is_ok()
        })
        .ok_or_else(|| {
            "neither $XDG_RUNTIME_DIR nor /dev/shm is a tmpfs that can be written".into()
        })
}

/// The checkout that this example is part of.
pub(crate) const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
