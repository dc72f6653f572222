//! What the daemons take while nothing happens, and how fast an agent is there.

use std::fs;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::samples::{Samples, Table};
use crate::scene::Scene;

/// From the start of the process to the last secret, with an empty runtime directory.
pub(crate) fn starts(scene: &mut Scene, times: usize) -> Samples {
    let mut samples = Samples::default();
    for _ in 0..times {
        assert!(scene.agent.stop().success());
        let ended = scene.agent.ended(&["wipe"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        let start = Instant::now();
        scene.agent.run();
        scene.await_all();
        samples.add(start.elapsed());
    }
    samples
}

/// Memory, wake-ups and processor time of the agent over an idle window.
pub(crate) fn resting(scene: &Scene, window: Duration, table: &mut Table) {
    let pid = scene.agent.pid();
    let before = Use::of(pid);
    // The window is what is measured.
    std::thread::sleep(window);
    let after = Use::of(pid);
    let per_minute = |count: u64| count as f64 * 60.0 / window.as_secs_f64();
    let mb = |kib: Option<u64>| {
        kib.map_or_else(
            || "unknown".into(),
            |kib| format!("{:.2} MB", kib as f64 * 1024.0 / 1e6),
        )
    };
    table.text(
        "agent, 50 services with 200 secrets: resident memory (VmRSS)",
        &format!(
            "{}; of it anonymous {}",
            mb(status(pid, "VmRSS")),
            mb(status(pid, "RssAnon"))
        ),
        "≤ 8 MB",
        "",
    );
    let pss = format!("{}; private {}", mb(rollup(pid, "Pss:")), mb(private(pid)));
    table.text("the same, its proportional share (PSS)", &pss, "≤ 8 MB", "");
    let waked = per_minute(after.switches - before.switches);
    table.text(
        "agent idle: wake-ups (voluntary context switches, all threads)",
        &format!("{waked:.1} a minute"),
        "≤ 10 a minute",
        "",
    );
    let busy = (after.ticks - before.ticks) as f64 / TICKS_A_SECOND / window.as_secs_f64();
    table.text(
        "agent idle: processor",
        &format!("{:.2} % of a core", busy * 100.0),
        "0.0 %",
        "",
    );
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .expect("threads")
        .count();
    table.text("agent: threads", &threads.to_string(), "", "");
}

/// The hub with one node, for the record.
pub(crate) fn hub(scene: &Scene, table: &mut Table) {
    let kib = status(scene.hub.pid(), "VmRSS").unwrap_or_default();
    table.text(
        "hub: resident memory (VmRSS)",
        &format!("{:.2} MB", kib as f64 * 1024.0 / 1e6),
        "",
        "",
    );
}

struct Use {
    switches: u64,
    ticks: u64,
}

impl Use {
    fn of(pid: Pid) -> Self {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
        let switches = tasks
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok())
            .filter_map(|text| number(&text, "voluntary_ctxt_switches:"))
            .sum();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("statistics");
        // After the name, which may hold anything: utime and stime are the 12th and 13th.
        let rest = stat.rsplit_once(')').expect("a name").1;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = fields[11..=12]
            .iter()
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Self { switches, ticks }
    }
}

fn status(pid: Pid, key: &str) -> Option<u64> {
    number(
        &fs::read_to_string(format!("/proc/{pid}/status")).ok()?,
        &format!("{key}:"),
    )
}

/// Root only: the agent shows its memory map to nobody else.
fn rollup(pid: Pid, key: &str) -> Option<u64> {
    number(
        &fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?,
        key,
    )
}

fn private(pid: Pid) -> Option<u64> {
    Some(rollup(pid, "Private_Clean:")? + rollup(pid, "Private_Dirty:")?)
}

fn number(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// What `/proc` counts in, on every Linux that matters.
const TICKS_A_SECOND: f64 = 100.0;
