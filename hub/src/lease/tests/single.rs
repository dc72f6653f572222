//! Secrets of which there is one credential at a time, and credentials of machines and managers that
//! are not what they seem.

use super::*;

#[tokio::test]
async fn a_secret_for_one_node_is_given_to_one_node() {
    let scene = Scene::new(Effect::MintsAndInvalidates).await;
    let (_n, _m) = (scene.connect("n"), scene.connect("m"));
    scene.live("n").await;
    scene.place("m", true).await;
    let leases = scene.until(|leases| leases.len() == 2).await;
    assert_eq!(leases[1].state, LeaseState::Refused);
    assert_eq!(scene.state("m").await, SecretState::Denied);
    assert_eq!(scene.mint.made(), 1);
    // The next in the line gets it once it is free.
    scene.place("n", false).await;
    scene.live("m").await;
    assert_eq!(scene.mint.alive(), ["c2"]);
}

#[tokio::test]
async fn the_one_credential_stays_with_its_node_when_it_is_made_anew() {
    let scene = Scene::new(Effect::MintsAndInvalidates).await;
    let (_n, _m) = (scene.connect("n"), scene.connect("m"));
    let first = scene.live("n").await;
    scene.place("m", true).await;
    scene.until(|leases| leases.len() == 2).await;
    assert!(scene.leases.revoke(&scene.world.org, first.id).await);
    scene
        .until(|leases| leases[0].state == LeaseState::Ended)
        .await;
    let second = scene.live("n").await;
    let leases = scene.until(|leases| leases.len() == 3).await;
    assert_eq!(leases[1].state, LeaseState::Refused, "{leases:#?}");
    assert_eq!((scene.mint.made(), second.current), (2, true));
    assert_eq!(scene.mint.alive(), ["c2"]);
}

#[tokio::test]
async fn one_credential_is_one_whatever_it_is_called_and_whoever_asks() {
    let scene = Scene::new(Effect::MintsAndInvalidates).await;
    let other = "v:id/7";
    scene
        .observe(SECRET, Effect::MintsAndInvalidates, Some("7"))
        .await;
    let (_n, _m) = (scene.connect("n"), scene.connect("m"));
    // Made before anybody knew its name there: from the next one on it is known by that.
    let unnamed = scene.live("n").await;
    assert!(scene.leases.revoke(&scene.world.org, unnamed.id).await);
    scene
        .until(|leases| leases[0].state == LeaseState::Ended)
        .await;
    let first = scene.live("n").await;
    assert_eq!(first.identity.as_deref(), Some("7"));
    let binding = format!("a={other}");
    scene.world.place("m", vec![placed("d", &[&binding])]).await;
    scene
        .observe(other, Effect::MintsAndInvalidates, Some("7"))
        .await;
    let of_m = |leases: &[LeaseRecord]| {
        let found = leases.iter().find(|lease| lease.place.node == node_id("m"));
        found.map(|lease| lease.state)
    };
    scene
        .until(|leases| of_m(leases) == Some(LeaseState::Refused))
        .await;
    assert_eq!(scene.mint.alive(), ["c2"]);
    // Free by one name is free by the other.
    scene.place("n", false).await;
    scene.live("m").await;
    assert_eq!(scene.mint.alive(), ["c3"]);
}

#[tokio::test]
async fn the_same_credential_again_is_no_new_version_and_does_not_die() {
    let mut scene = Scene::new(Effect::MintsAndInvalidates).await;
    *scene.mint.term.lock().unwrap() = Term {
        duration: Duration::from_secs(3600),
        renewable: false,
    };
    *scene.mint.reused.lock().unwrap() = true;
    let _n = scene.connect("n");
    let first = scene.live("n").await;
    let generation = scene.world.generation("n").await;
    // Near its end, and after the hub lost its value: both times the manager gives the same one.
    scene.age(&first, Duration::from_secs(3000)).await;
    scene.restart();
    let _n = scene.connect("n");
    scene
        .until(|leases| {
            let renewed =
                |lease: &LeaseRecord| lease.id == first.id && lease.ends_at > first.ends_at;
            leases.iter().any(renewed)
        })
        .await;
    let leases = scene
        .until(|leases| leases.iter().filter(|l| l.current).count() == 1)
        .await;
    let current = leases.iter().find(|lease| lease.current).unwrap();
    assert_eq!((current.id, current.state), (first.id, LeaseState::Live));
    assert!(scene.leases.values().get(first.id).is_some());
    assert_eq!(scene.mint.alive(), ["c1"]);
    // The end is another one: that is all that the node hears.
    assert!(scene.world.generation("n").await >= generation);
    let SecretState::Ready { version } = scene.state("n").await else {
        panic!("not ready")
    };
    assert_eq!(version, first.id.version());
}

#[tokio::test]
async fn a_machine_that_takes_over_a_name_gets_nothing_of_the_one_before() {
    let mut scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    let first = scene.live("n").await;
    // Revoked, enrolled anew and deployed to again before the hub looks.
    scene.keeper.abort();
    let revoke = Change::RevokeNode(node_id("n"));
    scene.world.commit(revoke, vec![]).await.unwrap();
    scene.world.token("n", 77, at(1_000)).await;
    let again = enrolment("n", 77, "serial-of-another", at(20));
    scene.world.commit(again, vec![]).await.unwrap();
    scene.place("n", true).await;
    scene.restart();
    let _n = scene.connect("n");
    scene
        .until(|leases| leases[0].state == LeaseState::Ended)
        .await;
    let second = scene.live("n").await;
    assert_ne!(second.id, first.id);
    assert_eq!(scene.mint.alive(), ["c2"]);
}

#[tokio::test]
async fn credentials_that_live_for_moments_are_not_made_without_end() {
    let scene = Scene::new(Effect::Mints).await;
    *scene.mint.term.lock().unwrap() = Term {
        duration: Duration::from_millis(1),
        renewable: false,
    };
    let _n = scene.connect("n");
    let leases = scene
        .until(|leases| {
            let limited = |lease: &LeaseRecord| {
                let trouble = lease.trouble.as_ref();
                trouble.is_some_and(|trouble| trouble.fault == Fault::RateLimited)
            };
            leases.iter().any(limited)
        })
        .await;
    // Another one each half minute, should this take as long.
    assert!((5..8).contains(&scene.mint.made()), "{}", scene.mint.made());
    let waiting = leases.iter().find(|lease| lease.current).unwrap();
    let detail = &waiting.trouble.as_ref().unwrap().detail;
    assert!(detail.contains("live longer"), "{detail}");
}

#[tokio::test]
async fn very_many_nodes_wait_for_their_turn_without_a_failure() {
    let scene = Scene::new(Effect::Mints).await;
    let nodes: Vec<_> = (0..60).map(|number| format!("n-{number}")).collect();
    let mut watchers = Vec::new();
    for node in &nodes {
        scene.world.enrol(node).await;
        watchers.push(scene.connect(node));
    }
    *scene.mint.takes.lock().unwrap() = Duration::from_millis(500);
    for node in &nodes {
        scene.place(node, true).await;
    }
    let leases = scene
        .until(|leases| {
            let live = leases
                .iter()
                .filter(|lease| lease.state == LeaseState::Live);
            live.count() == nodes.len()
        })
        .await;
    assert!(
        leases.iter().all(|lease| lease.trouble.is_none()),
        "{leases:#?}"
    );
    let most = scene.mint.at_once.load(Ordering::SeqCst);
    assert!((2..=8).contains(&most), "{most} at once");
}

#[tokio::test]
async fn what_is_kept_from_a_manager_in_trouble_is_no_try() {
    let scene = Scene::new(Effect::Mints).await;
    let nodes: Vec<_> = (0..30).map(|number| format!("n-{number}")).collect();
    scene.mint.suffer(Some(Fault::Unreachable));
    let mut watchers = Vec::new();
    for node in &nodes {
        scene.world.enrol(node).await;
        watchers.push(scene.connect(node));
        scene.place(node, true).await;
    }
    let of_them = |lease: &&LeaseRecord| lease.place.node.as_str().starts_with("n-");
    let leases = scene
        .until(|leases| {
            let said = leases.iter().filter(of_them).filter(|lease| {
                lease.state == LeaseState::Wanted
                    && lease.trouble.as_ref().map(|trouble| trouble.fault)
                        == Some(Fault::Unreachable)
            });
            said.count() == nodes.len()
        })
        .await;
    // Each says why; those that nobody was asked for count no try.
    let tries: u32 = leases.iter().map(|lease| lease.attempts).sum();
    let asked = scene.mint.asked.load(Ordering::SeqCst);
    assert!(
        tries as usize <= asked,
        "{tries} tries, asked {asked} times"
    );
    assert!(asked < nodes.len(), "asked {asked} times");
    scene.mint.suffer(None);
    scene
        .until(|leases| {
            let live = leases
                .iter()
                .filter(of_them)
                .filter(|lease| lease.state == LeaseState::Live && lease.trouble.is_none());
            live.count() == nodes.len()
        })
        .await;
}
