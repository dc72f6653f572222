//! The webhook: a hint from whoever has the manager's token.

use std::os::unix::fs::PermissionsExt;

use edge_secrets_protocol::binding::SecretState;

use super::managed::{A_MOMENT, CANARY, Scene};
use super::*;
use crate::managers::shelf::LONG;

const TOKEN: &str = "hook-token-0123456789";
const HOOK: &str = "/v1/hooks/vault";

impl Scene {
    fn token(&self, token: &str) {
        let path = self.world.dir.path().join("hook-token");
        std::fs::write(&path, token).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A call by somebody without a certificate.
    async fn call(&self, path: &str, header: Option<(&str, &str)>, body: &[u8]) -> Answer {
        let mut request = Request::post(path);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let mut request = request.body(Body::from(body.to_vec())).unwrap();
        request.extensions_mut().insert(Connected {
            peer: Peer::Anonymous,
            address: "192.0.2.1:4711".parse().unwrap(),
        });
        let router = crate::api::router(Arc::clone(&self.world.hub));
        Answer::read(router.oneshot(request).await.unwrap()).await
    }

    async fn hook(&self, body: &[u8]) -> Answer {
        let token = format!("Bearer {TOKEN}");
        let header = Some(("authorization", token.as_str()));
        self.call(HOOK, header, body).await
    }

    /// Waits until this secret is known at this version.
    async fn until(&self, reference: &str, version: &str) {
        let (org, reference) = ("myorg".parse().unwrap(), reference.parse().unwrap());
        let catalog = &self.world.hub.catalog;
        let waiting = async {
            loop {
                let observed = catalog.observation(&org, &reference).await.unwrap();
                let known = observed.and_then(|observed| observed.known?.version);
                if known.is_some_and(|known| known.as_str() == version) {
                    return;
                }
                tokio::time::sleep(A_MOMENT).await;
            }
        };
        tokio::time::timeout(LONG, waiting).await.unwrap();
    }

    /// `team/a` and `team/b`, bound on a node and known.
    async fn bound() -> Self {
        let scene = Self::new().await;
        scene.token(TOKEN);
        scene.vault.put("team/a", &[("value", CANARY)]);
        scene.vault.put("team/b", &[("value", CANARY)]);
        let service = service("1.0.0", &["a", "b"]);
        scene.world.post("alice", "services", &service).await.ok();
        let policy = policy("1.0.0", &[("a", "vault:team/a"), ("b", "vault:team/b")]);
        scene.world.put("alice", "policies/p", &policy).await.ok();
        scene.world.enrol("edge-01", "berlin", None).await;
        scene.until("vault:team/a", "1").await;
        scene.until("vault:team/b", "1").await;
        scene
    }
}

#[tokio::test]
async fn whoever_does_not_have_the_token_hears_one_answer() {
    let scene = Scene::new().await;
    scene.token(TOKEN);
    let bearer = format!("Bearer {TOKEN}");
    let short = "Bearer short";
    let basic = format!("Basic {TOKEN}");
    let mut answers = Vec::new();
    for (path, header) in [
        (HOOK, None),
        (
            HOOK,
            Some(("authorization", "Bearer wrong-token-0123456789")),
        ),
        (HOOK, Some(("authorization", basic.as_str()))),
        (HOOK, Some(("authorization", TOKEN))),
        (HOOK, Some(("authorization", ""))),
        (
            HOOK,
            Some(("x-edge-secrets-token", "wrong-token-0123456789")),
        ),
        ("/v1/hooks/silent", Some(("authorization", bearer.as_str()))),
        (
            "/v1/hooks/nowhere",
            Some(("authorization", bearer.as_str())),
        ),
        (
            "/v1/hooks/NO_NAME",
            Some(("authorization", bearer.as_str())),
        ),
        (
            "/v1/hooks/embedded",
            Some(("authorization", bearer.as_str())),
        ),
    ] {
        let answer = scene.call(path, header, b"{").await;
        answer.refused(Code::Denied);
        answers.push(answer.text());
    }
    // One that could be guessed is as good as none, and so is one that everybody can read.
    scene.token("short");
    let answer = scene.call(HOOK, Some(("authorization", short)), b"").await;
    answers.push(answer.text());
    scene.token(TOKEN);
    let path = scene.world.dir.path().join("hook-token");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let header = Some(("authorization", bearer.as_str()));
    answers.push(scene.call(HOOK, header, b"").await.text());
    std::fs::remove_file(&path).unwrap();
    answers.push(scene.call(HOOK, header, b"").await.text());
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
    // No certificate is needed there, and there alone.
    for path in ["/v1/hub", "/v1/metrics", "/v1/orgs/myorg/managers"] {
        let request = Request::get(path).header("authorization", &bearer);
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(Connected {
            peer: Peer::Anonymous,
            address: "192.0.2.1:4711".parse().unwrap(),
        });
        let router = crate::api::router(Arc::clone(&scene.world.hub));
        let answer = Answer::read(router.oneshot(request).await.unwrap()).await;
        answer.refused(Code::Denied);
    }
}

#[tokio::test]
async fn a_call_with_the_token_has_it_looked_at_once() {
    let scene = Scene::bound().await;
    // What somebody else's notification says is not read; where to look is.
    for (number, body) in [
        &b""[..],
        b"{}",
        b"\xff garbage",
        b"[1, 2]",
        br#"{"references": 7}"#,
        br#"{"references": ["a:b:c"]}"#,
        br#"{"event": {"references": ["vault:team/b"]}}"#,
    ]
    .into_iter()
    .enumerate()
    {
        scene.vault.put("team/a", &[("value", CANARY)]);
        let answer = scene.hook(body).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
        assert!(answer.body.is_empty());
        scene.until("vault:team/a", &(number + 2).to_string()).await;
    }
    scene.vault.put("team/b", &[("value", CANARY)]);
    let header = Some(("x-edge-secrets-token", TOKEN));
    let answer = scene.call(HOOK, header, b"").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    scene.until("vault:team/b", "2").await;
    let (org, node) = ("myorg".parse().unwrap(), "edge-01".parse().unwrap());
    let bindings = scene.world.hub.catalog.bindings(&org, &node, None).await;
    let secrets = &bindings.unwrap().deployments[0].secrets;
    let ready = |state: &SecretState| matches!(state, SecretState::Ready { .. });
    assert!(secrets.iter().all(|secret| ready(&secret.state)));
}

#[tokio::test]
async fn references_narrow_what_is_looked_at() {
    let scene = Scene::bound().await;
    let before = scene.vault.count("describe team/b");
    for (version, reference) in [
        ("2", "vault:team/a"),
        ("3", "vault:team/a#value"),
        ("4", "team/a"),
    ] {
        scene.vault.put("team/a", &[("value", CANARY)]);
        let body = json!({ "references": [reference] }).to_string();
        scene.hook(body.as_bytes()).await.ok();
        scene.until("vault:team/a", version).await;
    }
    assert_eq!(scene.vault.count("describe team/b"), before);
    // More than a listing can be is everything.
    scene.vault.put("team/a", &[("value", CANARY)]);
    let many = vec!["vault:team/x"; 1_001];
    let body = json!({ "references": many }).to_string();
    scene.hook(body.as_bytes()).await.ok();
    scene.until("vault:team/a", "5").await;
    scene.expect_no_value().await;
}

#[tokio::test]
async fn a_body_is_bounded_and_read_from_whoever_has_the_token_alone() {
    let scene = Scene::bound().await;
    let large = vec![b'x'; 256 * 1024 + 1];
    scene.hook(&large).await.refused(Code::TooLarge);
    scene.call(HOOK, None, &large).await.refused(Code::Denied);
}
