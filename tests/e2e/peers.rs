//! What went wrong at others, by project and issue, and the tests that show that it does not here.

use libtest_mimic::Trial;

use crate::cases::{self, Case, case};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![what_went_wrong_at_others_is_shown_by_a_test_that_exists]
}

/// A change that is cut off, or seen half.
const HALF: &[Case] = &[
    case(
        "kubernetes#121472",
        "killed between the data and the links that people see, it never makes the links",
        &[
            "an_agent_killed_at_any_change_of_a_first_delivery_finishes_it",
            "a_kill_at_any_call_leaves_the_old_or_the_new",
        ],
    ),
    case(
        "kubernetes#123604",
        "killed while it writes, it leaves a directory of values that nobody refers to",
        &[
            "an_agent_killed_at_any_change_of_a_rotation_leaves_the_old_or_the_new_value",
            "a_kill_while_sweeping_leaves_it_to_the_next_start",
        ],
    ),
    case(
        "spiffe-helper#422",
        "files are emptied and then written, and read empty",
        &[
            "no_read_is_torn_over_thousands_of_rotations",
            "readers_never_see_a_torn_mixed_or_missing_value",
        ],
    ),
    case(
        "nomad#7848, anax#2676",
        "something is left when a workload is gone",
        &[
            "an_agent_killed_at_any_change_of_an_undeployment_finishes_it",
            "no_file_holds_a_value_after_undeploy",
        ],
    ),
];

/// Where a value may lie.
const PLACES: &[Case] = &[
    case(
        "nomad#28274",
        "after a reboot the tmpfs is not mounted, and values are written to the disk",
        &[
            "a_directory_that_is_not_in_memory_takes_no_value",
            "a_runtime_directory_on_disk_is_refused",
            "a_reboot_brings_the_secrets_back",
        ],
    ),
    case(
        "agenix#92",
        "after a reboot the path that programs read is gone",
        &[
            "a_reboot_without_a_hub_brings_everything_back",
            "a_node_that_boots_without_its_hub_has_everything_and_nothing_lies_in_clear",
        ],
    ),
    case(
        "kubeedge#690",
        "a value stands in a log",
        &[
            "no_file_holds_a_value_after_undeploy",
            "no_answer_and_no_listing_shows_a_value",
        ],
    ),
    case(
        "nomad, silently",
        "where the tmpfs cannot be kept out of swap nobody is told",
        &[
            "people_are_told_how_values_are_kept_from_swap",
            "swap_without_noswap_is_a_warning",
        ],
    ),
];

/// A hub or a secret that is not there.
const ABSENT: &[Case] = &[
    case(
        "nomad#11209, #8556, #28366",
        "without its server at the start, or for long, it ends what runs or never comes back",
        &[
            "an_agent_that_starts_before_its_hub_converges",
            "an_agent_restarted_without_its_hub_leaves_everything_readable",
            "a_partition_is_survived_and_healed",
        ],
    ),
    case(
        "vault#26283, #32035",
        "one secret that fails renders all of them again and again, until everything ends",
        &[
            "a_missing_secret_blocks_its_deployment_alone",
            "one_secret_that_does_not_come_blocks_no_other_and_is_asked_for_again",
            "a_manager_in_trouble_takes_nothing_away_and_blocks_nothing_else",
        ],
    ),
    case(
        "systemd#27373",
        "a credential that is not there is an empty one",
        &[
            "a_credential_that_never_comes_fails_closed",
            "a_credential_that_never_comes_fails_the_unit_before_it_starts",
            "a_value_wiped_while_it_is_read_makes_the_unit_fail",
        ],
    ),
    case(
        "systemd#34740",
        "what cannot be decrypted any more takes the rest of the machine with it",
        &[
            "what_no_key_opens_is_fetched_again_and_what_cannot_be_written_keeps_the_former_key",
            "a_lost_credential_costs_the_cache_until_the_hub_has_heard_of_another_key",
            "what_is_of_another_enrolment_or_damaged_is_set_aside_and_filled_again",
        ],
    ),
];

/// A change that is not heard of.
const LOST: &[Case] = &[
    case(
        "Vault's events",
        "what is told while nobody listens is never heard of",
        &[
            "an_agent_that_was_away_catches_up",
            "a_lost_hub_changes_nothing_and_what_was_missed_is_caught_up",
        ],
    ),
    case(
        "anax#4211",
        "an agent that was off while the hub changed stays as it was",
        &[
            "an_agent_that_was_away_catches_up",
            "what_is_withdrawn_while_the_agent_is_away_is_wiped_when_it_hears_of_it",
        ],
    ),
    case(
        "anax#3902, #3905, #3913",
        "a node's own secret that comes, changes or goes is not followed",
        &["beyond_a_node_level_secret_is_followed_in_both_scopes"],
    ),
    case(
        "anax, by its code",
        "what changes between being told and being acknowledged is taken for acknowledged",
        &[
            "what_changes_between_telling_and_acknowledging_stays_listed",
            "a_report_is_sent_until_it_is_taken_and_again_after_a_reconnect",
        ],
    ),
    case(
        "vault#9108",
        "a hook that takes long ends all delivery",
        &[
            "a_hanging_action_is_reported_and_blocks_nobody",
            "a_hanging_action_times_out_and_holds_up_nobody_else",
        ],
    ),
    case(
        "vault#12566",
        "a hook that fails has everything read again at once, without end",
        &[
            "a_failing_action_is_tried_again_later_each_time_until_it_goes_well",
            "many_hints_make_few_pulls",
        ],
    ),
    case(
        "spire#1240",
        "all agents come at once",
        &[
            "a_thousand_connections_at_once_are_served",
            "the_spread_grows_with_the_nodes_that_a_change_touches",
        ],
    ),
];

/// Identities and clocks.
const TIME: &[Case] = &[
    case(
        "spire#1562, #2061",
        "an agent whose certificate ended while it was away never comes back",
        &[
            "a_certificate_that_ended_is_renewed_within_the_grace",
            "a_certificate_that_ended_long_ago_needs_a_token_and_services_go_on",
        ],
    ),
    case(
        "vault#16266, #18562, #20538",
        "a certificate that was exchanged on the disk is not used",
        &[
            "certificates_renew_themselves_while_everything_runs",
            "the_server_certificate_is_exchanged_when_a_third_of_its_life_is_left",
        ],
    ),
    case(
        "step#523",
        "a certificate is renewed every few seconds",
        &[
            "a_clock_that_is_ahead_renews_once_and_not_for_ever",
            "certificates_renew_themselves_while_everything_runs",
        ],
    ),
    case(
        "istio#32176, swarmkit#1919",
        "a clock that is wrong makes a certificate useless, and nobody says why",
        &[
            "a_certificate_that_has_not_begun_is_named_as_a_clock_problem",
            "a_node_that_boots_in_1970_serves_what_it_keeps_and_connects_when_its_clock_is_right",
            "a_certificate_that_was_given_in_the_future_is_taken_and_exchanged",
        ],
    ),
    case(
        "rossoctl#1899",
        "after a suspend everything has expired at once, and nothing comes back",
        &[
            "what_ends_while_the_machine_sleeps_is_gone_when_it_wakes",
            "a_connection_that_died_while_the_machine_slept_is_noticed",
        ],
    ),
];

fn what_went_wrong_at_others_is_shown_by_a_test_that_exists() {
    let all = [HALF, PLACES, ABSENT, LOST, TIME];
    cases::check(all.into_iter().flatten(), &cases::tests());
}
