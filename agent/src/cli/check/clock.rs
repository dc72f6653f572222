//! Certificates need a clock that is about right. What ends does not, but where a hub tells the time of
//! an end alone.

use jiff::Timestamp;

use super::super::Exit;
use super::finding::Finding;
use super::patient::Patient;

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let now = patient.now.strftime("%FT%TZ");
    let identity = patient.identity.as_ref().ok().and_then(Option::as_ref);
    let starts = identity.map(|identity| identity.validity.not_before);
    let time = if patient.now < BUILT {
        Some(format!("it says {now}, which is long past"))
    } else if starts.is_some_and(|starts| patient.now < starts) {
        let starts = starts.unwrap_or_default();
        Some(format!(
            "it says {now}, and the certificate starts at {starts}"
        ))
    } else {
        None
    };
    if let Some(what) = time {
        let advice = "set the clock right: timedatectl set-ntp true, or date --set";
        return vec![Finding::failed(CLOCK, Exit::Other, what, advice)];
    }
    let timesync = patient.root.join("run/systemd/timesync");
    vec![if timesync.join("synchronized").exists() {
        Finding::ok(CLOCK, format!("{now}, synchronised"))
    } else if timesync.exists() {
        Finding::warning(
            CLOCK,
            format!("{now}, not synchronised since boot"),
            "look at `timedatectl timesync-status`",
        )
    } else {
        Finding::skipped(
            CLOCK,
            format!("{now}; nothing tells whether it is synchronised"),
        )
    }]
}

const CLOCK: &str = "clock";
/// 2026-01-01: nothing of this program is older.
const BUILT: Timestamp = Timestamp::constant(1_767_225_600, 0);

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::patient::fabricated;
    use super::*;

    #[test]
    fn a_clock_without_a_battery_fails() {
        let (_root, mut patient) = fabricated::patient();
        patient.now = Timestamp::UNIX_EPOCH;
        assert_eq!(check(&patient)[0].verdict, Verdict::Failed);
    }

    #[test]
    fn synchronisation_is_told_where_it_is_known() {
        let (_root, patient) = fabricated::patient();
        assert_eq!(check(&patient)[0].verdict, Verdict::Skipped);
        patient.write("run/systemd/timesync/clock", "");
        assert_eq!(check(&patient)[0].verdict, Verdict::Warning);
        patient.write("run/systemd/timesync/synchronized", "");
        assert_eq!(check(&patient)[0].verdict, Verdict::Ok);
    }
}
