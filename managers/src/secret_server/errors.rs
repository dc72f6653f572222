//! What the manager's refusals mean. Their bodies may carry stack traces and values: only the known
//! codes in them are compared, and nothing is quoted.

use serde::Deserialize;

use crate::http::Reply;
use crate::{Fault, ManagerError};

/// Why an answer that is no success is none. `what` is the call, for people.
pub(super) fn refusal(reply: &Reply, what: &str) -> ManagerError {
    let status = reply.status;
    match status {
        400 => match code(reply).as_deref() {
            Some(DENIED) => absent_or_denied(),
            Some(COMMENT) => needs_comment(),
            _ => ManagerError::new(
                Fault::Failed,
                format!("it refused {what} as a bad request (status 400)"),
            ),
        },
        401 => unauthenticated("it refused a token that it had just given (status 401)"),
        403 => ManagerError::new(
            Fault::Denied,
            format!("it denies the hub's account {what} (status 403)"),
        ),
        404 if is_for_people(reply) => not_there(404),
        404 => absent_or_denied(),
        429 => ManagerError::new(Fault::RateLimited, "it wants fewer calls (status 429)")
            .after(reply.retry_after()),
        500 => ManagerError::new(Fault::Failed, format!("it failed at {what} (status 500)")),
        502..=504 => ManagerError::new(
            Fault::Unavailable,
            format!("it, or a proxy before it, cannot answer now (status {status})"),
        )
        .after(reply.retry_after()),
        300..400 => not_there(status),
        _ => ManagerError::new(
            Fault::Failed,
            format!("it answered {what} with status {status}"),
        ),
    }
}

/// Whether a 403 speaks of the token rather than of what was asked: it has no code then.
pub(super) fn is_of_the_token(reply: &Reply) -> bool {
    reply.status == 401 || (reply.status == 403 && code(reply).is_none())
}

/// Whether it has no such call: then another version of it may be asked.
pub(super) fn is_no_such_call(reply: &Reply) -> bool {
    reply.status == 404 && !is_for_people(reply)
}

/// What the manager says of a secret that is not there, and of one that the hub may not see: it does
/// not tell which.
pub(super) fn absent_or_denied() -> ManagerError {
    ManagerError::new(
        Fault::NotFoundOrDenied,
        "there is no such secret, or the hub's account may not see it: the manager does not tell which. \
         Is the path written exactly as there, and has the account View on the folder and the secret?",
    )
}

/// It wants a comment, and none is configured.
pub(super) fn needs_comment() -> ManagerError {
    ManagerError::new(
        Fault::NeedsComment,
        "the secret wants a comment with every view: set `comment` in this manager's configuration",
    )
}

/// The hub is not let in.
pub(super) fn unauthenticated(why: &str) -> ManagerError {
    ManagerError::new(Fault::Unauthenticated, why)
}

/// Something else answers where the manager should.
pub(super) fn not_there(status: u16) -> ManagerError {
    ManagerError::new(
        Fault::Malformed,
        format!(
            "there is no Secret Server at this address (status {status}): has `url` the right virtual \
             directory (often /SecretServer), and are web services switched on there?"
        ),
    )
}

/// The known code of a refusal. Others are nobody's business: a code is a part of the body too.
fn code(reply: &Reply) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(rename = "errorCode")]
        error_code: Option<String>,
    }
    reply.json_or_none::<Refusal>()?.error_code
}

fn is_for_people(reply: &Reply) -> bool {
    let media = reply
        .header(&http::header::CONTENT_TYPE)
        .unwrap_or_default();
    !media.to_ascii_lowercase().contains("json")
}

/// Denied, or absent.
const DENIED: &str = "API_AccessDenied";
/// A comment is wanted with every view.
const COMMENT: &str = "API_ValidateSecretAccessCommentRequired";
