//! The cases, in the order that they are run in.

mod bytes;
mod checks;
mod claims;
mod endings;
mod fencing;
mod mismatch;
mod outcomes;
mod races;
mod restart;
mod skew;
mod times;
mod waiting;
mod walk;

use super::failure::Stop;
use super::report::Case;
use super::trial::Look;

/// The longest outcome that is tried: 16 MiB.
const OUTCOME_BYTES_TRIED: usize = 16 << 20;
/// Why outcomes are not tried.
const UNTRIED: Stop = Stop::LeftOut("outcomes may have over 16 MiB; make the backend with less");

/// Lists cases: the module and the function, which gives the name, and what it asserts.
macro_rules! cases {
    ($($module:ident::$name:ident: $asserts:literal;)*) => {
        /// Every case, in the order that they are run in.
        pub const CASES: &[Case] = &[
            $(Case {
                name: stringify!($name),
                asserts: $asserts,
                run: |trial| Box::pin($module::$name(trial)),
            },)*
        ];
    };
}

cases! {
    claims::a_new_key_is_begun:
        "begin of a key that nobody used: attempt 1, its times, its state in peek, no record";
    claims::a_key_in_progress_is_answered_as_such:
        "begin, check_and_set and resolve of a key that is held say so, with its deadline";
    claims::a_released_key_can_be_begun_again:
        "release, then begin: the attempt counted, a greater version, first seen kept";
    claims::a_key_released_for_later_is_held_until_then:
        "release with a time to wait: in progress until then to the millisecond, but recordable";
    claims::attempts_are_counted_and_end:
        "attempts_max of policy and call: exhausted, whether released, for later or overdue";
    claims::an_overdue_key_goes_to_the_next:
        "a lease that is over and reclaimed: next attempt, or recorded by a check";
    claims::an_overdue_key_is_held_where_the_policy_says_so:
        "a lease that is over and held: unknown to begin and check, until resolved or removed";
    claims::what_a_call_asks_for_goes_before_the_policy:
        "lease and retention of the call, kept until the completion; fractions rounded up";
    claims::what_cannot_work_is_refused_and_nothing_recorded:
        "typed errors for leases, attempts, lifetimes and missing fingerprints; then the longest";
    endings::a_completed_key_is_replayed:
        "complete: every verb and client answers the same record";
    endings::a_failed_key_is_replayed_as_failed:
        "fail: the same, and the record says that it is a failure";
    endings::another_version_ends_nothing:
        "complete, fail, release and renew with another version: lease lost, nothing changed";
    endings::what_has_no_lease_cannot_be_ended:
        "the same of keys that are unknown, done, released, or recorded without a lease";
    endings::a_renewal_moves_the_end_and_keeps_the_version:
        "renew: the new end, in both directions, one version; lengths that are refused";
    endings::an_overdue_holder_whom_nobody_replaced_goes_on:
        "complete, renew, fail and release past the deadline, also of an unknown key";
    endings::only_what_nobody_holds_can_be_resolved:
        "resolve: released and overdue keys, not unused, held or done ones";
    fencing::a_late_holder_changes_nothing:
        "a holder who was replaced: lease lost, before and after the other's completion";
    fencing::a_lease_is_lost_with_its_key:
        "remove while in progress: lease lost, attempts forgotten, greater version next";
    fencing::a_lease_is_lost_when_its_key_is_forgotten:
        "a key whose retention ends: the same";
    fencing::versions_rise_whatever_becomes_of_the_key:
        "begin, release, takeover, completion, removal, expiry, check: strictly greater each";
    fencing::a_removal_is_of_the_version_it_names:
        "remove with another version changes nothing; while in progress it is the lease's";
    fencing::a_removal_is_seen_by_all_clients:
        "remove by one client, of a key that all have seen done: known to none";
    fencing::a_key_that_is_forgotten_is_new_to_every_verb:
        "peek, get, remove, resolve, begin, wait and check_and_set past the retention";
    mismatch::another_request_is_refused_before_the_status_counts:
        "another fingerprint, of keys in progress, released, overdue and unknown";
    mismatch::another_request_is_never_shown_an_outcome:
        "another fingerprint, of keys that are completed, failed and resolved";
    mismatch::the_first_request_of_a_key_is_the_one_that_counts:
        "the fingerprint of the first attempt that has one, over all attempts, until removal";
    waiting::a_wait_ends_with_completion_and_failure:
        "wait: woken through both clients, with the state that peek says";
    waiting::a_wait_ends_with_release_and_removal:
        "the same by release, also for later, and by removal";
    waiting::a_wait_ends_with_the_lease:
        "the same by the end of the lease: overdue, or unknown";
    waiting::a_wait_ends_when_its_time_is_over:
        "wait: in progress still when its timeout is over, and not before";
    waiting::nothing_is_waited_for_that_nobody_works_on:
        "wait: at once for keys that are unused, released, unknown or done";
    waiting::a_renewal_does_not_end_a_wait:
        "wait: past the first deadline of a lease that was renewed";
    waiting::those_who_wait_get_a_released_key_one_at_a_time:
        "wait, then begin: six who wait for one key, each an attempt";
    times::the_time_is_the_one_that_keys_are_stamped_with:
        "now of one client, a stamp, now of the other: in this order";
    times::a_key_is_known_until_its_expiry:
        "get, peek, check_and_set and begin around the expiry, to the millisecond";
    times::a_lease_lasts_until_its_deadline:
        "peek, begin and check_and_set around the deadline, renewed or not";
    times::an_outcome_is_replayed_until_its_time_is_over:
        "get around the end of outcome_ttl";
    times::retention_counts_from_the_completion:
        "expiry of leases, releases and completions under Anchor::Completion";
    times::retention_counts_from_first_sight_where_it_says_so:
        "the same under Anchor::FirstSeen, at least as long as the lease";
    times::retention_counts_from_last_sight_where_it_says_so:
        "the same under Anchor::LastSeen: prolonged by check and begin, not by lookups";
    times::no_record_ends_before_the_one_it_follows:
        "begin, complete and check_and_set with a shorter retention than before";
    outcomes::keys_outlast_their_outcomes:
        "outcome_ttl: length and digest in place of the outcome, by every verb";
    outcomes::being_seen_does_not_prolong_an_outcome:
        "outcome_ttl under Anchor::LastSeen";
    outcomes::an_outcome_that_is_too_long_is_refused:
        "an outcome of one byte over: refused by every verb, nothing changed";
    outcomes::an_outcome_that_is_too_long_leaves_a_mark_where_asked:
        "the same under LongOutcomePolicy::KeepMark";
    checks::a_key_is_new_once:
        "check_and_set: new, then duplicate, with what is known of it";
    checks::a_request_older_than_the_memory_is_stale:
        "sent_at: stale before birth and retention, exact, and only of unknown keys";
    checks::duplicates_inside_a_batch_resolve_in_order:
        "check_and_set_many: as if one after another, with options, and with no items";
    checks::a_large_batch_is_answered_in_order:
        "check_and_set_many of 1000 items, every other known";
    checks::a_batch_answers_as_single_checks_do:
        "check_and_set_many and check_and_set of keys in every state";
    checks::an_item_that_is_refused_keeps_no_other_back:
        "check_and_set_many with keys and outcomes beyond the limits in the middle";
    bytes::keys_are_bytes:
        "keys with zeros, 0xff, quotes, braces, and what is no UTF-8";
    bytes::outcomes_are_bytes:
        "outcomes that are empty, of zeros, of 0xff, of every byte";
    bytes::the_longest_keys_and_outcomes_are_taken:
        "keys and outcomes of the greatest length";
    bytes::keys_beyond_the_limits_are_refused_by_every_verb:
        "the empty key, and one of one byte over";
    bytes::namespaces_do_not_meet:
        "the same keys in namespaces whose names and keys are alike when joined";
    races::of_many_who_begin_one_gets_the_key:
        "begin by 64 callers through two clients: one started, the others see it";
    races::of_many_who_take_over_one_gets_the_key:
        "the same of an overdue key, while its late holder completes";
    races::of_many_who_check_one_is_new:
        "check_and_set by 64 callers: one new, the others see its outcome";
    races::batches_with_the_same_keys_agree_in_whatever_order:
        "check_and_set_many by 16 callers, forwards and backwards: each key new once";
    races::holders_that_stall_past_their_lease_do_no_harm:
        "leases that run out under their holders: one completion, and its outcome stands";
    races::a_takeover_and_a_late_completion_exclude_each_other:
        "complete of an overdue lease against begin: one of them";
    races::removals_and_completions_exclude_each_other:
        "complete against remove of the lease's version: one of them";
    skew::the_clock_of_a_client_does_not_matter:
        "clients an hour ahead and behind: leases, expiry and stamps are by the backend's clock";
    restart::what_was_answered_survives_a_restart:
        "keys in every state, with all that is known of them, after the server was killed";
    restart::versions_rise_over_restarts:
        "keys that were removed, forgotten and released before";
    restart::clients_find_a_restarted_server_again:
        "clients made before: typed errors at most, then answers";
    restart::a_server_killed_in_the_middle_keeps_what_it_answered:
        "workers through two clients while it is killed: what was answered stands";
    walk::calls_at_random_are_answered_as_the_model_says:
        "thousands of calls at random against a model in memory; the seed is in the failure";
}
