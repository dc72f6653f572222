//! Where values are delivered: in memory, out of swap, the agent's own, and not full.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::stat::{major, minor};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use nix::sys::statvfs::statvfs;

use super::super::Exit;
use super::finding::Finding;
use super::patient::Patient;
use crate::config::Mount;

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let dir = &patient.config.runtime_dir;
    let shown = dir.display();
    let found = match fs::metadata(dir) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return vec![Finding::ok(
                RUNTIME_DIR,
                format!("{shown} is made when the agent starts"),
            )];
        }
        Err(error) => {
            let what = format!("{shown} cannot be looked at: {error}");
            let advice = "make it reachable (mode 0755), or run this as root";
            return vec![Finding::failed(RUNTIME_DIR, Exit::Usage, what, advice)];
        }
    };
    let kind = kind(patient, dir);
    let is_memory = matches!(kind, Kind::Tmpfs { .. } | Kind::Ramfs);
    let mut findings = vec![match kind {
        Kind::Tmpfs { noswap: true } => {
            Finding::ok(RUNTIME_DIR, format!("{shown} is tmpfs with noswap"))
        }
        Kind::Ramfs => Finding::ok(RUNTIME_DIR, format!("{shown} is ramfs, never swapped")),
        Kind::Tmpfs { noswap: false } if patient.swaps().is_empty() => Finding::ok(
            RUNTIME_DIR,
            format!("{shown} is tmpfs without noswap, and there is no swap"),
        ),
        Kind::Tmpfs { noswap: false } => Finding::warning(
            RUNTIME_DIR,
            format!("{shown} is tmpfs without noswap, and there is swap"),
            format!(
                "mount one there: mount -t tmpfs -o \
                 noswap,nosuid,nodev,noexec,mode=0755 edge-secrets {shown} (Linux 6.4)"
            ),
        ),
        Kind::Other if patient.config.tmpfs.mount == Mount::Auto && patient.uid == 0 => {
            Finding::ok(
                RUNTIME_DIR,
                format!("{shown} gets a tmpfs when the agent starts"),
            )
        }
        Kind::Other => Finding::failed(
            RUNTIME_DIR,
            Exit::Usage,
            format!("{shown} is not tmpfs; values are written nowhere else"),
            "mount one there, run as root with tmpfs.mount: auto, or name a directory under \
             XDG_RUNTIME_DIR or /dev/shm",
        ),
    }];
    findings.extend(access(patient, dir, &found));
    if is_memory {
        findings.extend(room(dir));
    }
    findings
}

/// Whether what is written to the runtime directory stays out of swap by itself.
pub(super) fn never_swapped(patient: &Patient) -> bool {
    let kind = kind(patient, &patient.config.runtime_dir);
    matches!(kind, Kind::Tmpfs { noswap: true } | Kind::Ramfs)
}

enum Kind {
    Tmpfs { noswap: bool },
    Ramfs,
    Other,
}

fn kind(patient: &Patient, dir: &Path) -> Kind {
    match statfs(dir).map(|found| found.filesystem_type()) {
        Ok(TMPFS_MAGIC) => {
            let mounts = patient.read("proc/self/mountinfo").unwrap_or_default();
            let device = fs::metadata(dir)
                .map(|found| found.dev())
                .unwrap_or_default();
            let device = format!("{}:{}", major(device), minor(device));
            Kind::Tmpfs {
                noswap: has_noswap(&mounts, &device),
            }
        }
        Ok(RAMFS_MAGIC) => Kind::Ramfs,
        _ => Kind::Other,
    }
}

/// Whether the mount of that device says `noswap` (proc(5), `mountinfo`).
fn has_noswap(mounts: &str, device: &str) -> bool {
    mounts
        .lines()
        .filter(|line| line.split(' ').nth(2) == Some(device))
        .filter_map(|line| line.rsplit(' ').next())
        .any(|options| options.split(',').any(|option| option == "noswap"))
}

/// Whoever may write there decides what services read; who may not pass cannot read.
fn access(patient: &Patient, dir: &Path, found: &fs::Metadata) -> Vec<Finding> {
    let (shown, mode, owner) = (dir.display(), found.mode() & 0o7777, found.uid());
    let agent = patient.agent_uid();
    let mut findings = Vec::new();
    if owner != agent {
        findings.push(Finding::failed(
            RUNTIME_DIR,
            Exit::Usage,
            format!("{shown} belongs to user {owner}, and the agent runs as user {agent}"),
            format!("chown {agent} {shown}"),
        ));
    }
    if mode & 0o022 != 0 {
        findings.push(Finding::failed(
            RUNTIME_DIR,
            Exit::Usage,
            format!("{shown} can be written to by others (mode {mode:04o})"),
            format!("chmod go-w {shown}"),
        ));
    }
    if mode & 0o001 == 0 {
        findings.push(Finding::warning(
            RUNTIME_DIR,
            format!("services of other users do not get through {shown} (mode {mode:04o})"),
            format!("chmod o+x {shown}, unless all services run as the agent's user"),
        ));
    }
    findings
}

fn room(dir: &Path) -> Option<Finding> {
    let found = statvfs(dir).ok()?;
    let used = |total: u64, free: u64| match total {
        // Without a bound.
        0 => 0,
        total => total.saturating_sub(free) * 100 / total,
    };
    let bytes = used(found.blocks(), found.blocks_free());
    let files = used(found.files(), found.files_free());
    let size = found.blocks() * found.fragment_size() / 1024;
    let what = format!("{bytes} % of {size} KiB and {files} % of its files are used");
    Some(match bytes.max(files) {
        100 => Finding::failed(RUNTIME_DIR, Exit::Other, what, MORE),
        FULL.. => Finding::warning(RUNTIME_DIR, what, MORE),
        _ => Finding::ok(RUNTIME_DIR, what),
    })
}

const RUNTIME_DIR: &str = "runtime directory";
const FULL: u64 = 80;
const MORE: &str = "a rotation needs room for old and new: raise tmpfs.size, or the mount's size=";
/// `RAMFS_MAGIC` of linux/magic.h.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::super::finding::Verdict;
    use super::super::patient::fabricated;
    use super::*;

    fn verdicts(patient: &Patient) -> Vec<Verdict> {
        check(patient).iter().map(|found| found.verdict).collect()
    }

    #[test]
    fn a_directory_of_its_own_on_tmpfs_is_right() {
        let (_root, patient) = fabricated::patient();
        assert_eq!(verdicts(&patient), [Verdict::Ok], "not there yet");
        let dir = &patient.config.runtime_dir;
        fs::create_dir(dir).unwrap();
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
        let found = verdicts(&patient);
        assert_eq!(found[0], Verdict::Ok);
        assert!(
            found.len() == 2 && found[1] != Verdict::Skipped,
            "{found:?}"
        );
    }

    #[test]
    fn swap_without_noswap_is_a_warning() {
        let (_root, patient) = fabricated::patient();
        let dir = &patient.config.runtime_dir;
        fs::create_dir(dir).unwrap();
        patient.write("proc/swaps", "Filename\n/dev/sda2 partition 1 0 -2\n");
        assert_eq!(verdicts(&patient)[0], Verdict::Warning);
        let device = fs::metadata(dir).unwrap().dev();
        let (major, minor) = (major(device), minor(device));
        let line = format!("36 35 {major}:{minor} / /x rw,nosuid - tmpfs t rw,size=9,noswap\n");
        patient.write("proc/self/mountinfo", &line);
        assert_eq!(verdicts(&patient)[0], Verdict::Ok);
        assert!(never_swapped(&patient));
    }

    #[test]
    fn modes_that_let_others_write_or_nobody_through_are_told() {
        let (_root, patient) = fabricated::patient();
        let dir = &patient.config.runtime_dir;
        fs::create_dir(dir).unwrap();
        for (mode, verdict) in [(0o777, Verdict::Failed), (0o700, Verdict::Warning)] {
            fs::set_permissions(dir, Permissions::from_mode(mode)).unwrap();
            assert_eq!(verdicts(&patient)[1], verdict, "{mode:o}");
        }
    }

    #[test]
    fn only_the_mounts_own_options_count() {
        let mounts = "1 0 0:5 / /a rw - tmpfs t rw,noswap\n2 0 0:6 / /b rw,noswap - tmpfs t rw\n";
        assert!(has_noswap(mounts, "0:5"));
        assert!(!has_noswap(mounts, "0:6"));
        assert!(!has_noswap(mounts, "0:7"));
    }
}
