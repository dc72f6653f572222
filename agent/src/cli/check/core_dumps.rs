//! What becomes of a crashing service's memory. The agent itself leaves no dump.

use super::finding::Finding;
use super::patient::Patient;

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let pattern = patient.read("proc/sys/kernel/core_pattern");
    let suid = patient.read("proc/sys/fs/suid_dumpable");
    let mut found = vec![match pattern.as_deref().map(str::trim) {
        None => Finding::skipped(CORE_DUMPS, "core_pattern cannot be read"),
        Some("") => Finding::ok(CORE_DUMPS, "none is written"),
        Some(pattern) => {
            let advice = match pattern.strip_prefix('|') {
                Some(handler) if handler.contains("systemd-coredump") => {
                    "a service that read a secret leaves it in its dump: Storage=none in \
                     coredump.conf, or in the service a prctl(PR_SET_DUMPABLE, 0)"
                }
                Some(_) => {
                    "a service that read a secret leaves it in its dump, and LimitCORE= does not \
                     bind a handler: switch the handler off, or in the service dumping"
                }
                None => {
                    "a service that read a secret leaves it in its dump: LimitCORE=0 in its unit"
                }
            };
            Finding::ok(
                CORE_DUMPS,
                format!("the agent leaves none; others go to {pattern}"),
            )
            .advise(advice)
        }
    }];
    if suid.as_deref().map(str::trim) == Some("1") {
        found.push(Finding::warning(
            CORE_DUMPS,
            "fs.suid_dumpable is 1: programs that change their user leave dumps",
            "sysctl fs.suid_dumpable=0",
        ));
    }
    found
}

const CORE_DUMPS: &str = "core dumps";

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::patient::fabricated;
    use super::*;

    #[test]
    fn where_dumps_go_decides_what_is_advised() {
        let (_root, patient) = fabricated::patient();
        assert_eq!(check(&patient)[0].verdict, Verdict::Skipped);
        for (pattern, advice) in [
            ("", None),
            ("core.%p", Some("LimitCORE=0")),
            (
                "|/usr/lib/systemd/systemd-coredump %P",
                Some("Storage=none"),
            ),
            ("|/usr/share/apport/apport", Some("switch the handler off")),
        ] {
            patient.write("proc/sys/kernel/core_pattern", &format!("{pattern}\n"));
            let found = &check(&patient)[0];
            let told = found.advice.as_deref();
            assert_eq!(found.verdict, Verdict::Ok);
            assert_eq!(told.is_some(), advice.is_some(), "{pattern}");
            assert!(
                told.unwrap_or_default()
                    .contains(advice.unwrap_or_default()),
                "{told:?}"
            );
        }
        patient.write("proc/sys/fs/suid_dumpable", "1\n");
        assert_eq!(check(&patient)[1].verdict, Verdict::Warning);
        patient.write("proc/sys/fs/suid_dumpable", "2\n");
        assert_eq!(check(&patient).len(), 1);
    }
}
