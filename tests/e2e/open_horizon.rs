//! What Open Horizon's own tests show, shown here through the real programs: each trial has the number
//! of the behaviour.
//!
//! 1 to 23 are `hzn secretsmanager` and the calls behind it, 24 to 26 its deployment check, 27 to 32
//! what services on nodes see. Trials named `beyond_…` are cases that its tests lack or its code gets
//! wrong. Where another trial of this suite shows such a case already, it is named here:
//!
//! | case | shown by |
//! |---|---|
//! | node-level value: create, remove, fall back | `delivery::a_node_level_secret_comes_before_the_general_one_and_falls_back` |
//! | containers with formats of their own; one container's secrets are not another's | `formats::every_container_reads_its_own_secrets_in_its_own_format` |
//! | whole reads under rotation, no truncation in place | `soak`, `whole`, `delivery::a_rotation_swaps_one_generation_in` |
//! | node away, then the latest value | `delivery::an_agent_that_was_away_catches_up` |
//! | kill -9 while writing | `killing` |
//! | no byte left after undeploy; no value in a log | `wipe` |
//! | a user's secret reaches that user's nodes alone | `formats::a_private_secret_reaches_its_owners_nodes_alone` |
//! | revoked node | `delivery::a_revoked_node_wipes_and_gets_nothing` |
//! | expired, foreign, no certificate; another node's secret | `identity` |
//! | replayed values, former versions | `identity::a_value_of_a_former_version_or_deployment_is_not_served`, `border::what_was_sealed_for_another_place_is_refused` |
//! | 200 secrets of 50 services | `scale` |
//! | names like `../x` | `border::names_in_documents_are_refused_with_their_place` |
//! | names with Unicode in properties | `formats::unicode_properties_and_names_match` |

mod beyond;
mod deploy_check;
mod runtime;
mod secrets_manager;

use libtest_mimic::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = secrets_manager::trials();
    trials.extend(deploy_check::trials());
    trials.extend(runtime::trials());
    trials.extend(beyond::trials());
    trials
}
