//! Secrets managers, behind one trait. The hub reads from them; nodes never do.
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "conformance"))]
#[expect(clippy::expect_used, reason = "a case that cannot be set up fails")]
pub mod conformance;
pub mod credential;
pub mod error;
pub mod http;
pub mod ibm_cloud;
pub mod lease;
pub mod name;
pub mod payload;
pub mod reference;
pub mod route;
pub mod secret_server;
pub mod session;
pub mod vault;

use std::time::Duration;

use async_trait::async_trait;
use edge_secrets_protocol::{OrgId, Secret, SecretVersion};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use error::{Fault, ManagerError};
pub use lease::{LeaseHandle, Minted, Term};
pub use name::ManagerName;
pub use reference::SecretRef;

/// What a read does beside giving the value. It decides caching, retry and sharing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing: it may be repeated, kept, and shared by all nodes of a version.
    Pure,
    /// It makes a new credential with a lease: one for every binding on every node, and never blindly
    /// again.
    Mints,
    /// It makes a new credential and ends the one before: for one node alone, read only to deliver.
    MintsAndInvalidates,
    /// It takes the secret for itself for a while: for one node alone, and given back afterwards.
    Exclusive,
}

impl Effect {
    /// Whether a read has a lease of its own, so that no two bindings share its value.
    #[must_use]
    pub fn is_leased(self) -> bool {
        match self {
            Self::Pure => false,
            Self::Mints | Self::MintsAndInvalidates | Self::Exclusive => true,
        }
    }

    /// Whether only one node at a time may have it.
    #[must_use]
    pub fn is_for_one_node(self) -> bool {
        match self {
            Self::Pure | Self::Mints => false,
            Self::MintsAndInvalidates | Self::Exclusive => true,
        }
    }

    /// Whether the old credential still works when the new one is made, so that a consumer need never
    /// stand without.
    #[must_use]
    pub fn makes_before_breaking(self) -> bool {
        match self {
            Self::Pure | Self::Mints => true,
            Self::MintsAndInvalidates | Self::Exclusive => false,
        }
    }

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::Mints => "mints",
            Self::MintsAndInvalidates => "mints_and_invalidates",
            Self::Exclusive => "exclusive",
        }
    }
}

/// A kind of secrets manager. A new one has to say here what its reads do, and the conformance suite
/// fails until it runs over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The hub's own.
    Embedded,
    /// HashiCorp Vault, OpenBao.
    Vault,
    /// IBM Cloud Secrets Manager.
    IbmCloud,
    /// Delinea (Thycotic) Secret Server: IBM's PIM.
    SecretServer,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [
        Self::Embedded,
        Self::Vault,
        Self::IbmCloud,
        Self::SecretServer,
    ];

    /// What reads of it can do. [`SecretManager::describe`] says which of these a secret has.
    #[must_use]
    pub fn effects(self) -> &'static [Effect] {
        match self {
            Self::Embedded => &[Effect::Pure],
            Self::Vault => &[Effect::Pure, Effect::Mints],
            Self::IbmCloud => &[Effect::Pure, Effect::MintsAndInvalidates],
            Self::SecretServer => &[Effect::Pure, Effect::Exclusive],
        }
    }

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Vault => "vault",
            Self::IbmCloud => "ibm_cloud",
            Self::SecretServer => "secret_server",
        }
    }
}

/// A secret of an organisation, at one manager. The reference is resolved and without a field.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Whose it is.
    pub org: &'a OrgId,
    /// What it is called.
    pub reference: &'a SecretRef,
}

/// What a manager says of a secret without giving its value, and without any effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// What reading it does.
    pub effect: Effect,
    /// The version that [`SecretManager::read`] gives now; absent where every read is another
    /// credential.
    pub version: Option<SecretVersion>,
    /// The names of its fields, where the manager tells them without the value; else empty.
    pub fields: Vec<String>,
    /// When the value ends, where the manager says so.
    pub expires_at: Option<Timestamp>,
    /// How long a credential lives that is made now, where the manager says so.
    pub ttl: Option<Duration>,
    /// The manager's labels or tags.
    pub labels: Vec<String>,
    /// When it was last changed.
    pub updated_at: Option<Timestamp>,
    /// The manager's own name of it, the same for all its spellings; where only one node may have it.
    pub identity: Option<String>,
    /// What an operator should know: one sentence each.
    pub notes: Vec<String>,
}

impl Description {
    /// Of a secret with this effect and version, and nothing else known.
    #[must_use]
    pub fn new(effect: Effect, version: Option<SecretVersion>) -> Self {
        Self {
            effect,
            version,
            fields: Vec::new(),
            expires_at: None,
            ttl: None,
            labels: Vec::new(),
            updated_at: None,
            identity: None,
            notes: Vec::new(),
        }
    }
}

/// A version that a manager still has, newest first in lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The version.
    pub version: SecretVersion,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// Why it cannot be read any more: `deleted`, `destroyed`, `expired`.
    pub gone: Option<&'static str>,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The reference's path, such that `<manager>:<path>` is the reference; of a folder with a slash
    /// at its end.
    pub path: String,
    /// What reading it does, where the listing tells.
    pub effect: Option<Effect>,
    /// The manager's labels or tags.
    pub labels: Vec<String>,
}

/// A part of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// In the manager's order.
    pub entries: Vec<Listed>,
    /// What to ask for next; opaque. Absent at the end.
    pub next: Option<String>,
}

/// What is asked of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// The folder to look into, as in [`Listed::path`]; empty for the top.
    pub prefix: String,
    /// Labels that all must be there, where listings tell them ([`SecretManager::lists_labels`]).
    pub labels: Vec<String>,
    /// A text to search for, where the manager can ([`SecretManager::searches`]).
    pub search: Option<String>,
    /// What [`Page::next`] said.
    pub page: Option<String>,
}

/// Whether a manager can be used now. Asking reads no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Its product and version, where it says.
    pub version: Option<String>,
    /// What an operator should know: one sentence each.
    pub notes: Vec<String>,
}

/// A secret to be made at a manager that makes credentials by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewCredential {
    /// How long each credential lives, in seconds.
    pub ttl_seconds: u64,
    /// The access groups that it is a member of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_groups: Vec<String>,
    /// The service id that it is a key of, instead of access groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_id: Option<String>,
    /// One credential for all who read it, until it ends; else every read makes another one and ends
    /// the one before.
    #[serde(default)]
    pub reuse: bool,
    /// Labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// What a manager makes credentials with, as it was configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// The manager's word for such a configuration.
    pub kind: &'static str,
    /// Whether one of this name was there, and is replaced.
    pub replaced: bool,
}

/// A secrets manager.
///
/// Every method is safe to cancel. None is retried by its caller but [`describe`](Self::describe),
/// [`read`](Self::read), [`renew`](Self::renew) and [`revoke`](Self::revoke), which may be repeated.
/// Errors never hold anything of a value or of a credential.
#[async_trait]
pub trait SecretManager: Send + Sync + 'static {
    /// Its kind.
    fn kind(&self) -> Kind;

    /// The place at the manager that the reference means, as the manager itself names it and in its
    /// one form: what the path policy is asked about, with `/` between its parts. Pure.
    ///
    /// # Errors
    /// [`Fault::Invalid`] when the reference cannot be one of this manager's: the reason says what it
    /// takes.
    fn place(&self, target: Target<'_>) -> Result<String, ManagerError>;

    /// Whether it answers and knows us. Never reads a secret.
    async fn health(&self) -> Result<Health, ManagerError>;

    /// What there is, without value and effect.
    async fn describe(&self, target: Target<'_>) -> Result<Description, ManagerError>;

    /// Whether [`describe_all`](Self::describe_all) takes fewer calls than one for each secret.
    fn describes_together(&self) -> bool {
        false
    }

    /// Many at once, in their order, with as few calls as the manager allows. Once the manager as a
    /// whole is in trouble the rest is not asked.
    async fn describe_all(&self, targets: &[Target<'_>]) -> Vec<Result<Description, ManagerError>> {
        let mut answers: Vec<Result<Description, ManagerError>> = Vec::with_capacity(targets.len());
        for target in targets {
            let of_all = match answers.last() {
                Some(Err(error)) if error.fault.is_of_the_manager() => Some(error.clone()),
                _ => None,
            };
            answers.push(match of_all {
                Some(error) => Err(error),
                None => self.describe(*target).await,
            });
        }
        answers
    }

    /// Whether [`list`](Self::list) tells labels, and so can look for them.
    fn lists_labels(&self) -> bool {
        false
    }

    /// Whether [`list`](Self::list) can look for a text.
    fn searches(&self) -> bool {
        false
    }

    /// What there is, by name.
    async fn list(&self, org: &OrgId, query: &ListQuery) -> Result<Page, ManagerError>;

    /// The versions that there are, newest first.
    async fn versions(&self, target: Target<'_>) -> Result<Vec<Version>, ManagerError>;

    /// The payload of exactly this version of a secret whose effect is [`Effect::Pure`], see
    /// [`edge_secrets_protocol::Fields`]. [`Fault::Superseded`] when it is no longer to be had.
    async fn read(
        &self,
        target: Target<'_>,
        version: &SecretVersion,
    ) -> Result<Secret, ManagerError>;

    /// Makes a credential, or takes the secret: one call, never repeated by itself.
    ///
    /// # Errors
    /// [`Fault::OutcomeUnknown`] when one may have been made that nobody holds.
    async fn mint(&self, target: Target<'_>) -> Result<Minted, ManagerError> {
        Err(ManagerError::unsupported(target, "has no leases"))
    }

    /// Asks for a lease to live for `want` from now. The answer may be less.
    ///
    /// # Errors
    /// [`Fault::LeaseGone`] when there is no such lease any more.
    async fn renew(&self, handle: &LeaseHandle, want: Duration) -> Result<Term, ManagerError> {
        let _ = (handle, want);
        Err(ManagerError::new(
            Fault::Unsupported,
            "its leases cannot be renewed",
        ))
    }

    /// Ends a lease, or gives the secret back. One that is gone already is a success.
    async fn revoke(&self, handle: &LeaseHandle) -> Result<(), ManagerError> {
        let _ = handle;
        Err(ManagerError::new(
            Fault::Unsupported,
            "its leases cannot be revoked",
        ))
    }

    /// What the leases that are made now live and die with, where they hang on something of the hub's
    /// own at the manager (a token): leases of another epoch end with it.
    fn epoch(&self) -> Option<String> {
        None
    }

    /// Keeps what it has at the manager alive, also while nobody asks for anything: a session, a
    /// token. To be called when the hub starts and about once a minute; cheap when there is nothing to
    /// do. What fails is tried again.
    async fn tend(&self) {}

    /// Sets a value. With `expected`, only while that is the current version (`Some(None)`: while
    /// there is no such secret); [`Fault::Conflict`] otherwise.
    async fn write(
        &self,
        target: Target<'_>,
        payload: &Secret,
        expected: Option<Option<SecretVersion>>,
    ) -> Result<SecretVersion, ManagerError> {
        let _ = (payload, expected);
        Err(ManagerError::unsupported(
            target,
            "is not written from here: set it at its manager",
        ))
    }

    /// Makes a secret whose values the manager makes.
    async fn create(&self, target: Target<'_>, new: &NewCredential) -> Result<(), ManagerError> {
        let _ = new;
        Err(ManagerError::unsupported(
            target,
            "is of a manager that makes no such credentials",
        ))
    }

    /// Gives the manager the key that it makes credentials with, for all who use it. What has the name
    /// already is set anew.
    async fn put_engine(&self, name: &str, key: &Secret) -> Result<Engine, ManagerError> {
        let _ = (name, key);
        Err(ManagerError::new(
            Fault::Unsupported,
            format!(
                "a manager of the kind {} has no engine that is configured from here",
                self.kind().as_str()
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where each kind passes [`conformance`]. Whoever adds one says it here, and what its reads do in
    /// [`Kind::effects`]: neither builds without.
    fn conforms(kind: Kind) -> &'static str {
        match kind {
            Kind::Embedded => "hub: managers::embedded::conforms",
            Kind::Vault => "vault::tests::world",
            Kind::IbmCloud => "ibm_cloud::tests",
            Kind::SecretServer => "secret_server::tests",
        }
    }

    #[test]
    fn every_kind_says_what_its_reads_do_and_where_it_is_tried() {
        for kind in Kind::ALL {
            assert!(!kind.effects().is_empty() && !conforms(kind).is_empty());
            let json = serde_json::to_value(kind).unwrap();
            assert_eq!(json, kind.as_str());
        }
        for effect in [
            Effect::Pure,
            Effect::Mints,
            Effect::MintsAndInvalidates,
            Effect::Exclusive,
        ] {
            assert_eq!(serde_json::to_value(effect).unwrap(), effect.as_str());
            // One that is for one node alone cannot be shared, and what is shared has no lease.
            assert!(!effect.is_for_one_node() || effect.is_leased());
            let used = Kind::ALL
                .iter()
                .any(|kind| kind.effects().contains(&effect));
            assert!(used, "{effect:?}");
        }
    }
}
