//! Making any change that a process makes to its files the last one, or a failed one.
//!
//! The real programs run under a tracer of our own (ptrace), which stands before every system call that
//! changes something in the given directories: a write, a rename, a link, a removal, a mode, a sync, a
//! file made. It counts them over all threads from a mark on. At the one that it was told it kills the
//! process before the call has any effect, or after half a write, or lets the call fail.
//!
//! The tracer is this test program once more, started by [`Cut::command`]; `main` gives way to it by
//! [`as_tracer`]. It is killed with its child, and its child with it.

mod call;
mod orders;
mod tracer;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::wait;

pub use self::call::{Act, Kind};
pub use self::orders::Order;

/// A process whose changes are counted.
#[derive(Debug)]
pub struct Cut {
    socket: PathBuf,
}

impl Cut {
    /// The command that runs `program` under the tracer. `place` is a directory for the tracer's own
    /// files, outside of `dirs`, whose changes count. `first` is in force before the program begins.
    ///
    /// # Panics
    /// When this program does not know where it is.
    #[must_use]
    pub fn command(
        place: &Path,
        dirs: &[&Path],
        first: Order,
        program: &Command,
    ) -> (Self, Command) {
        let socket = place.join("tracer.sock");
        fs::remove_file(&socket).ok();
        fs::remove_file(place.join(OVER)).ok();
        let mut command = Command::new(env::current_exe().expect("the test's own path"));
        command.arg(FLAG).arg(&socket).arg(first.to_string());
        command.args(dirs).arg("--").arg(program.get_program());
        command.args(program.get_args());
        for (name, value) in program.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        (Self { socket }, command)
    }

    /// Counts from here, and does this from now on.
    ///
    /// # Panics
    /// When the process is over.
    pub fn order(&self, order: Order) {
        self.ask(&order.to_string());
    }

    /// Everything that was changed since the last order.
    ///
    /// # Panics
    /// When the tracer is gone.
    #[must_use]
    pub fn acts(&self) -> Vec<Act> {
        let lines = self.ask("acts");
        lines
            .iter()
            .map(|line| line.parse().expect("an act"))
            .collect()
    }

    /// Everything that a process changed since the last order, once it is over.
    ///
    /// # Panics
    /// When it is not over.
    #[must_use]
    pub fn all_acts(place: &Path) -> Vec<Act> {
        let lines = fs::read_to_string(place.join(ACTS)).expect("a process that is over");
        let acts = lines.lines().map(|line| line.parse().expect("an act"));
        acts.collect()
    }

    /// Asks the process itself, not its tracer, to end.
    pub fn terminate(&self) {
        self.ask("terminate");
    }

    /// Kills the process now, and waits for its end: what it held is free then.
    ///
    /// # Panics
    /// When it does not end.
    pub fn kill(&self) {
        self.ask("kill");
        self.end(wait::DEADLINE).expect("its end");
    }

    /// What the process was about to do when it was killed, as soon as it is dead and a file says so;
    /// `None` when that does not happen within `limit`.
    #[must_use]
    pub fn end(&self, limit: std::time::Duration) -> Option<String> {
        let over = self.socket.with_file_name(OVER);
        let mut said = None;
        wait::within(&over, limit, &mut || {
            said = fs::read_to_string(&over).ok();
            said.is_some()
        });
        said
    }

    /// As [`end`](Self::end); where it does not come within `limit`, it does not come later either: from then
    /// on changes are only counted.
    ///
    /// # Panics
    /// When the process neither goes on nor ends.
    #[must_use]
    pub fn end_or_spare(&self, limit: std::time::Duration) -> Option<String> {
        let end = self.end(limit);
        if end.is_some() || self.asked(&Order::Count.to_string()).is_some() {
            return end;
        }
        Some(self.end(wait::DEADLINE).expect("its end"))
    }

    fn ask(&self, question: &str) -> Vec<String> {
        self.asked(question)
            .unwrap_or_else(|| panic!("{question}: it is over"))
    }

    /// `None` when the process is over, or is about to be.
    fn asked(&self, question: &str) -> Option<Vec<String>> {
        let over = self.socket.with_file_name(OVER);
        let mut stream = None;
        wait::until(&self.socket, "the tracer listens", || {
            stream = UnixStream::connect(&self.socket).ok();
            stream.is_some() || over.exists()
        });
        let mut stream = stream?;
        writeln!(stream, "{question}").ok()?;
        let answer = BufReader::new(stream).lines();
        let mut lines: Vec<_> = answer.collect::<Result<_, _>>().ok()?;
        (lines.pop()? == DONE).then_some(lines)
    }
}

/// Whether this process is to be a tracer: then it is one, and this is how it ends.
#[must_use]
pub fn as_tracer() -> Option<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    (arguments.next()? == FLAG).then(|| tracer::run(arguments.collect::<Vec<OsString>>()))
}

/// Why processes cannot be traced here; `None` where they can.
#[must_use]
pub fn missing() -> Option<String> {
    if !cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
        return Some("the tracer knows x86_64 alone".to_owned());
    }
    if !crate::is_root() {
        return Some("needs root".to_owned());
    }
    let place = tempfile::tempdir().expect("a place");
    let (_, mut command) = Cut::command(place.path(), &[], Order::Count, &Command::new("true"));
    match command.status() {
        Ok(status) if status.success() => None,
        _ => Some("processes cannot be traced here".to_owned()),
    }
}

const FLAG: &str = "--as-tracer";
const DONE: &str = "done";
/// The file that says which call was the last.
const OVER: &str = "tracer.over";
/// The file that says what it had changed.
const ACTS: &str = "tracer.acts";
