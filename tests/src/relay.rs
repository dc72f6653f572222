//! A relay between an agent and its hub that can be told to misbehave at a byte.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

/// Where a byte goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the agent to the hub.
    Up,
    /// From the hub to the agent.
    Down,
}

/// What happens to the byte and to those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends in order.
    Close,
    /// It ends with a reset, in both directions.
    Reset,
    /// Nothing is passed on any more, and both ends think that it is there.
    Silence,
    /// What follows comes later by this much.
    Delay(Duration),
    /// The byte is another one.
    Flip,
    /// What has just passed is passed once more.
    Repeat,
    /// What follows is passed in another order.
    Reorder,
}

/// Passes connections on to a port of this machine.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    plan: Mutex<Option<Plan>>,
    fired: Condvar,
    /// Whoever has connected, to be cut.
    open: Mutex<Vec<TcpStream>>,
    refuses: AtomicBool,
    passed: AtomicU64,
    over: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    direction: Direction,
    /// How many more bytes pass.
    after: u64,
    fault: Fault,
}

impl Relay {
    /// A relay to this port.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.over.load(Ordering::SeqCst) {
                    return;
                }
                if accepting.refuses.load(Ordering::SeqCst) {
                    reset(&stream);
                    continue;
                }
                let Ok(hub) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else {
                    reset(&stream);
                    continue;
                };
                pass(&accepting, &stream, &hub);
            }
        });
        Self { port, shared }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, in the place of the hub's.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Lets so many more bytes pass in that direction, over whichever connection, and then this happens,
    /// once.
    pub fn plan(&self, direction: Direction, after: u64, fault: Fault) {
        *self.shared.plan() = Some(Plan {
            direction,
            after,
            fault,
        });
    }

    /// Whether what was planned last has happened. Otherwise it is off.
    #[must_use]
    pub fn happened(&self) -> bool {
        self.shared.plan().take().is_none()
    }

    /// Cuts every connection, and takes no other one until [`heal`](Self::heal).
    pub fn part(&self) {
        self.shared.refuses.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Passes connections on again.
    pub fn heal(&self) {
        self.shared.refuses.store(false, Ordering::SeqCst);
    }

    /// Resets every connection.
    pub fn cut(&self) {
        let mut open = self
            .shared
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            reset(&stream);
        }
    }

    /// How many bytes have passed in both directions.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes whoever accepts.
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
    }
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Option<Plan>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that is due within the next `len` bytes, and before which of them.
    fn due(&self, direction: Direction, len: usize) -> Option<(usize, Fault)> {
        let mut plan = self.plan();
        let due = plan.as_mut().filter(|plan| plan.direction == direction)?;
        let len = len as u64;
        if due.after >= len {
            due.after -= len;
            return None;
        }
        let at = usize::try_from(due.after).expect("below the length");
        let fault = due.fault;
        *plan = None;
        self.fired.notify_all();
        Some((at, fault))
    }
}

fn pass(shared: &Arc<Shared>, agent: &TcpStream, hub: &TcpStream) {
    for stream in [agent, hub] {
        stream.set_nodelay(true).ok();
        let kept = stream.try_clone().expect("a descriptor");
        let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(kept);
    }
    // A partition that has just begun found nothing to cut yet.
    if shared.refuses.load(Ordering::SeqCst) {
        reset(agent);
        reset(hub);
    }
    for (direction, from, to) in [(Direction::Up, agent, hub), (Direction::Down, hub, agent)] {
        let shared = Arc::clone(shared);
        let from = from.try_clone().expect("a descriptor");
        let to = to.try_clone().expect("a descriptor");
        thread::spawn(move || {
            pump(&shared, direction, &from, &to);
            to.shutdown(Shutdown::Write).ok();
        });
    }
}

/// Ends with the connection.
fn pump(shared: &Shared, direction: Direction, mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(len) = from.read(&mut buffer) {
        let Some(piece) = buffer.get_mut(..len).filter(|piece| !piece.is_empty()) else {
            return;
        };
        shared.passed.fetch_add(len as u64, Ordering::SeqCst);
        let Some((at, fault)) = shared.due(direction, len) else {
            if to.write_all(piece).is_err() {
                return;
            }
            continue;
        };
        let (before, after) = piece.split_at_mut(at);
        to.write_all(before).ok();
        match fault {
            Fault::Close => {
                from.shutdown(Shutdown::Both).ok();
                return;
            }
            Fault::Reset => {
                reset(from);
                reset(to);
                return;
            }
            Fault::Silence => {
                // Whatever still comes is swallowed, until an end gives up.
                while from.read(&mut buffer).is_ok_and(|len| len > 0) {}
                return;
            }
            Fault::Delay(time) => thread::sleep(time),
            Fault::Flip => after[0] ^= 1,
            Fault::Repeat => {
                to.write_all(before).ok();
                if before.is_empty() {
                    to.write_all(after).ok();
                }
            }
            Fault::Reorder => after.reverse(),
        }
        if to.write_all(after).is_err() {
            return;
        }
    }
}

/// Ends it so that the other end is told at once, and everything on its way is lost.
fn reset(stream: &TcpStream) {
    let at_once = linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(stream, sockopt::Linger, &at_once).ok();
    stream.shutdown(Shutdown::Both).ok();
}
