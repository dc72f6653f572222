//! What stands between the hub and a secret's values. Pure.

use std::time::Duration;

use super::errors::{absent_or_denied, needs_comment};
use super::model::{State, Summary};
use crate::{Fault, ManagerError};

/// What the configuration allows.
#[derive(Debug, Clone)]
pub(super) struct Allowed {
    /// The reason that is given where a secret wants one.
    pub(super) comment: Option<String>,
    /// Whether secrets are checked out.
    pub(super) checkout: bool,
}

/// How a secret can be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    /// The comment must be given.
    pub(super) comment: bool,
    /// Absent: it need not be checked out.
    pub(super) checkout: Option<Checkout>,
}

/// Where a secret stands that only one account has at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checkout {
    /// Nobody has it.
    Free,
    /// The hub's account has it.
    Ours,
}

/// How the secret can be read, or why it cannot.
pub(super) fn access(
    summary: &Summary,
    state: &State,
    allowed: &Allowed,
) -> Result<Access, ManagerError> {
    if state.is_active == Some(false) || summary.active == Some(false) {
        return Err(ManagerError::new(
            Fault::Deleted,
            "the secret is deactivated at the manager",
        ));
    }
    let mut comment = summary.requires_comment == Some(true);
    let mut exclusive =
        summary.check_out_enabled == Some(true) || state.is_checked_out == Some(true);
    let mut pending = false;
    match state.secret_state.as_deref() {
        None | Some("None") => {}
        Some("RequiresComment") => comment = true,
        Some("RequiresCheckout") => exclusive = true,
        Some("RequiresCheckoutAndComment") => (exclusive, comment) = (true, true),
        Some("RequiresCheckoutPendingRPC") => (exclusive, pending) = (true, true),
        Some("RequiresApproval") => return Err(needs_approval()),
        // Deactivated too, perhaps; but it does not say so outright.
        Some("CannotView" | "RequiresUndelete") => return Err(absent_or_denied()),
        Some("RequiresDoubleLockPassword" | "CreateDoubleLockPassword" | "DoubleLockNoAccess") => {
            return Err(ManagerError::new(
                Fault::Unsupported,
                "the secret is under a DoubleLock, whose password the hub does not have: such secrets \
                 are not delivered",
            ));
        }
        Some(_) => {
            return Err(ManagerError::new(
                Fault::Unsupported,
                "the secret is in a state that this version does not know: such secrets are not \
                 delivered",
            ));
        }
    }
    let checkout = match exclusive {
        true => Some(checkout(state, allowed, pending)?),
        false => None,
    };
    if comment && allowed.comment.is_none() {
        return Err(needs_comment());
    }
    Ok(Access { comment, checkout })
}

fn checkout(state: &State, allowed: &Allowed, pending: bool) -> Result<Checkout, ManagerError> {
    if !allowed.checkout {
        return Err(ManagerError::new(
            Fault::NeedsCheckout,
            "the secret must be checked out, which its manager's configuration does not allow: set \
             `checkout: true` to give it to one node at a time, or switch check-out off at the secret",
        ));
    }
    if state.is_checked_out_by_current_user == Some(true) {
        return Ok(Checkout::Ours);
    }
    if state.is_checked_out == Some(true) {
        return Err(busy(
            "somebody else has checked the secret out",
            left(state),
        ));
    }
    if pending {
        let why = "the secret's password is being changed, and it cannot be checked out until then";
        return Err(busy(why, None));
    }
    Ok(Checkout::Free)
}

/// How long a check-out still lasts, where the manager says so.
pub(super) fn left(state: &State) -> Option<Duration> {
    minutes(state.check_out_minutes_remaining)
}

/// A number of minutes that the manager gave.
pub(super) fn minutes(given: Option<i64>) -> Option<Duration> {
    let minutes = u64::try_from(given?).ok()?;
    minutes.checked_mul(60).map(Duration::from_secs)
}

/// It may be free later.
pub(super) fn busy(why: &str, left: Option<Duration>) -> ManagerError {
    let until = match left {
        Some(left) => format!(", until {} min from now", left.as_secs().div_ceil(60)),
        None => String::new(),
    };
    ManagerError::new(Fault::Busy, format!("{why}{until}")).after(left)
}

fn needs_approval() -> ManagerError {
    ManagerError::new(
        Fault::NeedsApproval,
        "each view of the secret must be approved: an approver has to approve a request of the hub's \
         account at the manager, or its owner to exempt that account; the hub files no requests",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        serde_json::from_str(r#"{"id":1,"name":"db"}"#).unwrap()
    }

    fn state(json: &str) -> State {
        let members = json.trim_start_matches('{');
        serde_json::from_str(&format!(r#"{{"id":1,{members}"#)).unwrap()
    }

    fn judged(json: &str, comment: bool, checkout: bool) -> Result<Access, Fault> {
        let allowed = Allowed {
            comment: comment.then(|| "edge delivery".to_owned()),
            checkout,
        };
        access(&summary(), &state(json), &allowed).map_err(|error| error.fault)
    }

    fn named(name: &str) -> String {
        format!(r#"{{"secretState":"{name}"}}"#)
    }

    #[test]
    fn every_state_has_its_answer() {
        let plain = Access {
            comment: false,
            checkout: None,
        };
        let commented = Access {
            comment: true,
            ..plain
        };
        let free = Access {
            checkout: Some(Checkout::Free),
            ..plain
        };
        let both = Access {
            comment: true,
            ..free
        };
        for (name, without, with) in [
            ("None", Ok(plain), Ok(plain)),
            (
                "RequiresApproval",
                Err(Fault::NeedsApproval),
                Err(Fault::NeedsApproval),
            ),
            ("RequiresComment", Err(Fault::NeedsComment), Ok(commented)),
            ("RequiresCheckout", Err(Fault::NeedsCheckout), Ok(free)),
            (
                "RequiresCheckoutAndComment",
                Err(Fault::NeedsCheckout),
                Ok(both),
            ),
            (
                "RequiresCheckoutPendingRPC",
                Err(Fault::NeedsCheckout),
                Err(Fault::Busy),
            ),
            (
                "RequiresDoubleLockPassword",
                Err(Fault::Unsupported),
                Err(Fault::Unsupported),
            ),
            (
                "CreateDoubleLockPassword",
                Err(Fault::Unsupported),
                Err(Fault::Unsupported),
            ),
            (
                "DoubleLockNoAccess",
                Err(Fault::Unsupported),
                Err(Fault::Unsupported),
            ),
            (
                "CannotView",
                Err(Fault::NotFoundOrDenied),
                Err(Fault::NotFoundOrDenied),
            ),
            (
                "RequiresUndelete",
                Err(Fault::NotFoundOrDenied),
                Err(Fault::NotFoundOrDenied),
            ),
            (
                "SomethingNew",
                Err(Fault::Unsupported),
                Err(Fault::Unsupported),
            ),
        ] {
            assert_eq!(judged(&named(name), false, false), without, "{name}");
            assert_eq!(judged(&named(name), true, true), with, "{name}");
        }
        let both_wanted = named("RequiresCheckoutAndComment");
        assert_eq!(judged(&both_wanted, false, true), Err(Fault::NeedsComment));
    }

    #[test]
    fn only_an_outright_deactivation_is_a_deletion() {
        let inactive = r#"{"secretState":"RequiresUndelete","isActive":false}"#;
        assert_eq!(judged(inactive, true, true), Err(Fault::Deleted));
        let unsaid = r#"{"secretState":"RequiresUndelete","isActive":null}"#;
        assert_eq!(judged(unsaid, true, true), Err(Fault::NotFoundOrDenied));
    }

    #[test]
    fn whose_checkout_it_is_decides() {
        let ours = r#"{"secretState":"None","isCheckedOut":true,"isCheckedOutByCurrentUser":true}"#;
        let access = judged(ours, false, true).unwrap();
        assert_eq!(access.checkout, Some(Checkout::Ours));
        assert_eq!(judged(ours, false, false), Err(Fault::NeedsCheckout));
        let theirs = state(
            r#"{"secretState":"RequiresCheckout","isCheckedOut":true,
                "isCheckedOutByCurrentUser":false,"checkOutMinutesRemaining":17}"#,
        );
        let allowed = Allowed {
            comment: None,
            checkout: true,
        };
        let error = super::access(&summary(), &theirs, &allowed).unwrap_err();
        assert_eq!(error.fault, Fault::Busy);
        assert!(error.detail.contains("17 min"), "{error}");
        assert_eq!(error.retry_after, Some(Duration::from_secs(17 * 60)));
    }
}
