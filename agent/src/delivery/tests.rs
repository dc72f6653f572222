//! The delivery alone, without sealing: fast rotations, and the last doors.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use edge_secrets_protocol::Generation;
use jiff::Timestamp;
use tempfile::TempDir;

use super::*;

fn open(dir: &Path) -> Delivery {
    let options = RuntimeOptions {
        dir: dir.to_owned(),
        mount: false,
        size: 1 << 20,
        grace: Duration::from_secs(30),
    };
    Delivery::open(&options).unwrap().0
}

fn consumer() -> ConsumerId {
    ConsumerId {
        service: "myorg/https://example.com/a b"
            .replace(' ', "")
            .parse()
            .unwrap(),
        consumer: "main".parse().unwrap(),
    }
}

fn header() -> Header {
    Header {
        origin: Origin {
            deployment: "d1".parse().unwrap(),
            policy: "p1".parse().unwrap(),
            service_version: "1.0.0".into(),
        },
        since: Timestamp::UNIX_EPOCH,
        shape: String::new(),
        announce: false,
        private: false,
    }
}

fn write(draft: &mut Draft, name: &str, content: &[u8]) {
    let file = name.parse().unwrap();
    let made_of = BTreeSet::from(["a".parse().unwrap()]);
    let owner = Ownership::default();
    draft
        .write(&file, made_of, content, VALUE_FILE, owner)
        .unwrap();
}

fn rotate(delivery: &mut Delivery, live: Option<&Manifest>, number: u64) -> Manifest {
    let mut draft =
        Draft::begin(delivery, &consumer(), live, header(), Generation(number)).unwrap();
    let content = number.to_string().repeat(CONTENT);
    for name in ["a", "b"] {
        write(&mut draft, name, content.as_bytes());
    }
    draft.finish().unwrap();
    let commit = delivery.commit(draft);
    assert_eq!(commit.error, None);
    commit.live.unwrap()
}

fn world() -> (TempDir, Delivery) {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let delivery = open(dir.path());
    (dir, delivery)
}

#[test]
fn fast_rotations_are_never_torn_or_missing() {
    let (_dir, mut delivery) = world();
    let mut live = rotate(&mut delivery, None, 1000);
    let home = delivery.directory(&consumer());
    let done = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            let mut reads = 0_u64;
            while !done.load(Ordering::Relaxed) {
                let text = fs::read_to_string(home.join("a")).unwrap();
                let (first, _) = text.split_at(4);
                assert_eq!(text, first.repeat(CONTENT), "torn");
                reads += 1;
            }
            reads
        }
    });
    for number in 1001..3000 {
        live = rotate(&mut delivery, Some(&live), number);
        delivery.tick(Instant::now());
    }
    done.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap() > 0);
}

#[test]
fn room_is_made_by_wiping_what_nobody_reads() {
    let (dir, mut delivery) = world();
    let first = rotate(&mut delivery, None, 1);
    rotate(&mut delivery, Some(&first), 2);
    let generations = || {
        let entries = fs::read_dir(delivery_home(dir.path())).unwrap();
        entries
            .filter(|e| {
                e.as_ref()
                    .unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .starts_with("..g")
            })
            .count()
    };
    assert_eq!(generations(), 2);
    assert!(delivery.reclaim());
    assert_eq!(generations(), 1);
    assert!(!delivery.reclaim());
}

fn delivery_home(dir: &Path) -> PathBuf {
    let [org, service, name] = consumer().components();
    dir.join("services").join(org).join(service).join(name)
}

#[test]
fn no_name_leads_out_of_a_directory() {
    let (_dir, delivery) = world();
    for name in ["", ".", "..", "../x", "a/b", "/etc/passwd"] {
        assert!(delivery.services.open_dir(name).is_err(), "{name:?}");
        assert!(delivery.services.make_dir(name, 0o755).is_err(), "{name:?}");
        assert!(
            delivery
                .services
                .write_new(name, b"", 0o400, Ownership::default())
                .is_err(),
            "{name:?}"
        );
        assert!(delivery.services.unlink(name).is_err(), "{name:?}");
    }
}

#[test]
fn a_directory_that_is_not_in_memory_takes_no_value() {
    let proc = Dir::open(Path::new("/proc")).unwrap();
    let error = proc.require_memory().unwrap_err().to_string();
    assert!(error.contains("not on tmpfs or ramfs"), "{error}");
}

#[test]
fn people_are_told_how_values_are_kept_from_swap() {
    let (dir, delivery) = world();
    let told = delivery.protection();
    assert!(
        told.contains(dir.path().to_str().unwrap()) && told.contains("tmpfs"),
        "{told}"
    );
}

#[test]
fn a_live_generation_without_a_manifest_stays_until_the_hub_is_asked() {
    let (dir, mut delivery) = world();
    rotate(&mut delivery, None, 1);
    drop(delivery);
    fs::remove_dir_all(dir.path().join("manifests")).unwrap();
    let options = RuntimeOptions {
        dir: dir.path().to_owned(),
        mount: false,
        size: 1 << 20,
        grace: Duration::from_secs(30),
    };
    let (mut delivery, former) = Delivery::open(&options).unwrap();
    assert_eq!(former.live[&consumer()].origin, None);
    assert!(fs::read(delivery_home(dir.path()).join("a")).is_ok());
    assert_eq!(delivery.undeploy(&consumer()), []);
    assert!(
        fs::read_dir(delivery_home(dir.path()))
            .unwrap()
            .next()
            .is_none()
    );
}

const CONTENT: usize = 1000;

/// Every consumer, however many, is found with few descriptors: what is not found at start is
/// neither known nor wiped. The limit is the process's, so that this runs in one of its own.
#[test]
fn many_services_are_swept_and_wiped_with_few_descriptors() {
    const INSIDE: &str = "EDGE_SECRETS_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(INSIDE).is_none() {
        let test = std::env::current_exe().unwrap();
        let name = "delivery::tests::many_services_are_swept_and_wiped_with_few_descriptors";
        let status = std::process::Command::new("sh")
            .args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"])
            .arg(test)
            .args(["--exact", name])
            .env(INSIDE, "1")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let (dir, mut delivery) = world();
    for number in 0..SERVICES {
        let consumer = ConsumerId {
            service: format!("myorg/service{number}").parse().unwrap(),
            consumer: "main".parse().unwrap(),
        };
        let mut draft = Draft::begin(&delivery, &consumer, None, header(), Generation(1)).unwrap();
        write(&mut draft, "a", b"hunter2");
        draft.finish().unwrap();
        assert_eq!(delivery.commit(draft).error, None);
    }
    drop(delivery);
    let options = RuntimeOptions {
        dir: dir.path().to_owned(),
        mount: false,
        size: 1 << 20,
        grace: Duration::ZERO,
    };
    let (mut delivery, former) = Delivery::open(&options).unwrap();
    assert_eq!(former.live.len(), SERVICES);
    assert_eq!(delivery.wipe_everything(), []);
    assert_eq!(delivery.consumers(&mut Vec::new()).len(), SERVICES);
    for number in 0..SERVICES {
        let home = format!("services/myorg/service{number}/main");
        let left = fs::read_dir(dir.path().join(home)).unwrap().count();
        assert_eq!(left, 0);
    }
}

const SERVICES: usize = 100;
