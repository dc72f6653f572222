use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::*;
use crate::consumers::lifecycle::Presence;
use crate::reconcile::RuntimeOptions;

const TIED: &str = "service: myorg/svc\nlifecycle: { unit: svc.service, linger: 1ms }\n";

/// What a node's administrator says, and nobody to ask how units stand: tests say so themselves.
fn host(dir: &Path) -> Host {
    let services = dir.join("services.d");
    fs::create_dir(&services).unwrap();
    fs::write(services.join("svc.yaml"), TIED).unwrap();
    let path = dir.join("agent.yaml");
    let at = dir.display();
    let text = format!(
        "hub: {{ url: \"https://hub:8443\" }}\nstate_dir: {at}/state\nruntime_dir: {at}/run\n\
         services_dir: {at}/services.d\n"
    );
    fs::write(&path, text).unwrap();
    let config = Config::load(&path).unwrap();
    let mut host = Host::new(&config, Arc::default());
    assert_eq!(host.problems(), []);
    (host.units, host.containers) = (None, None);
    host
}

fn reconciler(dir: &Path) -> Reconciler {
    fs::create_dir(dir.join("run")).unwrap();
    let options = RuntimeOptions {
        dir: dir.join("run"),
        mount: false,
        size: 1 << 20,
        grace: Duration::ZERO,
    };
    Reconciler::open(&options).unwrap()
}

fn see(host: &mut Host, reconciler: &mut Reconciler, presence: Presence) {
    let seen = Observed {
        workload: Workload::Unit("svc.service".parse().unwrap()),
        presence,
        reason: None,
    };
    assert!(host.take(News::Observed(seen), reconciler));
    host.apply_lives(reconciler);
}

#[tokio::test]
async fn a_linger_that_ends_while_the_agent_is_busy_is_told_all_the_same() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut host = host(dir.path());
    let mut reconciler = reconciler(dir.path());
    see(&mut host, &mut reconciler, Presence::Present);
    see(&mut host, &mut reconciler, Presence::Absent);
    // Busy: nobody waits for the host meanwhile.
    thread::sleep(Duration::from_millis(5));
    let news = host.next().await;
    assert!(matches!(news, News::Time), "{news:?}");
    host.take(news, &mut reconciler);
    assert!(host.apply_lives(&mut reconciler), "it has stopped");
}
