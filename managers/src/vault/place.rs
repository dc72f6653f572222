//! From a reference to the place in Vault that it means.

use super::config::{Engine, Mount};
use crate::{Fault, ManagerError, SecretRef, Target};

/// The mounts of a configuration.
pub(super) struct Mounts {
    mounts: Vec<Mount>,
    /// Which of them is meant where a reference names none.
    default: Option<usize>,
}

/// One secret's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Kv1(Path),
    Kv2(Path),
    Dynamic(Path),
}

/// A path within a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) mount: String,
    pub(super) path: String,
}

/// A folder that is to be listed.
pub(super) struct Folder<'a> {
    pub(super) engine: Engine,
    /// Within the mount, with a slash at its end unless it is the top.
    pub(super) path: Path,
    /// What stands before the names in it to make a reference's path.
    pub(super) prefix: &'a str,
}

impl Mounts {
    pub(super) fn new(mounts: &[Mount]) -> Self {
        Self {
            mounts: mounts.to_vec(),
            default: mounts.iter().position(|m| m.engine != Engine::Dynamic),
        }
    }

    pub(super) fn locate(&self, target: Target<'_>) -> Result<Place, ManagerError> {
        let path = target.reference.path();
        let refused = |why: String| Err(ManagerError::new(Fault::Invalid, why));
        let Some((at, rest)) = self.of(&path) else {
            return refused(format!(
                "{} is on no mount of hub.yaml, and there is no KV mount to be the default one",
                target.reference
            ));
        };
        let Some(mount) = self.mounts.get(at) else {
            return refused(format!("{} is on no mount", target.reference));
        };
        if Some(at) == self.default && rest.len() < path.len() {
            return refused(self.spelled(target.reference, rest));
        }
        if rest.is_empty() {
            return refused(format!(
                "{} names a mount and no secret on it",
                target.reference
            ));
        }
        let place = Path {
            mount: mount.path.as_str().to_owned(),
            path: format!("{}{rest}", mount.root.of(target.org.as_str())),
        };
        match mount.engine {
            Engine::Kv1 => Ok(Place::Kv1(place)),
            Engine::Kv2 => Ok(Place::Kv2(place)),
            Engine::Dynamic => {
                expect_credentials(target, rest)?;
                Ok(Place::Dynamic(place))
            }
        }
    }

    /// The folder that a listing's prefix means.
    pub(super) fn folder<'a>(
        &self,
        org: &str,
        prefix: &'a str,
    ) -> Result<Folder<'a>, ManagerError> {
        let invalid = || ManagerError::new(Fault::Invalid, "there is no such folder on its mounts");
        let fits = |part: &str| !part.is_empty() && !matches!(part, "." | "..");
        let path = prefix.trim_end_matches('/');
        if !path.is_empty() && !path.split('/').all(fits) {
            return Err(invalid());
        }
        let (at, rest) = self.of(path).ok_or_else(invalid)?;
        let mount = self.mounts.get(at).ok_or_else(invalid)?;
        if Some(at) == self.default && rest.len() < path.len() {
            return Err(invalid());
        }
        let rest = match rest {
            "" => String::new(),
            rest => format!("{rest}/"),
        };
        Ok(Folder {
            engine: mount.engine,
            path: Path {
                mount: mount.path.as_str().to_owned(),
                path: format!("{}{rest}", mount.root.of(org)),
            },
            prefix: path,
        })
    }

    /// Whether every reference has to name a mount.
    pub(super) fn has_no_default(&self) -> bool {
        self.default.is_none()
    }

    /// The mounts that references name, other than the default one.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        let named = self.mounts.iter().enumerate();
        named
            .filter(|(at, _)| Some(*at) != self.default)
            .map(|(_, mount)| mount.path.as_str())
    }

    /// The mount with the longest path that `path` begins with, and the rest of it.
    fn of<'a>(&self, path: &'a str) -> Option<(usize, &'a str)> {
        let named = self.mounts.iter().enumerate().filter_map(|(at, mount)| {
            let rest = path.strip_prefix(mount.path.as_str())?;
            match rest.strip_prefix('/') {
                Some(rest) => Some((at, rest)),
                None => rest.is_empty().then_some((at, rest)),
            }
        });
        // A default mount's own name, alone, is as good a name for a secret as any.
        let named = named.filter(|(at, rest)| Some(*at) != self.default || !rest.is_empty());
        named
            .min_by_key(|(_, rest)| rest.len())
            .or_else(|| self.default.map(|at| (at, path)))
    }

    fn spelled(&self, reference: &SecretRef, rest: &str) -> String {
        let manager = reference
            .manager()
            .map(|manager| format!("{manager}:"))
            .unwrap_or_default();
        format!(
            "{reference} names the default mount, which is meant without: write {manager}{rest} \
             (without `data/` too, if that stands there for the API's sake)"
        )
    }
}

impl Place {
    /// All of it, as Vault's own command line has it.
    pub(super) fn canonical(&self) -> String {
        let (Self::Kv1(at) | Self::Kv2(at) | Self::Dynamic(at)) = self;
        format!("{}/{}", at.mount, at.path)
    }
}

/// On a dynamic mount only what makes a credential is a secret: a read of anything else there shows
/// how the engine is set up.
fn expect_credentials(target: Target<'_>, rest: &str) -> Result<(), ManagerError> {
    match rest.split('/').collect::<Vec<_>>().as_slice() {
        ["creds" | "sts", _] => Ok(()),
        ["static-creds", ..] => Err(ManagerError::unsupported(
            target,
            "is a static role, whose password Vault changes by itself: such are not delivered",
        )),
        _ => Err(ManagerError::new(
            Fault::Invalid,
            format!(
                "{} is on a dynamic mount, where secrets are MOUNT/creds/ROLE",
                target.reference
            ),
        )),
    }
}
