//! One process under test.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::wait::{DEADLINE, tail};

/// A process whose standard error goes to a log file. Killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
    lines: Receiver<String>,
    exited: Receiver<()>,
}

impl Daemon {
    /// Starts it. Standard error is added to `log`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let stderr = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("the log file");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (line_sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if line_sender.send(line).is_err() {
                    break;
                }
            }
        });
        let pid = as_pid(&child);
        let (exit_sender, exited) = mpsc::channel();
        thread::spawn(move || {
            // Without reaping: the process id stays this child's until the owner has seen its end.
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            while matches!(waitid(Id::Pid(pid), flags), Err(nix::Error::EINTR)) {}
            exit_sender.send(()).ok();
        });
        Self {
            child,
            log: log.to_owned(),
            lines,
            exited,
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        as_pid(&self.child)
    }

    /// The next line on standard output.
    ///
    /// # Panics
    /// When none comes.
    #[must_use]
    pub fn line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).unwrap_or_else(|_| {
            panic!(
                "the process said nothing; its log ends:\n{}",
                tail(&self.log)
            )
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).ok();
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> ExitStatus {
        self.exited.recv_timeout(DEADLINE).unwrap_or_else(|_| {
            panic!(
                "the process does not end; its log ends:\n{}",
                tail(&self.log)
            )
        });
        self.child.wait().expect("the exit status")
    }

    /// Asks it to end and waits.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// SIGKILL.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- {}:\n{}", self.log.display(), tail(&self.log));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn as_pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a process id"))
}
