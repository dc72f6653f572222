//! Which points of a scene are tried, and the table of what was.

use std::env;
use std::sync::{Mutex, PoisonError};

use edge_secrets_tests::cut::{Act, Kind, Order};

/// What came of one scene.
#[derive(Debug)]
pub(crate) struct Row {
    scene: &'static str,
    /// The changes that the scene makes when nothing interrupts it.
    acts: usize,
    tried: usize,
    reached: usize,
    invariants: &'static str,
}

static TABLE: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// Counts what is tried in a scene. Its row is there when it is dropped, also when a trial fails.
#[derive(Debug)]
pub(crate) struct Tally(Option<Row>);

impl Tally {
    pub(crate) fn new(scene: &'static str, acts: usize, invariants: &'static str) -> Self {
        Self(Some(Row {
            scene,
            acts,
            tried: 0,
            reached: 0,
            invariants,
        }))
    }

    /// More changes of another run of the scene.
    pub(crate) fn add(&mut self, acts: usize) {
        if let Some(row) = &mut self.0 {
            row.acts += acts;
        }
    }

    /// One point was tried, and `reached` when the process came to it.
    pub(crate) fn count(&mut self, reached: bool) {
        if let Some(row) = &mut self.0 {
            row.tried += 1;
            row.reached += usize::from(reached);
        }
    }

    /// Demands that most of the points were met: a scene that does other things than when it was
    /// recorded shows nothing.
    pub(crate) fn finish(self) {
        let row = self.0.as_ref().expect("a row");
        assert!(
            row.reached * 10 >= row.tried * 9,
            "points not reached: {row:?}"
        );
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
        table.extend(self.0.take());
    }
}

/// The points at which to kill: before each of these changes, and in the middle of writes.
pub(crate) fn kills(acts: &[Act]) -> Vec<Order> {
    let mut orders = Vec::new();
    for at in chosen(acts) {
        orders.push(Order::Kill(at));
        if acts.get(at - 1).is_some_and(|act| act.kind == Kind::Write) {
            orders.push(Order::Tear(at));
        }
    }
    orders
}

/// All of them where there are few or all are asked for; else a spread that has every swap.
pub(crate) fn chosen(acts: &[Act]) -> Vec<usize> {
    let all = env::var("EDGE_SECRETS_CRASH_POINTS").is_ok_and(|asked| asked == "all");
    let every = if all {
        1
    } else {
        acts.len().div_ceil(MANY).max(1)
    };
    let numbered = acts.iter().enumerate().map(|(at, act)| (at + 1, act));
    numbered
        .filter(|(at, act)| at % every == 0 || act.kind == Kind::Name)
        .map(|(at, _)| at)
        .collect()
}

/// The table, on standard output.
pub(crate) fn print() {
    let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    if table.is_empty() {
        return;
    }
    table.sort_by_key(|row| row.scene);
    let longest = table.iter().map(|row| row.scene.len()).max().unwrap_or(0);
    println!("{:longest$}  changes  tried  reached  invariants", "scene");
    for row in table.iter() {
        println!(
            "{:longest$}  {:>7}  {:>5}  {:>7}  {}",
            row.scene, row.acts, row.tried, row.reached, row.invariants
        );
    }
    let tried: usize = table.iter().map(|row| row.tried).sum();
    println!("{tried} points");
}

/// More changes than this are not all tried in every run.
const MANY: usize = 150;
