//! Who may ask. The socket's mode keeps others away already; this holds where somebody loosened it,
//! and against processes that file modes do not bind.

use std::os::fd::AsFd;

use edge_secrets_protocol::{Code, Problem};
use nix::unistd::geteuid;
use tokio::net::UnixStream;

use crate::sys;

/// Who asks, as the kernel knows it since the connection was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: u32,
    gid: u32,
    /// Its supplementary groups. The process's own rather than those of the user's entry in the
    /// group database: a unit may have the group by `SupplementaryGroups=` alone.
    groups: Vec<u32>,
}

impl Peer {
    /// The peer of a connection; `None` when the kernel does not tell.
    pub(super) fn of(stream: &UnixStream) -> Option<Self> {
        let credentials = stream.peer_cred().ok()?;
        Some(Self {
            uid: credentials.uid(),
            gid: credentials.gid(),
            groups: sys::peer_groups(stream.as_fd()).unwrap_or_default(),
        })
    }

    /// Lets root, the agent's own user and the socket's group through.
    ///
    /// # Errors
    /// What the others are told.
    pub(super) fn admit(&self, group: u32) -> Result<(), Problem> {
        let known = self.uid == 0 || self.uid == geteuid().as_raw();
        if known || self.gid == group || self.groups.contains(&group) {
            return Ok(());
        }
        Err(Problem::new(
            Code::Denied,
            format!(
                "user {} may not ask: this is for root and for members of the socket's group \
                 ({group}); join it, or use sudo",
                self.uid
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::{getegid, getgroups};

    use super::*;

    fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        Peer {
            uid,
            gid,
            groups: groups.to_vec(),
        }
    }

    #[test]
    fn root_the_agent_and_the_sockets_group_may_ask_and_nobody_else() {
        let me = geteuid().as_raw();
        assert!(peer(0, 9, &[]).admit(7).is_ok());
        assert!(peer(me, 9, &[]).admit(7).is_ok());
        assert!(peer(me + 1, 7, &[]).admit(7).is_ok());
        assert!(peer(me + 1, 9, &[8, 7]).admit(7).is_ok());
        let problem = peer(me + 1, 9, &[8]).admit(7).unwrap_err();
        assert_eq!((problem.code, problem.status), (Code::Denied, 403));
    }

    #[tokio::test]
    async fn the_kernel_names_the_peer_with_its_groups() {
        let (here, _there) = UnixStream::pair().unwrap();
        let found = Peer::of(&here).unwrap();
        assert_eq!(found.uid, geteuid().as_raw());
        assert_eq!(found.gid, getegid().as_raw());
        let mut own: Vec<_> = getgroups().unwrap().iter().map(|g| g.as_raw()).collect();
        let mut told = found.groups;
        own.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, own);
    }
}
