//! Which secret a reference means: a path of folders, or the manager's own number.

use crate::{Fault, ManagerError, SecretRef};

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// `<Folder>/<Sub>/<Name>`: the folders may be none.
    Path {
        /// From the top, without a slash at its end.
        folder: String,
        /// The secret's own name.
        name: String,
    },
    /// `id/<number>`.
    Id(u64),
}

impl Place {
    /// What the reference means.
    pub(super) fn of(reference: &SecretRef) -> Result<Self, ManagerError> {
        if reference.user().is_some() || reference.node().is_some() {
            return Err(refused(
                "has no secrets of users or nodes: a folder of that name is referred to by id/<number>",
            ));
        }
        Self::of_path(&reference.path())
    }

    fn of_path(path: &str) -> Result<Self, ManagerError> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if path == ID || folder == ID || folder.starts_with("id/") {
            // One secret has one number, written in one way.
            let number = name.parse().ok().filter(|id| *id > 0);
            let number = number.filter(|id: &u64| folder == ID && id.to_string() == name);
            return number
                .map(Self::Id)
                .ok_or_else(|| refused("takes a number after id/, as in id/1234"));
        }
        Ok(Self::Path {
            folder: folder.to_owned(),
            name: name.to_owned(),
        })
    }

    /// As the path policy is asked about it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Path { folder, name } => format!("{}{name}", prefix(folder)),
            Self::Id(id) => format!("{ID}/{id}"),
        }
    }
}

/// The path in a reference of what is called `name` in `folder`; none when no reference can be written
/// so.
pub(super) fn written(folder: &str, name: &str) -> Option<String> {
    let path = format!("{}{name}", prefix(folder));
    // A name with a slash would be another place.
    let plain = !name.is_empty() && !name.contains('/');
    let reference: SecretRef = format!("x:{path}").parse().ok()?;
    let place = Place::of(&reference).ok()?;
    (plain && matches!(&place, Place::Path { .. }) && place.text() == path).then_some(path)
}

/// `folder` as what stands before a name in it.
pub(super) fn prefix(folder: &str) -> String {
    match folder {
        "" => String::new(),
        folder => format!("{folder}/"),
    }
}

/// The folder's path as the manager writes it: `\a\b`.
pub(super) fn at_manager(folder: &str) -> String {
    format!("\\{}", folder.replace('/', "\\"))
}

/// The manager's `\a\b` as it is written here; none when a part has a slash in it.
pub(super) fn from_manager(path: &str) -> Option<String> {
    (!path.contains('/')).then(|| path.trim_matches('\\').replace('\\', "/"))
}

fn refused(why: &str) -> ManagerError {
    ManagerError::new(Fault::Invalid, format!("this secrets manager {why}"))
}

const ID: &str = "id";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Result<Place, ManagerError> {
        Place::of(&text.parse().unwrap())
    }

    #[test]
    fn references_are_paths_or_numbers() {
        for (text, place) in [
            ("pim:BU044/Team (EU)/db", "BU044/Team (EU)/db"),
            ("pim:/BU044/db", "BU044/db"),
            ("pim:db", "db"),
            ("pim:id/1234", "id/1234"),
            ("pim:Team/id/1234", "Team/id/1234"),
        ] {
            assert_eq!(of(text).unwrap().text(), place);
        }
        assert_eq!(of("pim:id/1234").unwrap(), Place::Id(1234));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in [
            "pim:id",
            "pim:id/0",
            "pim:id/01",
            "pim:id/+1",
            "pim:id/x",
            "pim:id/1/2",
            "pim:id/99999999999999999999",
            "pim:user/alice/db",
            "pim:node/edge-01/db",
        ] {
            assert_eq!(of(text).unwrap_err().fault, Fault::Invalid, "{text}");
        }
    }

    #[test]
    fn only_what_can_be_referred_to_is_written() {
        assert_eq!(written("a/b", "c d").as_deref(), Some("a/b/c d"));
        assert_eq!(written("", "c").as_deref(), Some("c"));
        for (folder, name) in [
            ("a", "b/c"),
            ("a", "b\\c"),
            ("a", "b#c"),
            ("a", "b."),
            ("a", ".."),
            ("a", ""),
            ("id", "7"),
            ("", "id"),
            ("user/alice", "x"),
            ("", "openhorizon"),
        ] {
            assert_eq!(written(folder, name), None, "{folder:?} {name:?}");
        }
    }

    #[test]
    fn folders_are_written_with_backslashes_there() {
        assert_eq!(at_manager("a/b c"), "\\a\\b c");
        assert_eq!(from_manager("\\a\\b c").as_deref(), Some("a/b c"));
        assert_eq!(from_manager("\\a/b"), None);
    }

    proptest! {
        #[test]
        fn a_place_is_its_own_reference(text in "[a-zA-Z0-9 ._@-]{1,8}(/[a-z0-9. ]{1,6}){0,3}") {
            if let Ok(reference) = format!("pim:{text}").parse::<SecretRef>()
                && let Ok(place) = Place::of(&reference)
            {
                let again: SecretRef = format!("pim:{}", place.text()).parse().unwrap();
                prop_assert_eq!(Place::of(&again).unwrap(), place);
            }
        }
    }
}
