//! What Open Horizon's own tests show, shown here through the real programs: each trial has the number
//! of the behaviour.
//!
//! 1 to 23 are `hzn secretsmanager` and the calls behind it, 24 to 26 its deployment check, 27 to 32
//! what services on nodes see. Trials named `beyond_…` are cases that its tests lack or its code gets
//! wrong. Which trial or test shows which case stands in `cases`, where each name is looked up.

mod adoption;
mod beyond;
mod cases;
mod deploy_check;
mod runtime;
mod secrets_manager;

use libtest_mimic::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = secrets_manager::trials();
    trials.extend(deploy_check::trials());
    trials.extend(runtime::trials());
    trials.extend(beyond::trials());
    trials.extend(cases::trials());
    trials.extend(adoption::trials());
    trials
}
