//! Why a manager did not do it: one stable code for each reason, and what follows from it.

use std::fmt;
use std::time::Duration;

use edge_secrets_protocol::Code;
use serde::{Deserialize, Serialize};

use crate::Target;

/// The reason. Codes are never renamed; they stand in the catalog and before operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Somebody else has checked it out.
    Busy,
    /// It stands elsewhere than was expected.
    Conflict,
    /// The version, or all of it, was deleted at the manager.
    Deleted,
    /// The hub may not read it there.
    Denied,
    /// Another node has the one credential that there is.
    Exclusive,
    /// The secret has ended at the manager.
    Expired,
    /// The manager failed on it (a kept value does not decrypt, an answer of 500).
    Failed,
    /// The reference cannot be one of this manager's.
    Invalid,
    /// There is no such lease any more.
    LeaseGone,
    /// It is locked at the manager.
    Locked,
    /// What it answered is no answer of such a manager.
    Malformed,
    /// The manager says there is no such secret.
    Missing,
    /// It must be approved at the manager first.
    NeedsApproval,
    /// It must be checked out at the manager, which is not allowed here.
    NeedsCheckout,
    /// The manager wants a comment with every read.
    NeedsComment,
    /// Absent or denied: the manager does not tell which. Never taken for deletion.
    NotFoundOrDenied,
    /// Something may have been made or changed; nobody knows.
    OutcomeUnknown,
    /// The manager's path policy gives the organisation no such path.
    OutOfPolicy,
    /// It wants fewer calls.
    RateLimited,
    /// It is sealed, or not initialised.
    Sealed,
    /// The version is no longer to be had; there is a newer one.
    Superseded,
    /// It did not answer in time.
    TimedOut,
    /// A value or an answer above its bound.
    TooLarge,
    /// It does not let the hub in: a token or credential was refused.
    Unauthenticated,
    /// It answers, and cannot do it now: a standby, maintenance, a proxy's error.
    Unavailable,
    /// The hub has no manager of that name.
    UnknownManager,
    /// No connection, or its certificate is not trusted.
    Unreachable,
    /// Such a secret is not delivered, or such a call not there.
    Unsupported,
    /// A code of a newer hub.
    #[serde(other)]
    Unknown,
}

impl Fault {
    /// Whether it may be over by itself: what is known and delivered stays, and it is tried again.
    #[must_use]
    pub fn is_transient(self) -> bool {
        match self {
            Self::Busy
            | Self::Malformed
            | Self::OutcomeUnknown
            | Self::RateLimited
            | Self::Sealed
            | Self::Superseded
            | Self::TimedOut
            | Self::Unauthenticated
            | Self::Unavailable
            | Self::Unreachable => true,
            Self::Conflict
            | Self::Deleted
            | Self::Denied
            | Self::Exclusive
            | Self::Expired
            | Self::Failed
            | Self::Invalid
            | Self::LeaseGone
            | Self::Locked
            | Self::Missing
            | Self::NeedsApproval
            | Self::NeedsCheckout
            | Self::NeedsComment
            | Self::NotFoundOrDenied
            | Self::OutOfPolicy
            | Self::TooLarge
            | Self::Unknown
            | Self::UnknownManager
            | Self::Unsupported => false,
        }
    }

    /// Whether the manager as a whole is in trouble, rather than this one secret: its other secrets
    /// need not be asked for now.
    #[must_use]
    pub fn is_of_the_manager(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::Sealed
                | Self::TimedOut
                | Self::Unauthenticated
                | Self::Unavailable
                | Self::Unreachable
        )
    }

    /// Whether it is what was asked that is wrong, which a backend may tell without its manager.
    #[must_use]
    pub fn is_of_the_asker(self) -> bool {
        matches!(self, Self::Invalid | Self::OutOfPolicy | Self::Unsupported)
    }

    /// Whether it proves that there is nothing to deliver any more.
    #[must_use]
    pub fn is_absence(self) -> bool {
        matches!(self, Self::Deleted | Self::Missing)
    }

    /// What callers of the hub read.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::Deleted | Self::Missing | Self::Expired | Self::LeaseGone => Code::Missing,
            Self::Denied | Self::OutOfPolicy => Code::Denied,
            Self::Conflict => Code::Conflict,
            Self::Invalid | Self::UnknownManager | Self::Unsupported => Code::Invalid,
            Self::RateLimited => Code::RateLimited,
            Self::Superseded => Code::Superseded,
            Self::TooLarge => Code::TooLarge,
            Self::Busy
            | Self::OutcomeUnknown
            | Self::Sealed
            | Self::TimedOut
            | Self::Unauthenticated
            | Self::Unavailable
            | Self::Unreachable => Code::Unavailable,
            Self::Exclusive
            | Self::Failed
            | Self::Locked
            | Self::Malformed
            | Self::NeedsApproval
            | Self::NeedsCheckout
            | Self::NeedsComment
            | Self::NotFoundOrDenied
            | Self::Unknown => Code::Failed,
        }
    }

    /// The code as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Conflict => "conflict",
            Self::Deleted => "deleted",
            Self::Denied => "denied",
            Self::Exclusive => "exclusive",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Invalid => "invalid",
            Self::LeaseGone => "lease_gone",
            Self::Locked => "locked",
            Self::Malformed => "malformed",
            Self::Missing => "missing",
            Self::NeedsApproval => "needs_approval",
            Self::NeedsCheckout => "needs_checkout",
            Self::NeedsComment => "needs_comment",
            Self::NotFoundOrDenied => "not_found_or_denied",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::OutOfPolicy => "out_of_policy",
            Self::RateLimited => "rate_limited",
            Self::Sealed => "sealed",
            Self::Superseded => "superseded",
            Self::TimedOut => "timed_out",
            Self::TooLarge => "too_large",
            Self::Unauthenticated => "unauthenticated",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
            Self::UnknownManager => "unknown_manager",
            Self::Unreachable => "unreachable",
            Self::Unsupported => "unsupported",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a manager did not do it. Never holds anything of a value, a credential or a body: the detail
/// is the hub's own words, or a number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail} ({fault})")]
pub struct ManagerError {
    /// The reason.
    pub fault: Fault,
    /// What, and what to do: one clause for people, beginning in lower case. The subject is the
    /// manager or the secret.
    pub detail: String,
    /// When the manager wants to be asked again at the earliest.
    pub retry_after: Option<Duration>,
    /// The manager was not asked at all: whoever stands before it kept the call back.
    pub unasked: bool,
}

impl ManagerError {
    /// For this reason.
    #[must_use]
    pub fn new(fault: Fault, detail: impl Into<String>) -> Self {
        Self {
            fault,
            detail: detail.into(),
            retry_after: None,
            unasked: false,
        }
    }

    /// The same, of a call that was kept back.
    #[must_use]
    pub fn unasked(mut self) -> Self {
        self.unasked = true;
        self
    }

    /// The same, and not before so long: within [`MAX_RETRY_AFTER`], whatever the manager says.
    #[must_use]
    pub fn after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait.map(|wait| wait.min(MAX_RETRY_AFTER));
        self
    }

    /// There is nothing like this for the target.
    #[must_use]
    pub fn unsupported(target: Target<'_>, what: &str) -> Self {
        Self::new(Fault::Unsupported, format!("{} {what}", target.reference))
    }
}

/// Longest time for which a manager can ask to be left alone.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
