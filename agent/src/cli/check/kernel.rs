//! What this kernel can do to keep values where they are.

use super::finding::Finding;
use super::patient::Patient;
use crate::memory::{LockedBuffer, Protection};

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let release = patient
        .read("proc/sys/kernel/osrelease")
        .unwrap_or_default();
    let cmdline = patient.read("proc/cmdline").unwrap_or_default();
    vec![noswap(release.trim()), memory(), init_on_free(&cmdline)]
}

fn noswap(release: &str) -> Finding {
    match version(release) {
        None => Finding::skipped(KERNEL, format!("the release {release:?} is not understood")),
        Some(version) if version >= NOSWAP => Finding::ok(
            KERNEL,
            format!("Linux {release}: tmpfs can be mounted noswap"),
        ),
        Some(_) => Finding::warning(
            KERNEL,
            format!("Linux {release}: tmpfs has no noswap before 6.4"),
            "switch swap off or encrypt it, or take a newer kernel",
        ),
    }
}

fn memory() -> Finding {
    match LockedBuffer::new().map(|buffer| buffer.protection()) {
        Ok(it @ Protection::SecretMemory) => Finding::ok(KERNEL, it.to_string()),
        Ok(it @ Protection::Locked) => Finding::ok(KERNEL, it.to_string())
            .advise("secret memory is better: Linux 6.5, or secretmem.enable=1 at boot before"),
        Ok(it @ Protection::Unlocked) => Finding::warning(
            KERNEL,
            it.to_string(),
            "the unit of the package has LimitMEMLOCK=infinity; `ulimit -l` is for a shell",
        ),
        Err(error) => Finding::warning(KERNEL, error.to_string(), "give this machine memory"),
    }
}

fn init_on_free(cmdline: &str) -> Finding {
    if cmdline
        .split_whitespace()
        .any(|word| word == "init_on_free=1")
    {
        return Finding::ok(KERNEL, "init_on_free=1: freed pages are wiped");
    }
    Finding::ok(KERNEL, "init_on_free=1 is not on the kernel's command line").advise(
        "with it, freed pages of services that read a secret are wiped too, for 3-5 % of speed",
    )
}

/// Major and minor version of a release like `6.18.44-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

const KERNEL: &str = "kernel";
const NOSWAP: (u32, u32) = (6, 4);

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::patient::fabricated;
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        for (release, verdict) in [
            ("6.18.44-amd64", Verdict::Ok),
            ("6.4", Verdict::Ok),
            ("10.0-rc1", Verdict::Ok),
            ("6.1.0-18-amd64", Verdict::Warning),
            ("5.15.0", Verdict::Warning),
            ("", Verdict::Skipped),
            ("six", Verdict::Skipped),
        ] {
            assert_eq!(noswap(release).verdict, verdict, "{release}");
        }
    }

    #[test]
    fn wiping_of_freed_pages_is_an_advice() {
        let (_root, patient) = fabricated::patient();
        assert!(check(&patient)[2].advice.is_some());
        patient.write("proc/cmdline", "ro init_on_free=1 quiet\n");
        assert_eq!(check(&patient)[2].advice, None);
        assert_eq!(check(&patient)[2].verdict, Verdict::Ok);
    }
}
