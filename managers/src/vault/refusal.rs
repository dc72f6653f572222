//! Why Vault did not do it, from its status and the few texts of it that are constants.

use serde::Deserialize;

use crate::http::Reply;
use crate::{Fault, ManagerError};

/// The texts that are looked for in an answer of failure. Nothing else of it is looked at.
#[derive(Default, Deserialize)]
pub(super) struct Texts {
    errors: Option<Vec<String>>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
    /// The envelope of a deleted version.
    #[serde(default)]
    data: Option<Deleted>,
}

#[derive(Deserialize)]
struct Deleted {
    #[serde(default)]
    metadata: Option<serde::de::IgnoredAny>,
}

impl Texts {
    pub(super) fn of(reply: &Reply) -> Self {
        reply.json_or_none().unwrap_or_default()
    }

    /// Whether an error contains this constant of Vault's.
    pub(super) fn say(&self, known: &str) -> bool {
        let texts = self.errors.iter().flatten();
        texts
            .chain(self.warnings.iter().flatten())
            .any(|text| text.contains(known))
    }

    /// Whether it is Vault that speaks, and not a proxy before it.
    fn is_of_vault(&self) -> bool {
        self.errors.is_some() || self.is_deleted()
    }

    fn is_deleted(&self) -> bool {
        self.data
            .as_ref()
            .is_some_and(|data| data.metadata.is_some())
    }
}

/// The error that an answer without success is.
pub(super) fn of(reply: &Reply) -> ManagerError {
    let texts = Texts::of(reply);
    let status = reply.status;
    let say = |fault, detail: &str| ManagerError::new(fault, detail);
    let error = match status {
        300..400 => say(
            Fault::Malformed,
            "it redirects in a way that Vault does not: is the address that of a proxy before it?",
        ),
        400 if texts.is_of_vault() => say(
            Fault::Invalid,
            "it refuses the request (status 400): is the mount of the type that hub.yaml says?",
        ),
        401 => say(
            Fault::Unauthenticated,
            "a proxy before it lets nobody in (status 401)",
        ),
        403 => say(
            Fault::Denied,
            "the policies of the hub's token do not allow it: see `vault token capabilities`",
        ),
        404 if texts.is_deleted() => say(Fault::Deleted, "the version was deleted or destroyed"),
        404 if texts.say(NO_MOUNT) => say(
            Fault::Invalid,
            "nothing is mounted there: compare hub.yaml with `vault secrets list`",
        ),
        404 if texts.say(IS_VERSIONED) => say(
            Fault::Invalid,
            "the mount is a KV of version 2: give it `type: kv2` in hub.yaml",
        ),
        404 if texts.is_of_vault() => say(Fault::Missing, "there is no such secret"),
        405 => say(
            Fault::Unsupported,
            "it knows no such call (status 405): is the mount of the type that hub.yaml says?",
        ),
        412 => say(
            Fault::Unavailable,
            "this node is behind the others (status 412): it is asked again",
        ),
        413 => say(Fault::TooLarge, "the value is larger than it takes"),
        429 => say(Fault::RateLimited, "it wants fewer calls"),
        472 | 473 | 474 | 530 => say(
            Fault::Unavailable,
            "it is a standby that serves nobody now: set the address to an active node",
        ),
        500 => say(Fault::Failed, "it failed inside (status 500): see its log"),
        501 => say(Fault::Sealed, "it is not initialised"),
        503 if SEALED.iter().any(|known| texts.say(known)) => {
            say(Fault::Sealed, "it is sealed: unseal it")
        }
        502..=504 => ManagerError::new(
            Fault::Unavailable,
            format!("it cannot now, or a proxy before it cannot reach it (status {status})"),
        ),
        _ => ManagerError::new(
            Fault::Malformed,
            format!(
                "its answer (status {status}) is none of Vault's: is the address that of a proxy \
                 before it?"
            ),
        ),
    };
    error.after(reply.retry_after())
}

/// What a login was refused with.
pub(super) fn of_login(reply: &Reply, how: &str) -> ManagerError {
    let refused = |why: String| ManagerError::new(Fault::Unauthenticated, why);
    match reply.status {
        400 if Texts::of(reply).say("invalid role or secret ID") => refused(format!(
            "{how} is refused: the role id or the secret id is wrong, used up or expired; issue \
             another secret id"
        )),
        400 if Texts::of(reply).say("no client certificate supplied") => refused(format!(
            "{how} is refused: no certificate of the hub's arrived; TLS must end at Vault itself"
        )),
        400 if Texts::of(reply).say("no chain matching all constraints") => {
            refused(format!("{how} is refused: no role takes this certificate"))
        }
        400 | 401 | 403 | 404 | 405 => refused(format!(
            "{how} is refused (status {}): look at the mount, the role and its credentials",
            reply.status
        )),
        _ => of(reply),
    }
}

const NO_MOUNT: &str = "no handler for route";
const IS_VERSIONED: &str = "Invalid path for a versioned K/V secrets engine";
const SEALED: [&str; 2] = ["Vault is sealed", "namespace is sealed"];
