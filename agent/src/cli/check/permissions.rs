//! Whether the agent can write what it needs to, and read what it is configured by.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, eaccess};

use super::super::Exit;
use super::finding::Finding;
use super::patient::Patient;

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    if !patient.sees_all() {
        let what = format!(
            "the agent is user {}, and this is {}",
            patient.agent_uid(),
            patient.uid
        );
        return vec![Finding::skipped(PERMISSIONS, what).advise("run this as root")];
    }
    let config = &patient.config;
    let write = AccessFlags::W_OK | AccessFlags::X_OK;
    let read = AccessFlags::R_OK | AccessFlags::X_OK;
    let needs = [
        ("state_dir", config.state_dir.as_path(), write),
        ("runtime_dir", &config.runtime_dir, write),
    ];
    let mut found: Vec<_> = needs
        .into_iter()
        .filter_map(|(key, path, how)| allowed(key, existing(path), how))
        .collect();
    if config.services_dir.exists() {
        found.extend(allowed("services_dir", &config.services_dir, read));
    }
    found.extend(disk(existing(&config.state_dir)));
    if found.is_empty() {
        found.push(Finding::ok(
            PERMISSIONS,
            "everything that is needed can be written",
        ));
    }
    found
}

fn allowed(key: &str, path: &Path, how: AccessFlags) -> Option<Finding> {
    let errno = eaccess(path, how).err()?;
    let shown = path.display();
    Some(match errno {
        Errno::EROFS => Finding::warning(
            PERMISSIONS,
            format!("{shown} ({key}) is read-only: secrets flow, renewal does not"),
            "remount it read-write, or set another state_dir, before the certificate ends",
        ),
        _ => Finding::failed(
            PERMISSIONS,
            Exit::Usage,
            format!("{shown} ({key}) cannot be used: {}", errno.desc()),
            "give it to the agent's user, or set another one",
        ),
    })
}

fn disk(path: &Path) -> Option<Finding> {
    let found = statvfs(path).ok()?;
    let free = found.blocks_available() * found.fragment_size();
    (free < LEAST_FREE).then(|| {
        Finding::warning(
            PERMISSIONS,
            format!(
                "{free} bytes are free at {}: renewal may fail",
                path.display()
            ),
            "make room; secrets flow meanwhile",
        )
    })
}

/// The path, or the nearest directory above that is there: where it would be made.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(path)
}

const PERMISSIONS: &str = "permissions";
const LEAST_FREE: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::patient::fabricated;
    use super::*;

    #[test]
    fn what_will_be_made_needs_a_place_to_be_made_in() {
        let (_root, mut patient) = fabricated::patient();
        assert_eq!(check(&patient)[0].verdict, Verdict::Ok);
        // A file is no directory, for root neither.
        patient.write("file", "");
        patient.config.state_dir = patient.root.join("file/state");
        let found = check(&patient);
        assert_ne!(found[0].verdict, Verdict::Ok, "{found:?}");
    }

    #[test]
    fn somebody_else_cannot_tell() {
        let (_root, mut patient) = fabricated::patient();
        patient.write("state/x", "");
        patient.uid += 1;
        assert_eq!(check(&patient)[0].verdict, Verdict::Skipped);
    }
}
