//! A hub that runs under the tracer, and its calls and commands.

use std::path::{Path, PathBuf};
use std::process::Command;

use edge_secrets_tests::binaries::binaries;
use edge_secrets_tests::cut::{Act, Cut, Order};
use edge_secrets_tests::operator::{Ended, run};
use edge_secrets_tests::{TestHub, wait};

use crate::node::PATIENCE;
use crate::points::{Tally, kills};

/// A hub whose changes are counted.
pub(crate) struct Store {
    pub(crate) hub: TestHub,
    cut: Option<Cut>,
}

impl Store {
    /// A new one, which serves.
    pub(crate) fn new() -> Self {
        let mut hub = TestHub::start();
        hub.kill();
        let mut store = Self { hub, cut: None };
        store.serve(Order::Count);
        store
    }

    pub(crate) fn serve(&mut self, order: Order) {
        let data = self.hub.data_dir();
        let command = self.hub.command();
        let (cut, mut command) = Cut::command(self.hub.place(), &[&data], order, &command);
        self.hub.serve_by(&mut command);
        self.cut = Some(cut);
    }

    pub(crate) fn cut(&self) -> &Cut {
        self.cut.as_ref().expect("a traced hub")
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(&mut self) {
        let cut = self.cut.take().expect("a traced hub");
        cut.terminate();
        cut.end(wait::DEADLINE).expect("its end");
        self.hub.kill();
    }

    /// Tries each change of a call as the hub's last. `before` makes ready, in a life of its own order;
    /// `call` says whether it was answered with success; `check` is asked in the next life.
    pub(crate) fn calls<T>(
        &mut self,
        scene: &'static str,
        before: impl Fn(&mut Self, usize) -> T,
        call: impl Fn(&mut Self, &mut T) -> bool,
        check: impl Fn(&mut Self, T, bool, &str),
    ) {
        let mut ready = before(self, 0);
        self.cut().order(Order::Count);
        assert!(call(self, &mut ready), "{scene}, without a kill");
        let acts = self.cut().acts();
        check(self, ready, true, "without a kill");
        let mut tally = Tally::new(scene, acts.len(), "3 5 7 8");
        for (round, order) in kills(&acts).into_iter().enumerate() {
            let mut ready = before(self, round + 1);
            self.cut().order(order);
            let answered = call(self, &mut ready);
            let end = self.cut().end_or_spare(PATIENCE);
            let what = format!("{scene}, {order}, answered: {answered}: {end:?}");
            tally.count(end.is_some());
            if end.is_some() {
                self.hub.kill();
                self.serve(Order::Count);
            }
            check(self, ready, answered, &what);
        }
        tally.finish();
    }
}

/// The hub's program with these arguments, under the tracer, to its end.
pub(crate) fn traced(
    place: &Path,
    dirs: &[&Path],
    order: Order,
    arguments: &[&str],
) -> (Ended, String) {
    let mut program = Command::new(&binaries().hub);
    program.args(arguments);
    let (cut, mut command) = Cut::command(place, dirs, order, &program);
    let ended = run(&mut command, b"");
    (ended, cut.end(wait::DEADLINE).expect("its end"))
}

/// What a command changes when nothing interrupts it: the tracer writes it down at the end.
pub(crate) fn recorded(place: &Path, dirs: &[&Path], arguments: &[&str]) -> Vec<Act> {
    let (ended, _) = traced(place, dirs, Order::Count, arguments);
    assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
    Cut::all_acts(place)
}

/// The same without a tracer.
pub(crate) fn ended(arguments: &[&str]) -> Ended {
    run(Command::new(&binaries().hub).args(arguments), b"")
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// A key for backups, and its public half. A passphrase would cost a second each time.
pub(crate) fn recovery_key(dir: &Path) -> (PathBuf, PathBuf) {
    let key = dir.join("recovery.key");
    let made = ended(&["backup-key", "--out", text(&key)]);
    assert_eq!(made.code, 0, "{made:?}");
    (key, dir.join("recovery.key.pub"))
}
