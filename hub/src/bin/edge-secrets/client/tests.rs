use edge_secrets_protocol::Code;
use http_body_util::Full;
use tokio::net::TcpSocket;

use super::*;
use crate::testing::{Answer, Ca, FakeHub, Pki};

async fn list(pki: &Pki<'_>) -> (u8, String) {
    let hub = FakeHub::with(pki, |_| async { Answer::json(&[0; 0]) }).await;
    let ran = hub.run("node list -o json", b"").await;
    (ran.code(), ran.err())
}

#[tokio::test]
async fn both_sides_that_trust_each_other_talk() {
    let ca = Ca::new();
    assert_eq!(list(&Pki::good(&ca)).await.0, 0);
}

#[tokio::test]
async fn a_hub_of_another_ca_is_not_trusted() {
    let (ours, theirs) = (Ca::new(), Ca::new());
    let pki = Pki {
        context_trusts: &theirs,
        ..Pki::good(&ours)
    };
    let (code, err) = list(&pki).await;
    assert_eq!(code, 64);
    assert!(
        err.contains("not from the CA of the context") && err.contains("hint"),
        "{err}"
    );
}

#[tokio::test]
async fn a_hub_of_another_name_is_not_trusted() {
    let ca = Ca::new();
    let pki = Pki {
        name: "other.example.com",
        ..Pki::good(&ca)
    };
    let (code, err) = list(&pki).await;
    assert_eq!(code, 64);
    assert!(err.contains("for another name"), "{err}");
}

#[tokio::test]
async fn what_speaks_another_protocol_is_no_hub() {
    let ca = Ca::new();
    let pki = Pki {
        alpn: b"http/1.1",
        ..Pki::good(&ca)
    };
    let (code, err) = list(&pki).await;
    assert_ne!(code, 0);
    assert!(err.contains("127.0.0.1"), "{err}");
}

#[tokio::test]
async fn a_certificate_that_the_hub_does_not_take_is_denied() {
    // The alert races with the end of the connection: more than once, to meet both orders.
    for _ in 0..20 {
        let (ours, theirs) = (Ca::new(), Ca::new());
        let pki = Pki {
            operator: &theirs,
            ..Pki::good(&ours)
        };
        let (code, err) = list(&pki).await;
        assert_eq!(code, 77, "{err}");
        assert!(err.contains("does not accept this certificate"), "{err}");
    }
}

#[tokio::test]
async fn a_hub_that_is_not_there_is_unavailable() {
    let hub = FakeHub::start(|_| async { Answer::json(&[0; 0]) }).await;
    hub.stop();
    // Nobody else gets a port that is bound, and nobody listens on it.
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("https://{}", held.local_addr().unwrap());
    hub.file(
        "context.yaml",
        &format!(
            "hub: {url}\norg: myorg\nuser: alice\ncertificate: alice.crt\nkey: alice.key\n\
             ca: ca.crt\n"
        ),
    );
    let ran = hub.run("node list", b"").await;
    assert_eq!(ran.code(), 69, "{}", ran.err());
    let said = format!("the hub at {url} is not available: ");
    assert!(ran.err().contains(&said), "{}", ran.err());
}

#[tokio::test]
async fn a_connection_that_is_cut_is_unavailable_and_made_again() {
    let hub = FakeHub::start(|asked| async move {
        match asked.query.as_str() {
            "" => Answer::json(&7),
            _ => std::future::pending().await,
        }
    })
    .await;
    let context = Context::load(&hub.dir.path().join("context.yaml")).unwrap();
    let mut client = Client::new(&context).unwrap();
    assert_eq!(client.get::<u8>(at("/a", &[])).await.unwrap(), 7);

    let connections = hub.connections();
    let cut = async {
        while hub.seen().len() < 2 {
            tokio::task::yield_now().await;
        }
        FakeHub::cut(&connections);
    };
    let held = client.get::<u8>(at("/a", &[]).with("hold", true));
    let (held, ()) = tokio::join!(held, cut);
    assert_eq!(held.unwrap_err().exit_code(), 69);
    assert_eq!(client.get::<u8>(at("/a", &[])).await.unwrap(), 7);
}

#[tokio::test]
async fn what_the_hub_refuses_is_said_with_its_reason_and_code() {
    for (code, exit) in [
        (Code::Denied, 77),
        (Code::NotEnrolled, 77),
        (Code::Unavailable, 69),
        (Code::RateLimited, 69),
        (Code::Conflict, 1),
        (Code::Missing, 1),
    ] {
        let hub = FakeHub::start(move |_| async move { Answer::problem(code, "the reason") }).await;
        let ran = hub.run("node list", b"").await;
        assert_eq!(ran.code(), exit);
        assert!(
            ran.err()
                .starts_with(&format!("error: {code}: the reason\n")),
            "{}",
            ran.err()
        );
    }
}

#[tokio::test]
async fn answers_that_are_not_a_hubs_are_told_apart() {
    for (status, body, exit) in [
        (200, "<html>", 1),
        (404, "<html>", 1),
        (502, "bad gateway", 69),
    ] {
        let hub = FakeHub::start(move |_| async move { Answer::raw(status, body) }).await;
        let ran = hub.run("node list", b"").await;
        assert_eq!(ran.code(), exit);
        assert!(!ran.err().contains(body), "{}", ran.err());
    }
}

#[tokio::test]
async fn an_answer_above_its_bound_is_not_read() {
    let body = || Full::new(Bytes::from_static(b"12345678"));
    assert_eq!(read(body(), 8).await.unwrap().unwrap(), "12345678");
    assert!(read(body(), 7).await.unwrap().is_none());
}

#[tokio::test]
async fn files_that_the_context_names_are_checked_first() {
    for (file, text, word) in [
        ("alice.crt", "", "no certificate"),
        ("ca.crt", "-----BEGIN CERTIFICATE-----\nx", "no certificate"),
        ("alice.key", "nothing", "no private key"),
    ] {
        let hub = FakeHub::start(|_| async { Answer::json(&[0; 0]) }).await;
        hub.file(file, text);
        let ran = hub.run("node list", b"").await;
        assert_eq!(ran.code(), 64);
        assert!(
            ran.err().contains(file) && ran.err().contains(word),
            "{}",
            ran.err()
        );
        assert!(hub.seen().is_empty());
    }
}
