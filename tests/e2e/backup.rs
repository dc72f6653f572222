//! Backups of a hub, what is restored from them, and the exchange of its master key.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use edge_secrets_tests::binaries::binaries;
use edge_secrets_tests::operator::{Ended, run};
use edge_secrets_tests::reader::Reader;
use edge_secrets_tests::{TestAgent, TestHub, wait};
use libtest_mimic::Trial;

use crate::delivery::{URL, delivered};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        a_hub_that_lost_its_disk_goes_on_from_its_backup,
        a_backup_goes_through_a_pipe_and_shows_nothing,
        a_node_that_has_followed_a_restored_hub_never_goes_back_to_the_one_before,
        a_master_key_is_exchanged_between_two_lives_of_a_hub,
        an_exchange_of_the_master_key_that_is_killed_at_any_moment_loses_nothing,
    ]
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(&binaries().hub);
    command.args(arguments);
    command
}

fn ended(arguments: &[&str], stdin: &[u8]) -> Ended {
    run(&mut command(arguments), stdin)
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("a plain path")
}

/// A file that only its owner reads.
fn passphrase(hub: &TestHub) -> PathBuf {
    let path = hub.place().join("passphrase");
    fs::write(&path, "correct horse battery staple\n").expect("a writable place");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("an own file");
    path
}

/// `backup` with a passphrase.
fn backed_up(hub: &TestHub, out: &Path, passphrase: &Path) -> Ended {
    let config = hub.config();
    let backup = [
        "backup",
        "--config",
        text(&config),
        "--out",
        text(out),
        "--passphrase-file",
        text(passphrase),
    ];
    ended(&backup, b"")
}

fn a_hub_that_lost_its_disk_goes_on_from_its_backup() {
    let (mut hub, agent) = delivered("one");
    let file = agent.consumer(URL, "main").join("myCloudServiceCred");
    let (words, out) = (passphrase(&hub), hub.place().join("hub.backup"));
    // While it serves.
    let made = backed_up(&hub, &out, &words);
    assert_eq!(made.code, 0, "{made:?}");
    let again = backed_up(&hub, &out, &words);
    assert_eq!(again.code, 64, "{again:?}");
    assert!(again.stderr.contains("overwrites nothing"), "{again:?}");

    // What comes afterwards is lost with the disk: also a token that nobody has used.
    hub.operator().set("cloudServiceXYZSecret", "two");
    wait::content(&file, b"two");
    hub.kill();
    let lost = hub.place().join("lost");
    fs::rename(hub.data_dir(), &lost).expect("the same disk");
    agent.await_hub("disconnected");
    let data = hub.data_dir();
    let restore = [
        "restore",
        "--from",
        text(&out),
        "--data-dir",
        text(&data),
        "--passphrase-file",
        text(&words),
    ];
    let restored = ended(&restore, b"");
    assert_eq!(restored.code, 0, "{restored:?}");
    assert!(
        restored.stdout.contains("1 nodes, 1 secrets"),
        "{restored:?}"
    );
    assert_eq!(
        ended(&restore, b"").code,
        64,
        "the directory is not empty any more"
    );
    assert_eq!(
        fs::read(&file).expect("the value"),
        b"two",
        "nothing is taken away meanwhile"
    );

    hub.serve();
    agent.await_hub("connected");
    // The hub's word counts, and it is the one of the backup.
    wait::content(&file, b"one");
    hub.await_rollout("uplink", 1);
    // The version that comes next is not one that the node has had.
    hub.operator().set("cloudServiceXYZSecret", "three");
    wait::content(&file, b"three");
    hub.await_rollout("uplink", 1);
    let shown = hub.operator().ok(&["audit"], "");
    assert!(shown.contains("hub.restore"), "{shown}");
}

/// The hub of before goes on beside the restored one, against all advice. Whichever speaks first or last, what
/// the restored one has superseded does not come back.
fn a_node_that_has_followed_a_restored_hub_never_goes_back_to_the_one_before() {
    let (before, mut agent) = delivered("value-1");
    let file = agent.consumer(URL, "main").join("myCloudServiceCred");
    let (words, out) = (passphrase(&before), before.place().join("hub.backup"));
    let made = backed_up(&before, &out, &words);
    assert_eq!(made.code, 0, "{made:?}");
    before.operator().set("cloudServiceXYZSecret", "value-2");
    wait::content(&file, b"value-2");

    // What the operator has restored counts, old as it is.
    let after = TestHub::restored(&out, &words);
    let ask = |agent: &TestAgent, hub: &TestHub| {
        agent.reconfigure(|config| config["hub"]["url"] = hub.url().into());
    };
    ask(&agent, &after);
    wait::content(&file, b"value-1");
    after.operator().set("cloudServiceXYZSecret", "value-3");
    wait::content(&file, b"value-3");
    after.await_rollout("uplink", 1);

    // From here on there is one value, until the restored hub says otherwise.
    let reader = Reader::start(
        &agent.consumer(URL, "main"),
        &["myCloudServiceCred"],
        |contents| match contents[0].as_slice() {
            b"value-3" | b"value-5" => Ok(()),
            other => Err(String::from_utf8_lossy(other).into_owned()),
        },
    );
    let refused = |agent: &TestAgent| {
        agent.await_status("the older state is refused", |status| {
            let error = status["hub"]["error"].as_str();
            error.is_some_and(|error| error.contains("older than what this node has followed"))
        });
    };
    ask(&agent, &before);
    refused(&agent);
    before.operator().set("cloudServiceXYZSecret", "value-4");
    // In another life of the agent too.
    agent.kill();
    agent.run();
    refused(&agent);
    let behind = before.operator().json(&["node", "list", "--behind"]);
    assert_eq!(behind[0]["node"], "edge-01", "{behind}");

    ask(&agent, &after);
    after.operator().set("cloudServiceXYZSecret", "value-5");
    wait::content(&file, b"value-5");
    after.await_rollout("uplink", 1);
    reader.finish();
}

fn a_backup_goes_through_a_pipe_and_shows_nothing() {
    const CANARY: &str = "canary-Zq8v-backup";
    let hub = TestHub::start();
    hub.operator().set("db", CANARY);
    let key = hub.place().join("recovery.key");
    let made = ended(&["backup-key", "--out", text(&key)], b"");
    assert_eq!(made.code, 0, "{made:?}");
    let (public, config) = (hub.place().join("recovery.key.pub"), hub.config());
    let mut backup = command(&[
        "backup",
        "--config",
        text(&config),
        "--out",
        "-",
        "--recipient",
        text(&public),
    ]);
    let output = backup.output().expect("the command runs");
    assert!(output.status.success(), "{output:?}");
    let check = ended(
        &["restore", "--from", "-", "--check", "--key", text(&key)],
        &output.stdout,
    );
    assert_eq!(check.code, 0, "{check:?}");
    assert!(check.stdout.starts_with("Whole, made at "), "{check:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    let master = fs::read(hub.data_dir().join("master.key")).expect("the key");
    let has = |part: &[u8]| output.stdout.windows(part.len()).any(|at| at == part);
    assert!(!has(CANARY.as_bytes()) && !has(&master) && !said.contains(CANARY));
    let cut = &output.stdout[..output.stdout.len() / 2];
    let cut = ended(
        &["restore", "--from", "-", "--check", "--key", text(&key)],
        cut,
    );
    assert_eq!(cut.code, 1, "{cut:?}");
    assert!(cut.stderr.contains("damaged or cut short"), "{cut:?}");
    // Neither lock, or both: a usage error that says which there are.
    let neither = ended(&["backup", "--config", text(&config), "--out", "x"], b"");
    assert_eq!(neither.code, 64, "{neither:?}");
    assert!(neither.stderr.contains("--recipient"), "{neither:?}");
}

fn a_master_key_is_exchanged_between_two_lives_of_a_hub() {
    let (mut hub, agent) = delivered("one");
    let file = agent.consumer(URL, "main").join("myCloudServiceCred");
    let config = hub.config();
    let rotate = ["rotate-master-key", "--config", text(&config)];
    let refused = ended(&rotate, b"");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("is serving"), "{refused:?}");
    let key = hub.data_dir().join("master.key");
    let before = fs::read(&key).expect("the key");
    assert!(hub.stop().success());
    let rotated = ended(&rotate, b"");
    assert_eq!(rotated.code, 0, "{rotated:?}");
    assert!(rotated.stdout.contains("1 keys"), "{rotated:?}");
    assert_ne!(fs::read(&key).expect("the key"), before);
    hub.serve();
    assert_eq!(reveal(&hub), "one");
    agent.await_hub("connected");
    hub.operator().set("cloudServiceXYZSecret", "two");
    wait::content(&file, b"two");

    // The old key is no key of this database, and says so before anything is served.
    assert!(hub.stop().success());
    let right = fs::read(&key).expect("the key");
    fs::write(&key, before).expect("a writable place");
    let refused = run(&mut hub.command(), b"");
    assert_eq!(refused.code, 64, "{refused:?}");
    assert!(
        refused.stderr.contains("master.key does not open"),
        "{refused:?}"
    );
    fs::write(&key, right).expect("a writable place");
    hub.serve();
}

fn an_exchange_of_the_master_key_that_is_killed_at_any_moment_loses_nothing() {
    let mut hub = TestHub::start();
    let operator = hub.operator();
    operator.set("cloudServiceXYZSecret", "one");
    for number in 0..40 {
        operator.set(&format!("other/{number}"), "x");
    }
    let config = hub.config();
    let mut killed = 0;
    for moment in 0..12 {
        assert!(hub.stop().success());
        let mut rotation = command(&["rotate-master-key", "--config", text(&config)])
            .stdout(Stdio::null())
            .spawn()
            .expect("the command runs");
        // No event marks the moments: this walks over the whole of it, whatever the machine.
        std::thread::sleep(Duration::from_millis(moment * 4));
        rotation.kill().expect("an own process");
        killed += u32::from(!rotation.wait().expect("its end").success());
        hub.serve();
        assert_eq!(reveal(&hub), "one", "killed after {} ms", moment * 4);
        assert!(!hub.data_dir().join("master.key.next").exists());
    }
    assert!(killed > 0, "none was under way");
}

fn reveal(hub: &TestHub) -> String {
    let shown = ["secret", "show", "cloudServiceXYZSecret", "--reveal"];
    let ended = hub.operator().run(&shown, "");
    if ended.code == 0 {
        return ended.stdout.trim_end().to_owned();
    }
    panic!("{ended:?}");
}
