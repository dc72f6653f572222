//! The tracer: a process between a test and the program under test.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use self::machine::{answer_with, halve, registers, skip};
use super::call::{self, Act, Kind};
use super::{ACTS, DONE, OVER, Order};

/// What test and tracer share.
struct State {
    order: Order,
    acts: Vec<Act>,
    /// The change at which the process was killed, or is just about to be.
    last: Option<String>,
}

struct Tracer {
    main: Pid,
    dirs: Vec<PathBuf>,
    state: Arc<Mutex<State>>,
    /// The threads that are in a call, and what is to be done when they leave it.
    inside: BTreeMap<Pid, Leaving>,
    /// Where the last change is told of.
    over: PathBuf,
}

/// What happens when a call is left.
enum Leaving {
    Nothing,
    Fail(i32),
    Die,
}

/// Runs `SOCKET ORDER DIR... -- PROGRAM ARGUMENT...` to its end.
#[allow(
    clippy::zombie_processes,
    reason = "the tracer waits for it, by its id"
)]
pub(super) fn run(arguments: Vec<OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let socket = PathBuf::from(arguments.next().expect("a socket"));
    let order = arguments.next().expect("an order");
    let order = order.to_str().and_then(|order| order.parse().ok());
    let dirs = arguments.by_ref().take_while(|argument| argument != "--");
    let dirs = dirs.map(|dir| fs::canonicalize(dir).expect("a directory"));
    let dirs = dirs.collect();
    let state = Arc::new(Mutex::new(State {
        order: order.expect("an order"),
        acts: Vec::new(),
        last: None,
    }));
    // It stops itself before it becomes the program: so nothing of that is missed.
    let child = Command::new("/bin/sh")
        .args(["-c", "kill -STOP $$; exec \"$@\"", "sh"])
        .args(arguments)
        .spawn()
        .expect("a shell");
    let main = Pid::from_raw(child.id().cast_signed());
    let listener = UnixListener::bind(&socket).expect("a socket");
    let heard = state.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, &heard, main);
        }
    });
    let tracer = Tracer {
        main,
        dirs,
        state,
        inside: BTreeMap::new(),
        over: socket.with_file_name(OVER),
    };
    tracer.trace()
}

fn answer(stream: UnixStream, state: &Mutex<State>, main: Pid) {
    let mut question = String::new();
    let mut reader = BufReader::new(&stream);
    if reader.read_line(&mut question).is_err() {
        return;
    }
    let mut said = String::new();
    match question.trim_end() {
        "acts" => {
            for act in &lock(state).acts {
                said.push_str(&format!("{act}\n"));
            }
        }
        // Its end is the tracer's: who asked is answered first.
        end @ ("terminate" | "kill") => {
            (&stream).write_all(DONE.as_bytes()).ok();
            let signal = match end {
                "kill" => Signal::SIGKILL,
                _ => Signal::SIGTERM,
            };
            kill(main, signal).ok();
            return;
        }
        order => {
            let mut state = lock(state);
            if state.last.is_some() {
                // Too late: the end is what is said.
                return;
            }
            state.order = order.parse().expect("an order");
            state.acts.clear();
        }
    }
    said.push_str(DONE);
    (&stream).write_all(said.as_bytes()).ok();
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tracer {
    fn trace(mut self) -> ExitCode {
        let stopped = waitpid(self.main, Some(WaitPidFlag::WUNTRACED));
        assert!(
            matches!(stopped, Ok(WaitStatus::Stopped(..))),
            "{stopped:?}"
        );
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        if let Err(error) = ptrace::seize(self.main, options) {
            eprintln!("The process cannot be traced: {error}");
            kill(self.main, Signal::SIGKILL).ok();
            return ExitCode::FAILURE;
        }
        let mut begun = false;
        loop {
            let (tid, signal) = match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Ok(WaitStatus::PtraceSyscall(tid)) => {
                    self.at_call(tid);
                    (tid, None)
                }
                Ok(WaitStatus::PtraceEvent(tid, _, _)) => {
                    if !begun {
                        kill(self.main, Signal::SIGCONT).ok();
                        begun = true;
                    }
                    (tid, None)
                }
                Ok(WaitStatus::Stopped(tid, signal)) => (tid, Some(signal)),
                Ok(WaitStatus::Exited(pid, code)) if pid == self.main => {
                    self.tell(&format!("exit {code}"));
                    return ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX));
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.main => {
                    self.tell(&format!("{signal}"));
                    return ExitCode::from(128 + signal as u8);
                }
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => {
                    eprintln!("The tracer cannot wait: {error}");
                    return ExitCode::FAILURE;
                }
            };
            // It may have been killed meanwhile.
            ptrace::syscall(tid, signal).ok();
        }
    }

    fn at_call(&mut self, tid: Pid) {
        if let Some(leaving) = self.inside.remove(&tid) {
            match leaving {
                Leaving::Nothing => {}
                Leaving::Fail(errno) => answer_with(tid, errno),
                Leaving::Die => drop(kill(self.main, Signal::SIGKILL)),
            }
        } else {
            let leaving = self.before_call(tid);
            self.inside.insert(tid, leaving);
        }
    }

    fn before_call(&mut self, tid: Pid) -> Leaving {
        let Some((number, arguments)) = registers(tid) else {
            return Leaving::Nothing;
        };
        let Some(act) = call::act(tid, number, arguments, &self.dirs) else {
            return Leaving::Nothing;
        };
        let state = self.state.clone();
        let mut state = lock(&state);
        state.acts.push(act.clone());
        let count = state.acts.len();
        let failing = |errno| {
            if could_fail(&act, errno) && skip(tid) {
                Leaving::Fail(errno)
            } else {
                Leaving::Nothing
            }
        };
        match state.order {
            Order::Tear(at)
                if count == at && matches!(act.call, "write" | "pwrite64") && halve(tid) =>
            {
                state.last = Some(format!("half of {act}"));
                Leaving::Die
            }
            // A call whose process is killed when it is entered has no effect.
            Order::Kill(at) | Order::Tear(at) if count == at => {
                state.last = Some(act.to_string());
                kill(self.main, Signal::SIGKILL).ok();
                Leaving::Nothing
            }
            Order::Fail(at, errno) if count == at => failing(errno),
            Order::FailFrom(at, errno) if count >= at => failing(errno),
            _ => Leaving::Nothing,
        }
    }

    /// Says that the process is over, and how: all its threads are gone, and what they held is free.
    fn tell(&self, end: &str) {
        let mut state = lock(&self.state);
        let said = state.last.get_or_insert_with(|| end.to_owned()).clone();
        let fresh = self.over.with_extension("new");
        let acts: String = state.acts.iter().map(|act| format!("{act}\n")).collect();
        let told =
            fs::write(self.over.with_file_name(ACTS), acts).and_then(|()| fs::write(&fresh, said));
        let told = told.and_then(|()| fs::rename(&fresh, &self.over));
        if let Err(error) = told {
            eprintln!("The end cannot be told: {error}");
        }
    }
}

/// Whether the kernel could give this error here. Removing needs no room, nor does opening what is there,
/// which a disk that is read-only refuses all the same: what makes a file wants to write it.
fn could_fail(act: &Act, errno: i32) -> bool {
    if act.call.starts_with("open") && act.path.exists() {
        return errno == libc::EROFS;
    }
    let for_room = matches!(errno, libc::ENOSPC | libc::EDQUOT);
    !(for_room && matches!(act.kind, Kind::Remove | Kind::Mode))
}

#[cfg(target_arch = "x86_64")]
mod machine {
    use super::{Pid, ptrace};

    /// The call's number and arguments.
    pub(super) fn registers(tid: Pid) -> Option<(u64, [u64; 6])> {
        let r = ptrace::getregs(tid).ok()?;
        Some((r.orig_rax, [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9]))
    }

    /// Makes no call of it.
    pub(super) fn skip(tid: Pid) -> bool {
        change(tid, |registers| registers.orig_rax = u64::MAX)
    }

    /// Lets a write have half its length.
    pub(super) fn halve(tid: Pid) -> bool {
        change(tid, |registers| registers.rdx = registers.rdx.div_ceil(2))
    }

    /// What a call that was skipped answers.
    pub(super) fn answer_with(tid: Pid, errno: i32) {
        change(tid, |registers| {
            registers.rax = i64::from(-errno).cast_unsigned();
        });
    }

    fn change(tid: Pid, change: impl FnOnce(&mut nix::libc::user_regs_struct)) -> bool {
        let Ok(mut registers) = ptrace::getregs(tid) else {
            return false;
        };
        change(&mut registers);
        ptrace::setregs(tid, registers).is_ok()
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod machine {
    use super::Pid;

    pub(super) fn registers(_: Pid) -> Option<(u64, [u64; 6])> {
        None
    }

    pub(super) fn skip(_: Pid) -> bool {
        false
    }

    pub(super) fn halve(_: Pid) -> bool {
        false
    }

    pub(super) fn answer_with(_: Pid, _: i32) {}
}
