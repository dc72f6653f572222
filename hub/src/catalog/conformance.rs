//! What every catalog promises, as cases that any implementation can be put through:
//! `conformance_tests!(place)` makes a test of each.

pub(crate) mod durability;
pub(crate) mod enrolment;
pub(crate) mod feed_and_audit;
pub(crate) mod followers;
pub(crate) mod managed;
pub(crate) mod metadata;
pub(crate) mod model;
pub(crate) mod nodes;
pub(crate) mod people;
pub(crate) mod placement;
pub(crate) mod secrets;
pub(crate) mod world;

use std::sync::Arc;

use async_trait::async_trait;

use super::Catalog;

/// Where a catalog is kept between openings. A new place holds an empty one.
#[async_trait]
pub trait Place: Send {
    /// Opens the catalog that is kept here, after closing it where it is open.
    async fn open(&mut self) -> Arc<dyn Catalog>;
}

/// A test of every case, each at a new `$place`.
macro_rules! conformance_tests {
    ($place:expr) => {
        $crate::catalog::conformance::conformance_tests! {@ $place;
            people: [
                an_organisation_is_created_once,
                users_come_and_go_with_their_certificates,
                a_serial_is_recorded_once,
            ]
            enrolment: [
                a_token_works_once,
                a_token_stops_at_its_end,
                a_token_is_for_its_node_alone,
                a_newer_token_replaces_the_unused_one,
                of_many_concurrent_uses_one_wins,
                enrolling_again_replaces_the_identity,
                a_refused_enrolment_leaves_no_trace,
                renewal_keeps_the_certificate_it_is_over,
            ]
            nodes: [
                a_revoked_node_has_nothing_and_can_still_be_told,
                a_revoked_node_is_a_node_again_after_enrolment,
                a_removed_node_is_forgotten_but_for_its_count,
                facts_are_replaced_and_equal_ones_change_nothing,
                a_node_goes_on_a_pattern_and_off_it,
                a_report_replaces_the_one_before,
                who_lacks_what_it_should_have_is_told,
            ]
            placement: [
                definitions_are_published_replaced_and_removed,
                patterns_are_published_replaced_and_removed,
                a_stale_revision_is_a_conflict_and_writes_nothing,
                only_nodes_that_differ_get_a_new_generation,
                only_what_changed_comes_after_since,
                a_generation_that_never_was_gives_everything,
                a_placement_of_hundreds_of_nodes_is_whole,
                an_unknown_node_is_refused,
            ]
            followers: [
                what_is_public_is_given_and_its_changes_are_counted,
                a_change_of_what_is_public_leaves_behind_who_uses_it,
                who_follows_is_behind_no_more_and_does_it_once,
                a_basis_that_others_left_is_a_conflict,
                who_is_behind_stays_so_over_a_restart,
                followers_are_counted_and_not_named,
            ]
            secrets: [
                a_rotation_touches_bound_nodes_alone_and_once,
                the_most_specific_candidate_that_exists_wins,
                a_denied_binding_is_never_resolved_nor_touched,
                a_secret_that_comes_and_goes_is_missing_in_between,
                numbers_never_come_back,
                an_expected_version_is_compared,
                two_rotations_in_one_millisecond_are_two_versions,
                metadata_is_listed_by_prefix,
                a_version_is_kept_byte_for_byte,
                organisations_are_apart,
                fetches_are_answered_item_by_item,
            ]
            metadata: [
                metadata_comes_with_a_value_and_stays,
                metadata_is_edited_without_a_new_version,
                an_edit_needs_the_secret_and_the_expected_version,
                the_oldest_versions_make_room,
                an_end_is_announced_once_to_who_is_bound,
                another_end_is_announced_again,
                an_end_that_a_wrong_clock_announced_is_taken_back,
                a_value_lifts_the_end_that_has_come,
                an_ended_candidate_hides_no_change_of_the_next,
                many_ends_are_announced_in_turns,
            ]
            managed: [
                a_managed_secret_is_asked_about_once_it_is_bound,
                what_a_manager_says_reaches_the_nodes_that_bind_it_alone,
                trouble_that_nodes_need_not_know_touches_nobody,
                a_field_and_its_secret_share_what_is_known,
                nodes_that_bind_a_secret_are_counted_once_each,
                what_nothing_binds_is_forgotten,
                leases_are_changed_together_and_numbers_never_come_back,
                a_lease_resolves_its_binding_alone,
                sessions_are_kept_by_manager,
            ]
            feed_and_audit: [
                the_feed_is_in_order_and_the_bell_rings,
                every_write_leaves_its_record,
                concurrent_appends_are_all_kept,
                the_trail_is_read_by_position_time_and_number,
            ]
            durability: [
                everything_survives_a_restart,
                concurrent_writers_lose_nothing,
                a_cancelled_write_happened_whole_or_not_at_all,
            ]
            model: [
                any_history_agrees_with_the_naive_model,
            ]
        }
    };
    (@ $place:expr; $($area:ident: [$($case:ident,)*])*) => {$(
        mod $area {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let mut place = $place;
                    $crate::catalog::conformance::$area::$case(&mut place).await;
                }
            )*
        }
    )*};
}
pub(crate) use conformance_tests;
