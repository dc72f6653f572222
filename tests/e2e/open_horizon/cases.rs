//! Which test shows which case: those that Open Horizon's own tests lack, those that its code gets wrong, and
//! its table of rights. Its 32 behaviours are the trials `oh_01_…` to `oh_32_…`.

use libtest_mimic::Trial;

use crate::cases::{self, Case, case};

pub(super) fn trials() -> Vec<Trial> {
    crate::trials![cases_are_each_shown_by_a_test_that_exists]
}

/// What its tests lack.
const LACKING: &[Case] = &[
    case(
        "L1",
        "a node-level value is created, changed and deleted",
        &[
            "beyond_a_node_level_secret_is_followed_in_both_scopes",
            "a_node_level_secret_comes_before_the_general_one_and_falls_back",
        ],
    ),
    case(
        "L2",
        "one policy binds the same short name in two scopes",
        &["beyond_the_same_short_name_in_two_scopes_is_two_secrets"],
    ),
    case(
        "L3",
        "several containers, each with its formats",
        &["every_container_reads_its_own_secrets_in_its_own_format"],
    ),
    case(
        "L4",
        "reads are whole under rotation",
        &[
            "no_read_is_torn_over_thousands_of_rotations",
            "readers_never_see_a_torn_mixed_or_missing_value",
        ],
    ),
    case(
        "L5",
        "a node is away, however long, and then has the latest",
        &["an_agent_that_was_away_catches_up"],
    ),
    case(
        "L6",
        "the agent is killed while it writes",
        &[
            "an_agent_killed_a_hundred_times_under_rotation_never_shows_a_broken_read",
            "a_kill_at_any_call_leaves_the_old_or_the_new",
        ],
    ),
    case(
        "L7",
        "the node is rebooted, its tmpfs is empty",
        &["a_reboot_brings_the_secrets_back"],
    ),
    case(
        "L8",
        "an undeployment leaves no byte on the tmpfs, in a database, a log or memory",
        &[
            "no_file_holds_a_value_after_undeploy",
            "the_agents_memory_holds_no_value_after_undeploy",
        ],
    ),
    case(
        "L9",
        "logs at every level, and answers, hold no value",
        &[
            "no_answer_and_no_listing_shows_a_value",
            "no_file_holds_a_value_after_undeploy",
        ],
    ),
    case(
        "L10",
        "a user's secret is that user's to bind and that user's nodes' to have",
        &[
            "a_private_secret_reaches_its_owners_nodes_alone",
            "nobody_binds_another_users_secret",
            "beyond_a_users_secret_leaves_a_node_that_becomes_anothers",
            "beyond_a_users_policy_is_nobody_elses_to_bind_with",
        ],
    ),
    case(
        "L11",
        "a node is revoked",
        &["a_revoked_node_wipes_and_gets_nothing"],
    ),
    case(
        "L12",
        "a certificate has expired",
        &["an_expired_certificate_is_refused"],
    ),
    case(
        "L13",
        "a certificate is another node's",
        &[
            "a_node_reaching_for_what_is_not_its_own_learns_nothing",
            "a_certificate_is_good_for_the_node_it_names_alone",
        ],
    ),
    case(
        "L14",
        "a message is replayed or stale",
        &[
            "a_value_of_a_former_version_or_deployment_is_not_served",
            "what_was_sealed_for_another_place_is_refused",
        ],
    ),
    case(
        "L15",
        "two updates within one second",
        &[
            "beyond_two_updates_in_one_second_are_two_versions",
            "a_change_is_listed_fetched_and_acknowledged_and_two_within_a_second_are_two",
        ],
    ),
    case(
        "L16",
        "a thousand secrets, and many services",
        &[
            "a_thousand_secrets_of_five_services_are_delivered_and_kept_apart",
            "fifty_services_with_two_hundred_secrets_are_delivered_and_kept_apart",
        ],
    ),
    case(
        "L17",
        "ten thousand nodes",
        &[
            "a_rotation_for_ten_thousand_nodes_is_one_read",
            "a_hundred_thousand_policies_and_nodes_agree_with_the_naive_model",
        ],
    ),
    case(
        "L18",
        "names such as `../x`",
        &[
            "names_in_documents_are_refused_with_their_place",
            "a_name_that_could_leave_its_directory_is_refused",
        ],
    ),
];

/// What its code gets wrong.
const WRONG: &[Case] = &[
    case(
        "W1",
        "of several containers one alone decides which secrets need a binding",
        &[
            "beyond_every_containers_secrets_need_a_binding",
            "the_secrets_of_every_container_must_be_bound",
        ],
    ),
    case(
        "W2",
        "the format of a secret that two containers declare is a matter of chance",
        &["each_container_reads_a_shared_secret_in_its_own_format"],
    ),
    case(
        "W3",
        "the short name alone says whether a secret exists",
        &[
            "the_same_short_name_in_two_scopes_stays_two_secrets",
            "beyond_the_same_short_name_in_two_scopes_is_two_secrets",
        ],
    ),
    case(
        "W4",
        "a binding to `node/NODE/NAME` reads the organisation's NAME",
        &["beyond_a_reference_to_one_nodes_secret_is_that_nodes_alone"],
    ),
    case(
        "W5",
        "files are emptied and then written in place",
        &["readers_never_see_a_torn_mixed_or_missing_value"],
    ),
    case(
        "W6",
        "of a singleton the first deployment's values win and the others' secrets never come",
        &[
            "oh_28_a_singleton_that_two_policies_bind_has_its_secret_once",
            "oh_30_a_shared_singleton_keeps_its_secret_when_one_of_two_services_goes",
        ],
    ),
    case(
        "W7",
        "one secret that goes takes the whole directory with it",
        &["beyond_one_secret_that_is_unbound_leaves_the_others"],
    ),
];

/// Its table of rights.
const RIGHTS: &[Case] = &[
    case(
        "R1",
        "an administrator has all of the organisation's secrets, and of a user's the name and the deletion",
        &[
            "users_see_names_and_administrators_no_values_of_others",
            "oh_16_an_admin_does_not_read_a_users_secret",
            "oh_17_an_admin_does_not_write_another_users_secret",
        ],
    ),
    case(
        "R2",
        "a user lists the organisation's, has all of the own and nothing of another's",
        &[
            "oh_15_who_is_no_admin_lists_org_secrets_and_does_not_read_them",
            "oh_11_another_users_secret_is_not_listed",
            "oh_12_another_users_secret_is_not_removed",
        ],
    ),
    case(
        "R3",
        "nobody reads what is in all organisations",
        &[
            "beyond_nobody_sees_into_another_organisation",
            "oh_21_another_organisation_is_closed",
        ],
    ),
];

const BEHAVIOURS: usize = 32;

fn cases_are_each_shown_by_a_test_that_exists() {
    let tests = cases::tests();
    for number in 1..=BEHAVIOURS {
        let prefix = format!("oh_{number:02}_");
        let shown = tests.iter().filter(|name| name.starts_with(&prefix));
        assert_eq!(shown.count(), 1, "{prefix}");
    }
    cases::check(LACKING.iter().chain(WRONG).chain(RIGHTS), &tests);
}
