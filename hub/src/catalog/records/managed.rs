//! Secrets that managers outside the hub keep, and the leases of credentials that they make.

use std::fmt;
use std::str::FromStr;

use edge_secrets_protocol::{DeploymentId, NodeId, OrgId, SecretVersion};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::managers::{Effect, Fault, LeaseHandle};
use crate::reference::SecretRef;

/// What a manager said of a secret last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observation {
    /// What reading it does; absent while it was never there.
    pub effect: Option<Effect>,
    /// The last version that was known good, whatever the trouble is now; absent where reads have a
    /// lease, and once the secret is gone.
    pub version: Option<SecretVersion>,
    /// When the value ends.
    pub expires_at: Option<Timestamp>,
    /// See [`crate::managers::Description::identity`].
    pub identity: Option<String>,
    /// Why it cannot be had now.
    pub trouble: Option<Trouble>,
}

/// What is wrong with a secret or a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The reason.
    pub fault: Fault,
    /// What, and what to do. Never a value.
    pub detail: String,
    /// Since when.
    pub since: Timestamp,
}

/// A secret that bindings name, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The organisation.
    pub org: OrgId,
    /// The secret, without a field.
    pub reference: SecretRef,
    /// What its manager said; absent while it was never asked.
    pub known: Option<Observation>,
}

/// A lease's number. It is part of the version that the node knows and never comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub u64);

impl LeaseId {
    /// The version of the credential, as secrets have versions.
    #[must_use]
    pub fn version(self) -> SecretVersion {
        #[expect(
            clippy::expect_used,
            reason = "letters, a dash and digits are a version"
        )]
        format!("{PREFIX}{}", self.0).parse().expect("a version")
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a lease is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// A binding wants a credential; none is made yet.
    Wanted,
    /// The manager was asked to make it. Found after a restart, nobody knows whether it did.
    Minting,
    /// It is being made, and nobody wants it any more: it is to end as soon as it is known.
    Dropped,
    /// It was made, and works until its end.
    Live,
    /// It is to die, and has not yet.
    Ending,
    /// It is dead at its manager.
    Ended,
    /// Another node has the one credential that there is.
    Refused,
}

impl LeaseState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Wanted,
        Self::Minting,
        Self::Dropped,
        Self::Live,
        Self::Ending,
        Self::Ended,
        Self::Refused,
    ];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wanted => "wanted",
            Self::Minting => "minting",
            Self::Dropped => "dropped",
            Self::Live => "live",
            Self::Ending => "ending",
            Self::Ended => "ended",
            Self::Refused => "refused",
        }
    }
}

impl FromStr for LeaseState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut all = Self::ALL.into_iter();
        all.find(|state| state.as_str() == text).ok_or(())
    }
}

/// What one lease is of: the secret of one binding of one deployment on one node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeasePlace {
    /// The organisation.
    pub org: OrgId,
    /// The node.
    pub node: NodeId,
    /// The deployment.
    pub deployment: DeploymentId,
    /// The secret, without a field: names that are bound to its fields share the credential.
    pub reference: SecretRef,
}

/// A lease as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Its number.
    pub id: LeaseId,
    /// What it is of.
    pub place: LeasePlace,
    /// The manager's own name of the secret, where it has several spellings.
    pub identity: Option<String>,
    /// The enrolment of the node that it is for; absent where there was no such node.
    pub enrolled_at: Option<Timestamp>,
    /// Whether the binding's names resolve to it; else it was superseded or its deployment is over.
    pub current: bool,
    /// Where it is in its life.
    pub state: LeaseState,
    /// What the manager knows it by.
    pub handle: Option<LeaseHandle>,
    /// What of the hub's own it hangs on at the manager.
    pub epoch: Option<String>,
    /// Whether it can be made longer.
    pub renewable: bool,
    /// When it was made or last renewed.
    pub granted_at: Option<Timestamp>,
    /// When it ends.
    pub ends_at: Option<Timestamp>,
    /// How often what is to be done with it failed since it last went well.
    pub attempts: u32,
    /// What is wrong with it.
    pub trouble: Option<Trouble>,
    /// When it was first wanted.
    pub created_at: Timestamp,
}

/// A change of leases: all of a list happen, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseChange {
    /// A binding wants a credential.
    Want(Box<Wish>),
    /// Everything becomes this but what it was wanted with: the number, the place, the names.
    Set(Box<LeaseRecord>),
}

/// A lease to be added: [`LeaseState::Wanted`], or [`LeaseState::Refused`] with the trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// What it is of.
    pub place: LeasePlace,
    /// The manager's own name of the secret.
    pub identity: Option<String>,
    /// Why it is refused.
    pub refused: Option<Trouble>,
    /// It becomes the current one when it is made; until then the present one stays that. Else it is
    /// at once, and the present one, if any, is current no more.
    pub beside: bool,
}

/// Which leases are asked for.
#[derive(Debug, Clone, Default)]
pub struct LeaseQuery {
    /// Of this organisation.
    pub org: Option<OrgId>,
    /// Of this node.
    pub node: Option<NodeId>,
    /// Those that ended too.
    pub ended: bool,
    /// Older than this one.
    pub before: Option<LeaseId>,
    /// Of them the newest, so many at most.
    pub limit: Option<u32>,
}

const PREFIX: &str = "lease-";
