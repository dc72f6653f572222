//! Who may do what: one table, asked on every call.
//!
//! Open Horizon's rules (an administrator keeps the organisation's secrets and may list and remove,
//! but never read, write or bind, those of others; a user sees the names of the organisation's
//! secrets and owns theirs), without its confused deputy: binding is a right of its own, so nobody
//! reaches another's secret through a policy. A node-level secret follows the rules of its scope.

use edge_secrets_protocol::{OrgId, UserId};

use crate::catalog::records::Role;
use crate::reference::SecretRef;

/// Who asks, as the certificate and the catalog say.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Their organisation.
    pub org: &'a OrgId,
    /// Their name.
    pub user: &'a UserId,
    /// What they are in it.
    pub role: Role,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Call<'a> {
    /// Something with a secret.
    Secret(SecretCall, &'a SecretRef),
    /// To list or read service definitions and policies, and where they stand; to see nodes.
    See,
    /// To publish, replace or remove a service definition or policy. `owner` published what stands
    /// there now; absent when nothing does.
    Define {
        /// Who published what is replaced or removed.
        owner: Option<&'a UserId>,
    },
    /// To publish a pattern for other organisations, and to change, take back or remove one that is: it
    /// decides what nodes get that nobody here is answerable for.
    Share,
    /// To issue enrolment tokens, revoke or forget nodes, keep users, read the audit trail.
    Administer,
}

/// What is asked of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretCall {
    /// To know that it exists, its version and metadata, and who set it when.
    List,
    /// To know its fields, how its values are made and its older versions, and to see its value.
    Read,
    /// To set it, to make an old value the newest, or to change its metadata.
    Write,
    /// To remove it.
    Remove,
    /// To have a policy deliver it to nodes.
    Bind,
}

/// Whether `caller` may make `call` on something of `org`.
#[must_use]
pub fn allowed(caller: Caller<'_>, org: &OrgId, call: Call<'_>) -> bool {
    if caller.org != org {
        return false;
    }
    let admin = caller.role == Role::Admin;
    match call {
        Call::Secret(call, reference) => match reference.user() {
            Some(user) if user == caller.user => true,
            Some(_) => admin && matches!(call, SecretCall::List | SecretCall::Remove),
            None => admin || matches!(call, SecretCall::List | SecretCall::Bind),
        },
        Call::See => true,
        Call::Define { owner } => admin || owner.is_none_or(|owner| owner == caller.user),
        Call::Share | Call::Administer => admin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLS: [SecretCall; 5] = [
        SecretCall::List,
        SecretCall::Read,
        SecretCall::Write,
        SecretCall::Remove,
        SecretCall::Bind,
    ];

    /// Columns: list, read, write, remove, bind.
    const TABLE: [(Role, &str, [bool; 5]); 12] = [
        (Role::Admin, "db", [true, true, true, true, true]),
        (Role::Admin, "node/n1/db", [true, true, true, true, true]),
        (Role::Admin, "user/alice/db", [true, true, true, true, true]),
        (
            Role::Admin,
            "user/alice/node/n1/db",
            [true, true, true, true, true],
        ),
        (
            Role::Admin,
            "user/bob/db",
            [true, false, false, true, false],
        ),
        (
            Role::Admin,
            "user/bob/node/n1/db",
            [true, false, false, true, false],
        ),
        (Role::User, "db", [true, false, false, false, true]),
        (Role::User, "node/n1/db", [true, false, false, false, true]),
        (Role::User, "user/alice/db", [true, true, true, true, true]),
        (
            Role::User,
            "user/alice/node/n1/db",
            [true, true, true, true, true],
        ),
        (Role::User, "user/bob/db", [false; 5]),
        (Role::User, "user/bob/node/n1/db", [false; 5]),
    ];

    fn ask(role: Role, org: &str, call: Call<'_>) -> bool {
        let (home, user): (OrgId, UserId) = ("myorg".parse().unwrap(), "alice".parse().unwrap());
        let caller = Caller {
            org: &home,
            user: &user,
            role,
        };
        allowed(caller, &org.parse().unwrap(), call)
    }

    #[test]
    fn secrets_follow_the_table() {
        for (role, reference, row) in TABLE {
            // A manager's name in front changes nothing.
            for reference in [reference.to_owned(), format!("vault:{reference}")] {
                let reference: SecretRef = reference.parse().unwrap();
                for (call, expected) in CALLS.into_iter().zip(row) {
                    assert_eq!(
                        ask(role, "myorg", Call::Secret(call, &reference)),
                        expected,
                        "{role:?} {call:?} {reference}"
                    );
                }
            }
        }
    }

    #[test]
    fn definitions_are_their_publishers_and_the_administrators() {
        let (own, other): (UserId, UserId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        for (role, owner, expected) in [
            (Role::Admin, None, true),
            (Role::Admin, Some(&own), true),
            (Role::Admin, Some(&other), true),
            (Role::User, None, true),
            (Role::User, Some(&own), true),
            (Role::User, Some(&other), false),
        ] {
            assert_eq!(ask(role, "myorg", Call::Define { owner }), expected);
        }
    }

    #[test]
    fn everybody_sees_and_administrators_administer() {
        assert!(ask(Role::Admin, "myorg", Call::See));
        assert!(ask(Role::User, "myorg", Call::See));
        for call in [Call::Administer, Call::Share] {
            assert!(ask(Role::Admin, "myorg", call));
            assert!(!ask(Role::User, "myorg", call));
        }
    }

    #[test]
    fn another_organisation_is_closed_whatever_the_role() {
        let alice: UserId = "alice".parse().unwrap();
        for role in [Role::Admin, Role::User] {
            for (_, reference, _) in TABLE {
                let reference = reference.parse().unwrap();
                for call in CALLS {
                    assert!(!ask(role, "other", Call::Secret(call, &reference)));
                }
            }
            for owner in [None, Some(&alice)] {
                assert!(!ask(role, "other", Call::Define { owner }));
            }
            assert!(!ask(role, "other", Call::See));
            assert!(!ask(role, "other", Call::Share));
            assert!(!ask(role, "other", Call::Administer));
        }
    }
}
