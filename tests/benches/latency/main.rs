//! How fast and how small: every row beside DESIGN's number and this machine's floor.
//!
//! `cargo bench -p edge-secrets-tests` runs it whole; `-- --short` runs it just long enough to see
//! that it works. Nothing here is asserted: numbers are printed, and people judge.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a bench fails by panicking"
)]

mod floor;
mod footprint;
mod rotation;
mod samples;
mod scene;

use edge_secrets_tests::binaries::{binaries, size};
use rotation::Pace;

use crate::samples::Table;
use crate::scene::Scene;

fn main() {
    // `cargo test --benches` passes no `--bench`: then it is a smoke test.
    let arguments: Vec<String> = std::env::args().collect();
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    let effort = if has("--short") || !has("--bench") {
        SHORT
    } else {
        WHOLE
    };
    let mut table = Table::default();

    let one = Scene::deploy(1, &["a"]);
    let floor = floor::measure(&one, effort.rotations);
    table.row(
        "floor: two warm mTLS round trips of 1 KiB over HTTP/2",
        &floor.round_trips,
        "",
        "",
    );
    table.row(
        "floor: one atomic write and swap on tmpfs, seen by inotify and read",
        &floor.swap,
        "",
        "",
    );
    table.row("floor: both together", &floor.both, "0.11 / 0.15 ms", "");
    table.row(
        "apart: 4 KiB overwritten and fdatasync on the hub's disk",
        &floor.disk,
        "",
        "",
    );
    table.row(
        "apart: 4 KiB appended and fsync, as a write-ahead log grows",
        &floor.append,
        "",
        "",
    );

    let target = "p50 ≤ 1 ms, p99 ≤ 5 ms";
    let both = floor.both.to_string();
    let rotation = rotation::measure(&one, effort.rotations, Pace::AtRest);
    table.row(
        "1 secret: hub's answer to the set received -> readable",
        &rotation.from_answer,
        target,
        &both,
    );
    table.row(
        "1 secret: set request sent -> readable",
        &rotation.from_request,
        "(with the disk)",
        &both,
    );
    table.row(
        "1 secret: set request sent -> hub's answer received",
        &rotation.answer,
        "",
        &floor.append.to_string(),
    );
    let rotation = rotation::measure(&one, effort.rotations, Pace::BackToBack);
    table.row(
        "1 secret, changes back to back: answer -> readable",
        &rotation.from_answer,
        target,
        &both,
    );
    drop(one);

    let mut many = Scene::deploy(50, &["a", "b", "c", "d"]);
    let rotation = rotation::measure(&many, effort.rotations, Pace::AtRest);
    table.row(
        "1 of 200: hub's answer to the set received -> readable",
        &rotation.from_answer,
        "as 1 secret",
        &both,
    );
    table.row(
        "1 of 200: set request sent -> readable",
        &rotation.from_request,
        "as 1 secret",
        &both,
    );
    let starts = footprint::starts(&mut many, effort.starts);
    table.row(
        "agent start -> 200 secrets readable, nothing there before",
        &starts,
        "≤ 100 ms",
        "",
    );
    footprint::resting(&many, effort.idle, &mut table);
    footprint::hub(&many, &mut table);
    for (name, path, target) in [
        ("edge-secrets-agent", &binaries().agent, "≤ 6 MB"),
        ("edge-secrets-hub", &binaries().hub, ""),
        ("edge-secrets", &binaries().operator, ""),
    ] {
        let measured = format!("{:.2} MB", size(path) as f64 / 1e6);
        table.text(
            &format!("size of {name}, stripped by the release profile"),
            &measured,
            target,
            "",
        );
    }
    println!(
        "\n{} rotations each, {:?} idle\n\n{table}",
        effort.rotations, effort.idle
    );
}

/// How much is done.
struct Effort {
    rotations: u64,
    starts: usize,
    idle: std::time::Duration,
}

const WHOLE: Effort = Effort {
    rotations: 2_000,
    starts: 10,
    idle: std::time::Duration::from_secs(60),
};
const SHORT: Effort = Effort {
    rotations: 20,
    starts: 1,
    idle: std::time::Duration::from_secs(2),
};
