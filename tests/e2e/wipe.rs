//! After undeploy no byte of the value is left (invariants 3 and 4), seen from outside.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use edge_secrets_tests::operator::run;
use edge_secrets_tests::samples::{policy, service};
use edge_secrets_tests::scan::Scanner;
use edge_secrets_tests::{Canary, TestAgent, TestHub, wait};
use libtest_mimic::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = crate::trials![
        a_descriptor_opened_before_undeploy_reads_zeros_after_it,
        a_superseded_value_is_wiped_once_its_reader_is_gone,
        no_file_holds_a_value_after_undeploy,
        no_answer_and_no_listing_shows_a_value,
    ];
    trials.push(
        Trial::test("wipe::no_daemon_leaves_a_core_dump", || {
            no_daemon_leaves_a_core_dump();
            Ok(())
        })
        .with_kind("needs a machine that dumps cores")
        .with_ignored_flag(!dumps_cores()),
    );
    for (name, test) in [
        (
            "wipe::the_scanner_finds_a_value_in_another_process",
            the_scanner_finds_a_value_in_another_process as fn(),
        ),
        (
            "wipe::the_agents_memory_holds_no_value_after_undeploy",
            the_agents_memory_holds_no_value_after_undeploy,
        ),
        (
            "wipe::the_hubs_memory_holds_no_value_that_it_is_not_asked_for",
            the_hubs_memory_holds_no_value_that_it_is_not_asked_for,
        ),
    ] {
        trials.push(crate::as_root(name, test));
    }
    trials
}

/// One service that reads two canaries in every format, rotated and undeployed in several ways.
struct Scene {
    hub: TestHub,
    agent: TestAgent,
    canaries: Vec<Canary>,
}

const URL: &str = "com.example.canary";

impl Scene {
    fn deployed() -> Self {
        let hub = TestHub::start();
        let agent = TestAgent::start(&hub, "edge-01", &[]);
        let operator = hub.operator();
        let canaries: Vec<Canary> = (0..4).map(|_| Canary::new()).collect();
        let definition = service(
            URL,
            "1.0.0",
            &[
                ("main", &[("json", None), ("raw", Some("value_only"))]),
                ("side", &[("raw", None)]),
            ],
        );
        operator.publish_service(&definition);
        operator.set("a", canaries[0].value());
        operator.set("b", canaries[1].value());
        operator.publish_policy("canary", &Self::policy());
        let scene = Self {
            hub,
            agent,
            canaries,
        };
        let raw = scene.raw();
        wait::content(&raw, scene.canaries[1].value().as_bytes());
        // Rotated by the command and by the API, the large value through larger buffers.
        operator.set("b", scene.canaries[2].value());
        wait::content(&raw, scene.canaries[2].value().as_bytes());
        scene.hub.admin().set("b", scene.last().as_bytes());
        wait::content(&raw, scene.last().as_bytes());
        scene
    }

    fn policy() -> serde_json::Value {
        policy(URL, &[], &[("json", "a"), ("raw", "b")])
    }

    fn last(&self) -> String {
        self.canaries[3].value().repeat(200)
    }

    fn raw(&self) -> std::path::PathBuf {
        self.agent.consumer(URL, "main").join("raw")
    }

    fn scanner(&self) -> Scanner {
        Scanner::new(&self.canaries.iter().collect::<Vec<_>>())
    }

    fn undeploy(&self) {
        self.hub.operator().ok(&["policy", "rm", "canary"], "");
        wait::gone(&self.raw());
        wait::gone(&self.agent.consumer(URL, "side").join("raw"));
        self.agent.await_status("nothing is deployed", |status| {
            let services = status["services"].as_array().expect("a list");
            services.iter().all(|service| service["state"] == "wiped")
        });
    }
}

fn a_descriptor_opened_before_undeploy_reads_zeros_after_it() {
    let scene = Scene::deployed();
    let json = scene.agent.consumer(URL, "main").join("json");
    let side = scene.agent.consumer(URL, "side").join("raw");
    let open: Vec<File> = [scene.raw(), json, side]
        .iter()
        .map(|path| File::open(path).expect("readable"))
        .collect();
    let lengths: Vec<u64> = open
        .iter()
        .map(|file| file.metadata().expect("open").len())
        .collect();
    assert!(lengths.iter().all(|len| *len > 0));
    scene.undeploy();
    for (file, len) in open.iter().zip(lengths) {
        // Cut files could hide what was not overwritten: whatever is still there reads as zeros.
        let mut bytes = vec![1; usize::try_from(len).expect("small")];
        let got = file.read_at(&mut bytes, 0).expect("still open");
        assert!(
            bytes[..got].iter().all(|byte| *byte == 0),
            "a value is still there"
        );
    }
}

fn a_superseded_value_is_wiped_once_its_reader_is_gone() {
    let scene = Scene::deployed();
    let dir = scene.agent.consumer(URL, "main");
    let slow = File::open(scene.raw()).expect("readable");
    let mut watcher = File::open(scene.raw()).expect("readable");
    scene.hub.operator().set("b", "short");
    wait::content(&scene.raw(), b"short");
    let mut bytes = vec![0; scene.last().len()];
    slow.read_exact_at(&mut bytes, 0)
        .expect("its reader still has it");
    assert_eq!(
        bytes,
        scene.last().as_bytes(),
        "a reader finishes on the old one"
    );
    // Moving the second descriptor away leaves one reader; then none.
    drop(slow);
    std::io::Seek::rewind(&mut watcher).expect("open");
    drop(watcher);
    for dir in [dir, scene.agent.consumer(URL, "side")] {
        wait::until(&dir, "the old one is wiped", || {
            TestAgent::superseded(&dir).is_empty()
        });
    }
    // On its way out it lies there.
    wait::empty(&scene.agent.runtime_dir().join("trash"));
    let scan = Scanner::new(&[&scene.canaries[1], &scene.canaries[2], &scene.canaries[3]])
        .files(scene.agent.runtime_dir());
    scan.assert_clean("the runtime directory after rotation");
}

fn no_file_holds_a_value_after_undeploy() {
    let mut scene = Scene::deployed();
    let scanner = scene.scanner();
    let found = scanner.files(scene.agent.runtime_dir());
    assert!(!found.hits.is_empty(), "the scanner sees what is there");
    scene.undeploy();
    scanner
        .files(scene.agent.runtime_dir())
        .assert_clean("the runtime directory");
    // State directory, sealed cache, configuration and the log at trace level.
    scanner
        .files(scene.agent.place())
        .assert_clean("the agent's place");
    // Database, write-ahead log, keys, and the log at trace level.
    scanner
        .files(scene.hub.place())
        .assert_clean("the hub's place");
    assert!(scene.hub.stop().success());
    scanner
        .files(scene.hub.place())
        .assert_clean("the hub's place after its end");
}

fn the_scanner_finds_a_value_in_another_process() {
    let canary = Canary::new();
    let mut shell = std::process::Command::new("sh")
        .args(["-c", "read value; echo ready; read more"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut stdin = shell.stdin.take().expect("piped");
    let line = canary.value().replace('\n', " ");
    std::io::Write::write_all(&mut stdin, format!("{line}\n").as_bytes()).expect("written");
    let mut ready = [0; 5];
    let mut stdout = shell.stdout.take().expect("piped");
    std::io::Read::read_exact(&mut stdout, &mut ready).expect("read");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(shell.id()).expect("a process id"));
    let scan = Scanner::new(&[&canary]).memory(pid);
    drop(stdin);
    shell.wait().expect("its end");
    assert!(
        !scan.hits.is_empty(),
        "{} bytes and nothing found",
        scan.bytes
    );
}

fn the_agents_memory_holds_no_value_after_undeploy() {
    let scene = Scene::deployed();
    scene.hub.await_rollout("canary", 1);
    let scanner = scene.scanner();
    // What is delivered lies on tmpfs, and the agent does not keep it.
    scanner
        .memory(scene.agent.pid())
        .assert_clean("the agent's memory while deployed");
    scene.undeploy();
    scanner
        .memory(scene.agent.pid())
        .assert_clean("the agent's memory after undeploy");
}

/// It has it for as long as it is set, revealed or sealed, and wipes it.
fn the_hubs_memory_holds_no_value_that_it_is_not_asked_for() {
    let scene = Scene::deployed();
    scene.hub.await_rollout("canary", 1);
    scene
        .hub
        .operator()
        .ok(&["secret", "show", "a", "--reveal"], "");
    scene
        .scanner()
        .memory(scene.hub.pid())
        .assert_clean("the hub's memory");
}

/// Dies by a signal that dumps core, with room for it. Gives whether it did.
fn dumped(pid: nix::unistd::Pid, end: impl FnOnce() -> ExitStatus) -> bool {
    // One that has forbidden itself to dump cores cannot be allowed to again.
    Command::new("prlimit")
        .args(["--core=unlimited", "--pid", &pid.to_string()])
        .output()
        .expect("prlimit runs");
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGABRT).expect("an own process");
    end().core_dumped()
}

/// Whether another process, which takes no care of it, leaves one.
fn dumps_cores() -> bool {
    let room = tempfile::tempdir().expect("a place");
    let mut other = Command::new("sleep")
        .arg("60")
        .current_dir(room.path())
        .spawn()
        .expect("a process");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(other.id()).expect("a process id"));
    dumped(pid, || other.wait().expect("its end"))
}

fn no_daemon_leaves_a_core_dump() {
    let mut scene = Scene::deployed();
    let (agent, hub) = (scene.agent.pid(), scene.hub.pid());
    assert!(!dumped(agent, || scene.agent.wait()), "the agent's");
    assert!(!dumped(hub, || scene.hub.wait()), "the hub's");
}

fn no_answer_and_no_listing_shows_a_value() {
    let scene = Scene::deployed();
    let scanner = scene.scanner();
    let operator = scene.hub.operator();
    let clean = |what: &str, text: String| {
        scanner.text(text.as_bytes(), what).assert_clean(what);
    };
    for args in [
        &["secret", "list"][..],
        &["secret", "show", "b"],
        &["secret", "versions", "b"],
        &["service", "list"],
        &["policy", "show", "canary"],
        &["rollout", "canary"],
        &["explain", "edge-01"],
        &["node", "show", "edge-01"],
        &["audit"],
    ] {
        for format in ["table", "json", "yaml"] {
            let shown = operator.ok(&[args, &["-o", format]].concat(), "");
            clean(&format!("{args:?} as {format}"), shown);
        }
    }
    let metrics = scene.hub.admin().metrics();
    clean("the hub's metrics", metrics);
    for args in [
        &["status"][..],
        &["status", "-o", "json"],
        &["check"],
        &["metrics"],
        &["services"],
        &["mounts", URL, "main"],
    ] {
        let ended = run(&mut scene.agent.command(args), b"");
        clean(&format!("agent {args:?}"), ended.stdout + &ended.stderr);
    }
    // The one command that is asked for it.
    let shown = operator.ok(&["secret", "show", "a", "--reveal"], "");
    assert!(
        !scanner.text(shown.as_bytes(), "reveal").hits.is_empty(),
        "{shown}"
    );
    // Neither argv nor environment of either daemon.
    for pid in [scene.hub.pid(), scene.agent.pid()] {
        for file in ["cmdline", "environ"] {
            if let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/{file}")) {
                clean(file, text + " ");
            }
        }
    }
}
