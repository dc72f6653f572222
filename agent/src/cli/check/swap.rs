//! Whether anything can be swapped out at all.

use super::finding::Finding;
use super::patient::Patient;
use super::runtime_dir;

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let swaps = patient.swaps();
    let names = swaps.join(", ");
    vec![if patient.read("proc/swaps").is_none() {
        Finding::skipped(SWAP, "/proc/swaps cannot be read")
    } else if swaps.is_empty() {
        Finding::ok(SWAP, "there is none")
    } else if swaps.iter().all(|name| name.starts_with("/dev/zram")) {
        Finding::ok(SWAP, format!("{names}: compressed in memory"))
    } else if runtime_dir::never_swapped(patient) {
        Finding::ok(
            SWAP,
            format!("{names}; the runtime directory is kept out of it"),
        )
        .advise("the memory of services that read a secret is not: MemorySwapMax=0 in their units")
    } else {
        Finding::warning(
            SWAP,
            format!("{names}: values in the runtime directory could be written there"),
            "mount the runtime directory noswap (Linux 6.4), encrypt swap, or swapoff -a",
        )
    }]
}

const SWAP: &str = "swap";

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::patient::fabricated;
    use super::*;

    #[test]
    fn swap_on_a_disk_is_a_warning_and_in_memory_it_is_not() {
        let (_root, patient) = fabricated::patient();
        assert_eq!(check(&patient)[0].verdict, Verdict::Skipped);
        let head = "Filename Type Size Used Priority\n";
        for (swaps, verdict) in [
            ("", Verdict::Ok),
            ("/dev/zram0 partition 1 0 100\n", Verdict::Ok),
            ("/dev/sda2 partition 1 0 -2\n", Verdict::Warning),
            (
                "/dev/zram0 partition 1 0 5\n/swapfile file 1 0 -2\n",
                Verdict::Warning,
            ),
        ] {
            patient.write("proc/swaps", &format!("{head}{swaps}"));
            assert_eq!(check(&patient)[0].verdict, verdict, "{swaps}");
        }
    }
}
