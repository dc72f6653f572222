//! Parts that are away, wrong, or there twice.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use edge_secrets_tests::binaries::binaries;
use edge_secrets_tests::hub::{read_yaml, write_yaml};
use edge_secrets_tests::operator::run;
use edge_secrets_tests::reader::Reader;
use edge_secrets_tests::{TestAgent, TestHub, is_root, wait};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde_json::json;

use crate::delivery::{URL, delivered, publish_uplink};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = crate::trials![
        a_restarted_hub_is_found_again_and_nothing_changes_meanwhile,
        an_agent_restarted_without_its_hub_leaves_everything_readable,
        an_agent_that_starts_before_its_hub_converges,
        a_hub_with_another_ca_is_refused_and_takes_nothing_away,
        a_second_hub_on_one_data_directory_is_refused,
        init_never_overwrites,
        a_second_agent_on_one_runtime_directory_is_refused,
        both_daemons_end_when_asked_and_leave_what_services_read,
        certificates_renew_themselves_while_everything_runs,
        malformed_configurations_are_refused_with_file_and_line,
        wiping_by_hand_leaves_nothing,
    ];
    trials.push(
        Trial::test("faults::a_runtime_directory_on_disk_is_refused", || {
            a_runtime_directory_on_disk_is_refused();
            Ok(())
        })
        .with_kind("needs a disk")
        .with_ignored_flag(on_tmpfs(&disk())),
    );
    trials.push(crate::as_root(
        "faults::root_mounts_a_tmpfs_of_its_own_without_swap",
        root_mounts_a_tmpfs_of_its_own_without_swap,
    ));
    trials
}

fn a_restarted_hub_is_found_again_and_nothing_changes_meanwhile() {
    let (mut hub, agent) = delivered("one");
    let dir = agent.consumer(URL, "main");
    let generation = fs::read_link(dir.join("..data")).expect("a link");
    let reader = Reader::start(&dir, &["myCloudServiceCred"], |contents| {
        let fine = contents[0] == b"one" || contents[0] == b"two";
        fine.then_some(())
            .ok_or_else(|| "neither the old nor the new value".into())
    });
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        if signal == Signal::SIGKILL {
            hub.kill()
        } else {
            assert!(hub.stop().success())
        }
        agent.await_hub("disconnected");
        assert_eq!(
            fs::read_link(dir.join("..data")).expect("a link"),
            generation
        );
        hub.serve();
        agent.await_hub("connected");
        assert_eq!(
            fs::read_link(dir.join("..data")).expect("a link"),
            generation
        );
    }
    hub.operator().set("cloudServiceXYZSecret", "two");
    wait::content(&dir.join("myCloudServiceCred"), b"two");
    assert_eq!(reader.finish().changes, 2);
    hub.await_rollout("uplink", 1);
}

fn an_agent_restarted_without_its_hub_leaves_everything_readable() {
    let (mut hub, mut agent) = delivered("one");
    let dir = agent.consumer(URL, "main");
    let generation = fs::read_link(dir.join("..data")).expect("a link");
    hub.kill();
    for stop in [false, true] {
        if stop {
            assert!(agent.stop().success())
        } else {
            agent.kill()
        }
        assert_eq!(
            fs::read(dir.join("myCloudServiceCred")).expect("readable"),
            b"one"
        );
        agent.run();
        agent.await_status("it tries", |status| status["hub"]["error"].is_string());
        assert_eq!(
            fs::read_link(dir.join("..data")).expect("a link"),
            generation
        );
    }
    hub.serve();
    hub.operator().set("cloudServiceXYZSecret", "two");
    wait::content(&dir.join("myCloudServiceCred"), b"two");
}

fn an_agent_that_starts_before_its_hub_converges() {
    let mut hub = TestHub::start();
    let mut agent = TestAgent::enrolled(&hub, "edge-01", &[("site", json!("berlin"))]);
    publish_uplink(&hub.operator(), "one");
    hub.kill();
    agent.run();
    agent.await_status("it tries", |status| status["hub"]["error"].is_string());
    hub.serve();
    wait::content(
        &agent.consumer(URL, "main").join("myCloudServiceCred"),
        b"one",
    );
}

fn a_hub_with_another_ca_is_refused_and_takes_nothing_away() {
    let (mut hub, agent) = delivered("one");
    let file = agent.consumer(URL, "main").join("myCloudServiceCred");
    hub.kill();
    // Another hub at the same address.
    let stranger = tempfile::tempdir().expect("a place");
    let data = stranger.path().join("data");
    let mut init = Command::new(&binaries().hub);
    init.arg("init")
        .arg("--data-dir")
        .arg(&data)
        .args(["--listen", &format!("127.0.0.1:{}", hub.port())]);
    assert_eq!(run(&mut init, b"").code, 0);
    let mut serve = Command::new(&binaries().hub);
    serve
        .arg("serve")
        .arg("--config")
        .arg(data.join("hub.yaml"));
    let foreign =
        edge_secrets_tests::daemon::Daemon::start(&mut serve, &stranger.path().join("log"));
    assert!(foreign.line().starts_with("listening on "));
    // The side that refuses says why.
    agent.await_status("it names the certificate", |status| {
        let error = status["hub"]["error"]
            .as_str()
            .unwrap_or_default()
            .to_lowercase();
        status["hub"]["state"] == "disconnected" && error.contains("certificate")
    });
    let log = agent.log_text().to_lowercase();
    assert!(log.contains("certificate"), "the log says why");
    assert_eq!(fs::read(&file).expect("it stays"), b"one");
    foreign.kill();
    hub.serve();
    hub.operator().set("cloudServiceXYZSecret", "two");
    wait::content(&file, b"two");
}

fn a_second_hub_on_one_data_directory_is_refused() {
    let (hub, agent) = delivered("one");
    let mut config = read_yaml(&hub.config());
    config["listen"] = "127.0.0.1:0".into();
    let second = hub.data_dir().join("second.yaml");
    write_yaml(&second, &config);
    let mut command = Command::new(&binaries().hub);
    command.arg("serve").arg("--config").arg(&second);
    let ended = run(&mut command, b"");
    assert_ne!(ended.code, 0);
    assert!(!ended.stdout.contains("listening"), "{ended:?}");
    assert!(
        ended.stderr.contains("another") || ended.stderr.contains("in use"),
        "{ended:?}"
    );
    // The first goes on.
    hub.operator().set("cloudServiceXYZSecret", "two");
    wait::content(
        &agent.consumer(URL, "main").join("myCloudServiceCred"),
        b"two",
    );
}

fn init_never_overwrites() {
    let hub = TestHub::start();
    let before = listing(&hub.data_dir());
    let ended = hub.init();
    assert_ne!(ended.code, 0);
    assert!(!ended.stderr.is_empty(), "it says why");
    for (path, content) in before {
        let kind = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        if matches!(kind, "yaml" | "pem" | "key" | "crt") {
            assert_eq!(
                fs::read(&path).expect("still there"),
                content,
                "{}",
                path.display()
            );
        }
    }
    assert!(
        hub.operator().json(&["node", "list"]).is_array(),
        "the context still works"
    );
}

fn a_second_agent_on_one_runtime_directory_is_refused() {
    let (hub, agent) = delivered("one");
    let mut second = TestAgent::enrolled(&hub, "edge-02", &[]);
    let runtime = agent
        .runtime_dir()
        .to_str()
        .expect("a plain path")
        .to_owned();
    second.reconfigure(|config| config["runtime_dir"] = runtime.clone().into());
    second.run();
    assert!(!second.wait().success());
    assert!(
        second.log_text().contains(&runtime),
        "it names the directory: {}",
        second.log_text()
    );
    let file = agent.consumer(URL, "main").join("myCloudServiceCred");
    assert_eq!(fs::read(&file).expect("it stays"), b"one");
    hub.operator().set("cloudServiceXYZSecret", "two");
    wait::content(&file, b"two");
}

fn a_runtime_directory_on_disk_is_refused() {
    let (hub, mut agent) = delivered("one");
    assert!(agent.stop().success());
    let place = tempfile::tempdir_in(disk()).expect("a place on disk");
    let runtime = place.path().join("run");
    fs::create_dir(&runtime).expect("a directory");
    // Root would make it a tmpfs, were it allowed to.
    agent.reconfigure(|config| {
        config["runtime_dir"] = runtime.to_str().expect("a plain path").into();
    });
    agent.run();
    assert!(!agent.wait().success());
    let log = agent.log_text();
    assert!(
        log.contains("tmpfs") && log.contains(&*runtime.to_string_lossy()),
        "{log}"
    );
    assert!(!runtime.join("services").exists(), "nothing was written");
    drop(hub);
}

fn both_daemons_end_when_asked_and_leave_what_services_read() {
    let (mut hub, mut agent) = delivered("one");
    let file = agent.consumer(URL, "main").join("myCloudServiceCred");
    // While the agent's watch is open.
    assert_eq!(hub.stop().code(), Some(0));
    assert_eq!(agent.stop().code(), Some(0));
    assert_eq!(fs::read(&file).expect("it stays"), b"one");
    for log in [hub.log_text(), agent.log_text()] {
        assert!(!log.contains("panicked"), "{log}");
    }
}

fn certificates_renew_themselves_while_everything_runs() {
    let hub = TestHub::configured(|config| config["node_certificates"]["lifetime"] = "60s".into());
    let start = Instant::now();
    let mut agent = TestAgent::start(&hub, "edge-01", &[("site", json!("berlin"))]);
    publish_uplink(&hub.operator(), "one");
    let file = agent.consumer(URL, "main").join("myCloudServiceCred");
    wait::content(&file, b"one");
    // It reports what it has also kept.
    hub.await_rollout("uplink", 1);
    let end = |status: &serde_json::Value| {
        let end = status["hub"]["certificate_not_after"]
            .as_str()
            .map(str::parse::<jiff::Timestamp>);
        end.expect("an end").expect("a time")
    };
    let first = end(&agent.status().expect("a status"));
    let fetches = || {
        let asked = [("actor", "node/edge-01"), ("action", "secret.fetch")];
        hub.operator().audit(&asked).len()
    };
    let fetched = fetches();
    let kept = |agent: &TestAgent| {
        let cache = agent.state_dir().join("cache");
        let files = fs::read_dir(cache).expect("a cache");
        let mut paths = files.map(|entry| entry.expect("an entry").path());
        let value = paths.find(|path| path.extension().is_some_and(|e| e == "sealed"));
        fs::read(value.expect("a kept value")).expect("readable")
    };
    let sealing_key = |agent: &TestAgent| {
        let key = agent.state_dir().join("identity/sealing.key");
        fs::read(key).expect("a key")
    };
    let resealed = |agent: &TestAgent| agent.times_logged("Kept values are sealed to the new key.");
    let former = (sealing_key(&agent), kept(&agent));
    let before = resealed(&agent);
    agent.await_status("the certificate is a newer one", |status| {
        end(status) > first
    });
    // The sealing key is another one, what is kept is sealed to it, and the one before is gone.
    wait::until(&agent.log(), "what is kept is sealed anew", || {
        resealed(&agent) > before
    });
    assert!(sealing_key(&agent) != former.0 && kept(&agent) != former.1);
    let first_set = agent.state_dir().join("identity-1");
    wait::until(&first_set, "the former keys are gone", || {
        !first_set.exists()
    });
    assert_eq!(fetches(), fetched, "nothing is fetched again");
    hub.operator().set("cloudServiceXYZSecret", "two");
    wait::content(&file, b"two");
    // The new one is what the next start uses.
    agent.kill();
    agent.run();
    agent.await_hub("connected");
    assert!(end(&agent.status().expect("a status")) > first);
    let renewals = [("actor", "node/edge-01"), ("action", "node.renew")];
    let renewed = hub.operator().audit(&renewals).len() as u64;
    // Once in a half of a life at most, however long all this took.
    let most = start.elapsed().as_secs() / 30 + 1;
    assert!((1..=most).contains(&renewed), "{renewed} renewals");
}

fn malformed_configurations_are_refused_with_file_and_line() {
    let hub = TestHub::start();
    let agent = TestAgent::enrolled(&hub, "edge-01", &[]);
    let good = read_yaml(&agent.config());
    write_yaml(&agent.config(), &good);
    let good = fs::read_to_string(agent.config()).expect("readable");
    let lines = good.lines().count();
    for (bad, line) in [
        (format!("{good}\nof_tomorrow: 1\n"), lines + 2),
        (format!("{good}\n  - [\n"), lines + 2),
        (good.replace("trace", "loudly"), 0),
        (good.replace("https://", "http://"), 0),
        (String::new(), 0),
        ("\0\u{1}".into(), 0),
    ] {
        fs::write(agent.config(), &bad).expect("written");
        for args in [&["check"][..], &["run"]] {
            let ended = agent.ended(args);
            // `check` tells on standard output: that is what it was asked for.
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert_eq!(ended.code, 64, "{args:?} with {bad:?}: {ended:?}");
            assert!(said.contains("agent.yaml"), "it names the file: {ended:?}");
            if line > 0 {
                let near = (line - 2..=line + 1).any(|l| said.contains(&format!("yaml:{l}")));
                assert!(near, "it names line {line}: {ended:?}");
            }
        }
    }
    let good = fs::read_to_string(hub.config()).expect("readable");
    for bad in [
        format!("{good}\nof_tomorrow: 1\n"),
        good.replace("127.0.0.1:", "nowhere:"),
    ] {
        let file = hub.data_dir().join("bad.yaml");
        fs::write(&file, &bad).expect("written");
        let mut command = Command::new(&binaries().hub);
        let ended = run(command.arg("serve").arg("--config").arg(&file), b"");
        assert_eq!(ended.code, 64, "{bad}: {ended:?}");
        assert!(
            ended.stderr.contains("bad.yaml:"),
            "file and line: {ended:?}"
        );
    }
}

fn wiping_by_hand_leaves_nothing() {
    let (_hub, mut agent) = delivered("one");
    let file = agent.consumer(URL, "main").join("myCloudServiceCred");
    let mut open = fs::File::open(&file).expect("readable");
    assert!(agent.stop().success());
    let ended = agent.ended(&["wipe"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!file.exists());
    let mut left = Vec::new();
    std::io::Read::read_to_end(&mut open, &mut left).expect("still open");
    assert!(left.iter().all(|byte| *byte == 0), "{left:?}");
}

/// In a mount namespace of its own, so that nothing is left on this machine.
fn root_mounts_a_tmpfs_of_its_own_without_swap() {
    assert!(is_root());
    let hub = TestHub::start();
    let mut agent = TestAgent::enrolled(&hub, "edge-01", &[("site", json!("berlin"))]);
    let place = tempfile::tempdir_in(disk()).expect("a place on disk");
    let runtime = place.path().join("run");
    fs::create_dir(&runtime).expect("a directory");
    let path = runtime.to_str().expect("a plain path").to_owned();
    agent.reconfigure(|config| {
        config["runtime_dir"] = path.clone().into();
        config["tmpfs"]["mount"] = "auto".into();
    });
    publish_uplink(&hub.operator(), "one");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "--"])
        .arg(&binaries().agent)
        .arg("--config")
        .arg(agent.config())
        .arg("run");
    agent.run_as(&mut command);
    hub.await_rollout("uplink", 1);
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", agent.pid())).expect("its mounts");
    let mount = mounts
        .lines()
        .find(|line| line.split(' ').nth(1) == Some(&path));
    let mount = mount.unwrap_or_else(|| panic!("no mount at {path}:\n{mounts}"));
    for option in ["tmpfs", "noswap", "nosuid", "nodev", "noexec", "size="] {
        assert!(mount.contains(option), "{option} is missing: {mount}");
    }
    let inside = PathBuf::from(format!("/proc/{}/root{path}", agent.pid()));
    let file = inside
        .join("services/myorg")
        .join(URL)
        .join("main/myCloudServiceCred");
    assert_eq!(fs::read(&file).expect("readable inside"), b"one");
    assert_eq!(
        fs::read_dir(&runtime).expect("readable").count(),
        0,
        "the disk below is empty"
    );
}

fn listing(dir: &std::path::Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dir).expect("readable").filter_map(Result::ok);
    let files = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file());
    files
        .map(|path| (path.clone(), fs::read(path).expect("readable")))
        .collect()
}

/// A place that is most likely no tmpfs.
fn disk() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

fn on_tmpfs(path: &std::path::Path) -> bool {
    fs::create_dir_all(path).ok();
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == TMPFS_MAGIC)
}
