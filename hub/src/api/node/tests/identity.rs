//! Enrolment, renewal, and who may call at all.

use super::*;
use crate::api::failures::MOST;

async fn refused(world: &World, token: String) -> Problem {
    let request = enrolment(token, &SealingKey::generate(), "berlin");
    let answer = world
        .send(&anonymous(), "POST", routes::ENROLL, &request)
        .await;
    answer.problem()
}

#[tokio::test]
async fn a_token_is_good_for_one_enrolment() {
    let world = World::new().await;
    let token = world.token("edge-01", 60).await;
    let sealing = SealingKey::generate();
    let request = enrolment(token.clone(), &sealing, "berlin");
    let answer = world
        .send(&anonymous(), "POST", routes::ENROLL, &request)
        .await;
    let identity: Identity = answer.ok().json();
    assert_eq!(
        (identity.org.as_str(), identity.node.as_str()),
        ("myorg", "edge-01")
    );
    assert_eq!(identity.trust_bundle, world.hub.pki.trust_bundle_pem());
    let node = world.node(identity, sealing);
    world.get(&node.connected, routes::BINDINGS).await.ok();

    assert_eq!(refused(&world, token).await.code, Code::Denied);
    let trail = world.trail("node.enrol").await;
    assert!(
        trail[0].starts_with("- node/edge-01 ok certificate "),
        "{trail:?}"
    );
    assert!(trail[1].starts_with("- node/edge-01 denied "), "{trail:?}");
    assert_eq!(trail.len(), 2);
}

#[tokio::test]
async fn every_bad_token_gets_one_answer_and_the_trail_has_the_reason() {
    let world = World::new().await;
    let good = world.token("edge-01", 60).await;
    let expired = world.token("edge-02", -1).await;
    let fingerprint = world.hub.pki.ca_fingerprint();
    let text = |org: &str, node: &str, fingerprint| {
        let (org, node) = (org.parse().unwrap(), node.parse().unwrap());
        Token::generate(org, node, fingerprint)
            .unwrap()
            .expose()
            .to_string()
    };
    // A good secret, under another node's name.
    let swapped = good.replace("edge-01", "edge-03");
    let answers = [
        refused(&world, "es1.nonsense".into()).await,
        refused(&world, text("myorg", "edge-01", fingerprint)).await,
        refused(&world, text("nowhere", "edge-01", fingerprint)).await,
        refused(&world, text("myorg", "edge-01", [7; 32])).await,
        refused(&world, expired).await,
        refused(&world, swapped).await,
    ];
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
        assert_eq!(answer.code, Code::Denied);
    }
    let trail = world.trail("node.enrol").await;
    assert_eq!(trail.len(), 4, "{trail:?}");
    assert!(
        trail.iter().all(|line| line.contains(" denied ")),
        "{trail:?}"
    );
    assert!(
        trail.iter().any(|line| line.contains("of another hub")),
        "{trail:?}"
    );
    assert!(world.hub.catalog.nodes(&org()).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_address_that_guesses_tokens_is_slowed_down() {
    let world = World::new().await;
    let router = crate::api::router(Arc::clone(&world.hub));
    let mut codes = Vec::new();
    for _ in 0..MOST + 2 {
        let body = enrolment("es1.x".into(), &SealingKey::generate(), "berlin");
        let mut request = Request::post(routes::ENROLL)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(serde_json::to_vec(&body).unwrap()))
            .unwrap();
        request.extensions_mut().insert(anonymous());
        let response = router.clone().oneshot(request).await.unwrap();
        codes.push(Answer::read(response).await.problem().code);
    }
    let (looked_at, shut_out) = codes.split_at(MOST as usize);
    assert!(looked_at.iter().all(|code| *code == Code::Denied));
    assert_eq!(shut_out, [Code::RateLimited, Code::RateLimited]);
}

#[tokio::test]
async fn a_refused_request_leaves_the_token_good() {
    let world = World::new().await;
    let token = world.token("edge-01", 60).await;
    let sealing = SealingKey::generate();
    let mut request = enrolment(token.clone(), &sealing, "berlin");
    request.csr = "no request".into();
    let answer = world
        .send(&anonymous(), "POST", routes::ENROLL, &request)
        .await;
    assert_eq!(answer.problem().code, Code::Invalid);
    let request = enrolment(token, &sealing, "berlin");
    let answer = world
        .send(&anonymous(), "POST", routes::ENROLL, &request)
        .await;
    answer.ok();
}

#[tokio::test]
async fn an_expired_certificate_renews_and_does_nothing_else() {
    let (world, node) = World::deployed().await;
    let old = node.expired();
    for (method, path) in [
        ("GET", routes::BINDINGS),
        ("GET", routes::WATCH),
        ("PUT", routes::STATUS),
        ("PUT", routes::NODE),
        ("POST", routes::SECRETS),
    ] {
        let refused = world.send(&old, method, path, &json!({})).await.problem();
        assert_eq!(refused.code, Code::CertificateExpired, "{path}");
    }
    let sealing = SealingKey::generate();
    let answer = world
        .send(&old, "POST", routes::RENEW, &renewal(Some(&sealing)))
        .await;
    let renewed = world.node(answer.ok().json(), sealing);
    assert_ne!(renewed.connected, node.connected);
    world.get(&renewed.connected, routes::BINDINGS).await.ok();
    // The old one stays good: the node may not have kept the new one.
    world.get(&node.connected, routes::BINDINGS).await.ok();
    // Values are sealed to the new key from now on.
    let sealed = values::fetch(&world, &renewed, &[("cred", "1")]).await;
    assert_eq!(values::open(&renewed, "cred", "1", &sealed[0]), "hunter2");
    let trail = world.trail("node.renew").await;
    assert!(trail[0].contains("node/edge-01 ok"), "{trail:?}");
}

#[tokio::test]
async fn a_revoked_node_is_told_so_by_every_call() {
    let (world, node) = World::deployed().await;
    let revoke = Change::RevokeNode(node.identity.node.clone());
    world.change(revoke).await;
    for (method, path) in [
        ("GET", routes::BINDINGS),
        ("GET", routes::WATCH),
        ("PUT", routes::STATUS),
        ("PUT", routes::NODE),
        ("POST", routes::SECRETS),
        ("POST", routes::RENEW),
    ] {
        for peer in [&node.connected, &node.expired()] {
            let refused = world.send(peer, method, path, &json!({})).await.problem();
            assert_eq!(refused.code, Code::NodeRevoked, "{path}");
        }
    }
}

#[tokio::test]
async fn a_certificate_stops_working_when_its_node_enrols_anew_or_is_removed() {
    let (world, old) = World::deployed().await;
    let new = world.enrol("edge-01", "berlin").await;
    let refused = world.get(&old.connected, routes::BINDINGS).await.problem();
    assert_eq!(refused.code, Code::NotEnrolled);
    world.get(&new.connected, routes::BINDINGS).await.ok();

    let remove = Change::RemoveNode(new.identity.node.clone());
    world.change(remove).await;
    // Whichever of its certificates a machine has, it is to wipe what it had.
    for known in [&new, &old] {
        let refused = world.get(&known.connected, routes::BINDINGS).await;
        assert_eq!(refused.problem().code, Code::NodeRevoked);
    }
    let again = world.enrol("edge-01", "berlin").await;
    world.get(&again.connected, routes::BINDINGS).await.ok();
    let refused = world.get(&new.connected, routes::BINDINGS).await.problem();
    assert_eq!(refused.code, Code::NotEnrolled);
}

#[tokio::test]
async fn a_certificate_is_good_for_the_node_it_names_alone() {
    let (world, node) = World::deployed().await;
    let other = world.enrol("edge-02", "berlin").await;
    let Peer::Node { serial, .. } = node.connected.peer.clone() else {
        panic!("not a node");
    };
    let mut forged = other.connected.clone();
    if let Peer::Node { serial: theirs, .. } = &mut forged.peer {
        *theirs = serial;
    }
    let refused = world.get(&forged, routes::BINDINGS).await.problem();
    assert_eq!(refused.code, Code::NotEnrolled);
}

#[tokio::test]
async fn users_and_strangers_make_no_call_of_nodes() {
    let world = World::new().await;
    let user = Connected {
        peer: Peer::User {
            org: org(),
            user: alice(),
            serial: "4a".into(),
        },
        ..anonymous()
    };
    for peer in [user, anonymous()] {
        let refused = world.get(&peer, routes::BINDINGS).await.problem();
        assert_eq!(refused.code, Code::Denied);
    }
}

#[tokio::test]
async fn an_identity_that_is_replaced_while_it_renews_gets_no_new_one() {
    let (world, old) = World::deployed().await;
    let thief = SealingKey::generate();
    let body = serde_json::to_vec(&renewal(Some(&thief))).unwrap();
    let world = Arc::new(world);
    let meanwhile = {
        let world = Arc::clone(&world);
        // Asked for only once the caller is known: the node enrols anew before the body is there.
        futures_util::stream::once(async move {
            world.enrol("edge-01", "berlin").await;
            Ok::<_, std::convert::Infallible>(body)
        })
    };
    let request = Request::post(routes::RENEW)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from_stream(meanwhile))
        .unwrap();
    let answer = Answer::read(world.request(&old.connected, request).await).await;
    assert_eq!(answer.problem().code, Code::NotEnrolled);
    assert!(world.trail("node.renew").await.is_empty());
}

/// A node is on a pattern or on policies: both at once is refused with both places, and costs no token.
#[tokio::test]
async fn a_node_is_not_on_a_pattern_and_on_policies() {
    let world = World::new().await;
    let belongs = Belonging {
        owner: None,
        pattern: Some("myorg/edge".parse().unwrap()),
    };
    let token = world.token_of("edge-01", 60, belongs).await;
    let sealing = SealingKey::generate();
    let mut request = enrolment(token, &sealing, "berlin");
    request.facts.policy = Some(json!({"deployment": {"constraints": ["a == 1"]}}));
    let refused = world
        .send(&anonymous(), "POST", routes::ENROLL, &request)
        .await;
    let problem = refused.problem();
    let both = |problem: &Problem| {
        assert_eq!(problem.code, Code::Conflict);
        let expected =
            "on pattern myorg/edge, and `policy.deployment.constraints` of its node policy";
        assert!(problem.detail.contains(expected), "{}", problem.detail);
    };
    both(&problem);
    let policy = request.facts.policy.take();
    let answer = world
        .send(&anonymous(), "POST", routes::ENROLL, &request)
        .await;
    let node = world.node(answer.ok().json(), sealing);

    let said = world.trail("node.facts").await.len();
    request.facts.policy = policy;
    let refused = world
        .send(&node.connected, "PUT", routes::NODE, &request.facts)
        .await;
    both(&refused.problem());
    assert_eq!(world.trail("node.facts").await.len(), said);
    // What is about its management alone is another matter.
    request.facts.policy = Some(json!({"management": {"constraints": ["a == 1"]}}));
    let facts = &request.facts;
    let answer = world.send(&node.connected, "PUT", routes::NODE, facts);
    answer.await.ok();
}

/// A constraint that nobody reads keeps nothing away: it is refused before the node is in, and afterwards
/// what the node said last stays.
#[tokio::test]
async fn a_node_policy_with_a_misspelt_field_is_refused() {
    let world = World::new().await;
    let token = world.token("edge-01", 60).await;
    let sealing = SealingKey::generate();
    let mut request = enrolment(token, &sealing, "berlin");
    request.facts.policy = Some("constraint:\n- a == 1\n".into());
    let refused = |problem: Problem| {
        assert_eq!(problem.code, Code::Invalid);
        let expected = "What the node says of itself is refused: policy.constraint: is no field that is \
                        known; did you mean `constraints`? (line 2, column 1).";
        assert_eq!(problem.detail, expected);
    };
    let stranger = anonymous();
    let answer = world.send(&stranger, "POST", routes::ENROLL, &request);
    refused(answer.await.problem());
    let slip = request.facts.policy.take();
    // What is like no other field is somebody's note.
    request.facts.policy = Some(json!({"ofTomorrow": 1}));
    let answer = world.send(&stranger, "POST", routes::ENROLL, &request);
    let node = world.node(answer.await.ok().json(), sealing);
    let said = world.trail("node.facts").await.len();
    request.facts.policy = slip;
    let facts = &request.facts;
    let answer = world.send(&node.connected, "PUT", routes::NODE, facts);
    refused(answer.await.problem());
    assert_eq!(world.trail("node.facts").await.len(), said);
}
