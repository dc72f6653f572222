//! What each answer of failure means, and that nothing of it is quoted.

use edge_secrets_fakes::{Fault as Trick, Request, Response};
use serde_json::{Value, json};

use super::{Pim, login, with_one};
use crate::{Fault, ManagerError};

const CANARY: &str = "canary-in-an-answer";

/// What a look at the secret hears that is answered so.
async fn looked(pim: &Pim, answer: Response) -> ManagerError {
    let look = |request: &Request| request.path.ends_with("/summary");
    pim.server.faults.when(look, Trick::Answer(answer));
    let error = pim.refusal("Team/db").await;
    pim.server.faults.heal();
    error
}

#[tokio::test]
async fn every_answer_of_failure_has_its_fault() {
    let (fake, _) = with_one(&login());
    let pim = Pim::start(fake).await;
    let of = |code: &str| json!({ "message": CANARY, "errorCode": code });
    for (status, body, fault) in [
        (400, of("API_AccessDenied"), Fault::NotFoundOrDenied),
        (
            400,
            of("API_ValidateSecretAccessCommentRequired"),
            Fault::NeedsComment,
        ),
        (400, of("API_PermissionsAreInherited"), Fault::Failed),
        (
            400,
            json!({ "message": "The request is invalid.", "modelState": { "a": [CANARY] } }),
            Fault::Failed,
        ),
        (403, of("API_SomethingElse"), Fault::Denied),
        (
            403,
            json!({ "message": "Authentication failed" }),
            Fault::Denied,
        ),
        (401, json!({ "message": CANARY }), Fault::Unauthenticated),
        // Vaults of the platform, and proxies.
        (404, json!({ "message": CANARY }), Fault::NotFoundOrDenied),
        (409, json!({ "message": CANARY }), Fault::Failed),
        (429, json!({ "message": CANARY }), Fault::RateLimited),
        (
            500,
            json!({ "message": CANARY, "exceptionMessage": CANARY,
                "exceptionType": "System.Exception", "stackTrace": CANARY }),
            Fault::Failed,
        ),
        (502, json!({ "message": CANARY }), Fault::Unavailable),
        (503, json!({ "message": CANARY }), Fault::Unavailable),
        (504, json!({ "message": CANARY }), Fault::Unavailable),
        (302, json!({ "message": CANARY }), Fault::Malformed),
        // An answer that is none of what was asked for.
        (200, json!({ "message": CANARY }), Fault::Malformed),
        (200, Value::String(CANARY.into()), Fault::Malformed),
    ] {
        // Each is a fresh one: a token that was refused keeps the hub away for a while.
        let (fake, _) = with_one(&login());
        let pim = match fault {
            Fault::Unauthenticated => &Pim::start(fake).await,
            _ => &pim,
        };
        let answer = Response::json(status, &body).with("retry-after", "17");
        let error = looked(pim, answer).await;
        assert_eq!(error.fault, fault, "{status} {body}: {error}");
        assert!(
            !format!("{error} {error:?}").contains("canary"),
            "{error:?}"
        );
        if matches!(fault, Fault::RateLimited | Fault::Unavailable) {
            let wait = std::time::Duration::from_secs(17);
            assert_eq!(error.retry_after, Some(wait), "{status}");
        }
    }
}

#[tokio::test]
async fn a_page_for_people_is_no_secret_server() {
    let (fake, _) = with_one(&login());
    let pim = Pim::start(fake).await;
    // Of proxies and of a wrong virtual directory; some failures come with status 200.
    for status in [200, 302, 404] {
        let page = Response::text(status, "text/html", "<html>canary</html>");
        let error = looked(&pim, page).await;
        assert_eq!(error.fault, Fault::Malformed, "{status}: {error}");
    }
    for (status, fault) in [(500, Fault::Failed), (503, Fault::Unavailable)] {
        let page = Response::text(status, "text/html", "<html>canary</html>");
        assert_eq!(looked(&pim, page).await.fault, fault, "{status}");
    }
}

#[tokio::test]
async fn what_the_grant_refuses_is_one_answer() {
    for body in [
        json!({ "error": "Login failed." }),
        json!({ "error": CANARY, "error_description": CANARY }),
        json!({}),
    ] {
        for status in [400, 401, 403] {
            let (fake, _) = with_one(&login());
            let pim = Pim::start(fake).await;
            let is_login = |request: &Request| request.path.ends_with("/oauth2/token");
            let answer = Response::json(status, &body);
            pim.server.faults.when(is_login, Trick::Answer(answer));
            let error = pim.refusal("Team/db").await;
            assert_eq!(error.fault, Fault::Unauthenticated, "{status} {body}");
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
    }
}
