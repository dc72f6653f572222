//! Whom files belong to: the profile's names looked up among the host's users and groups.

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User};

use crate::consumers::profile::Principal;

/// What a file's owner and group become; what is absent stays the agent's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ownership {
    pub(crate) uid: Option<Uid>,
    pub(crate) gid: Option<Gid>,
}

/// Why files cannot be given to whom the profile says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OwnerError {
    /// There is no such user on this host, or not yet.
    #[error("unknown user `{0}`: make it, or change `owner` in its profile")]
    UnknownUser(String),
    /// There is no such group on this host, or not yet.
    #[error("unknown group `{0}`: make it, or change `group` in its profile")]
    UnknownGroup(String),
    /// `chown(2)` takes this number as "leave it".
    #[error("{key} {id} is reserved and belongs to nobody: change `{key}` in its profile")]
    Reserved {
        /// The profile's key.
        key: &'static str,
        /// What it says.
        id: u32,
    },
    /// The host's user database gave no answer.
    #[error("cannot look up {key} `{name}`: {errno}; the host's user database does not answer")]
    Lookup {
        /// The profile's key.
        key: &'static str,
        /// Who was looked for.
        name: String,
        /// Why.
        errno: Errno,
    },
}

/// Looks both up, now: users may come and go.
///
/// A number is taken as it is, whether anybody has it or not. Without `group` it is the primary group
/// of the owner; of a number that no user has, as those that containers map to, no group is known, and
/// it stays the agent's own rather than one that happens to have the same number.
///
/// Blocks for as long as the host's user database takes, which asks the network where the host's
/// nsswitch.conf(5) says so.
///
/// # Errors
/// When there is no such user or group, or nobody to ask.
pub(crate) fn resolve(
    owner: Option<&Principal>,
    group: Option<&Principal>,
) -> Result<Ownership, OwnerError> {
    let (uid, primary) = match owner {
        None => (None, None),
        Some(Principal::Name(name)) => {
            let user = User::from_name(name)
                .map_err(|errno| lookup(OWNER, name, errno))?
                .ok_or_else(|| OwnerError::UnknownUser(name.clone()))?;
            (Some(user.uid), Some(user.gid))
        }
        Some(Principal::Id(id)) => {
            let uid = Uid::from_raw(taken(OWNER, *id)?);
            let primary = match group {
                Some(_) => None,
                None => User::from_uid(uid)
                    .map_err(|errno| lookup(OWNER, &id.to_string(), errno))?
                    .map(|user| user.gid),
            };
            (Some(uid), primary)
        }
    };
    let gid = match group {
        None => primary,
        Some(Principal::Name(name)) => {
            let group = Group::from_name(name)
                .map_err(|errno| lookup(GROUP, name, errno))?
                .ok_or_else(|| OwnerError::UnknownGroup(name.clone()))?;
            Some(group.gid)
        }
        Some(Principal::Id(id)) => Some(Gid::from_raw(taken(GROUP, *id)?)),
    };
    Ok(Ownership { uid, gid })
}

fn taken(key: &'static str, id: u32) -> Result<u32, OwnerError> {
    if id == u32::MAX {
        return Err(OwnerError::Reserved { key, id });
    }
    Ok(id)
}

fn lookup(key: &'static str, name: &str, errno: Errno) -> OwnerError {
    OwnerError::Lookup {
        key,
        name: name.to_owned(),
        errno,
    }
}

const OWNER: &str = "owner";
const GROUP: &str = "group";

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Principal {
        Principal::Name(name.to_owned())
    }

    #[test]
    fn without_a_word_everything_stays_the_agents() {
        assert_eq!(resolve(None, None).unwrap(), Ownership::default());
    }

    #[test]
    fn an_owner_brings_the_primary_group() {
        let root = Ownership {
            uid: Some(Uid::from_raw(0)),
            gid: Some(Gid::from_raw(0)),
        };
        assert_eq!(resolve(Some(&named("root")), None).unwrap(), root);
        assert_eq!(resolve(Some(&Principal::Id(0)), None).unwrap(), root);
        let nobody = User::from_name("nobody").unwrap().unwrap();
        let owned = resolve(Some(&named("nobody")), None).unwrap();
        assert_eq!((owned.uid, owned.gid), (Some(nobody.uid), Some(nobody.gid)));
        assert_ne!(owned.uid, root.uid);
    }

    #[test]
    fn a_group_that_is_named_wins_over_the_owners() {
        let nobody = named("nobody");
        let owned = resolve(Some(&nobody), Some(&named("root"))).unwrap();
        assert_eq!(owned.gid, Some(Gid::from_raw(0)));
        let owned = resolve(Some(&nobody), Some(&Principal::Id(54_321))).unwrap();
        assert_eq!(owned.gid, Some(Gid::from_raw(54_321)));
        let alone = resolve(None, Some(&named("root"))).unwrap();
        assert_eq!((alone.uid, alone.gid), (None, Some(Gid::from_raw(0))));
    }

    #[test]
    fn a_number_that_no_user_has_brings_no_group() {
        let free = (3_000_000_000..)
            .find(|id| User::from_uid(Uid::from_raw(*id)).is_ok_and(|user| user.is_none()));
        let free = free.unwrap();
        let owned = resolve(Some(&Principal::Id(free)), None).unwrap();
        assert_eq!((owned.uid, owned.gid), (Some(Uid::from_raw(free)), None));
    }

    #[test]
    fn who_is_not_there_is_named_with_what_to_do() {
        let ghost = named("no-such-user-here");
        let error = resolve(Some(&ghost), None).unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown user `no-such-user-here`: make it, or change `owner` in its profile"
        );
        let error = resolve(None, Some(&ghost)).unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown group `no-such-user-here`: make it, or change `group` in its profile"
        );
        assert!(resolve(Some(&named("ro\0ot")), None).is_err());
    }

    #[test]
    fn the_number_that_would_leave_files_as_they_are_is_refused() {
        let all = Principal::Id(u32::MAX);
        assert!(resolve(Some(&all), None).is_err());
        assert!(resolve(None, Some(&all)).is_err());
    }
}
