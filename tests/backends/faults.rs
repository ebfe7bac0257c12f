//! The suite itself: for each class of fault, a case that notices it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oncelog::backend::AnyBackend;
use oncelog::backend::suite::{
    Able, CASES, Clients, Harness, Skew, Task, Time, Verdict, run_named,
};
use oncelog::{ManualClock, Policy, Result, Timestamp};

use crate::embedded::{Embedded, START};
use crate::threads::{block_on, spawn};
use crate::wrong::{Fault, State, Wrong};

/// Which case has to notice what.
const NOTICED: &[(Fault, &str)] = &[
    (Fault::ReplaysOnMismatch, "another_request_is_never_shown_an_outcome"),
    (
        Fault::LooksAtTheStatusBeforeTheFingerprint,
        "another_request_is_refused_before_the_status_counts",
    ),
    (Fault::CompletesWhateverTheVersion, "another_version_ends_nothing"),
    (Fault::FailsWhateverTheVersion, "another_version_ends_nothing"),
    (Fault::ReleasesWhateverTheVersion, "another_version_ends_nothing"),
    (Fault::RenewsWhateverTheVersion, "another_version_ends_nothing"),
    (Fault::CompletesWhateverTheVersion, "a_late_holder_changes_nothing"),
    (Fault::RemovesWhateverTheVersion, "a_removal_is_of_the_version_it_names"),
    (Fault::ChecksThenSets, "of_many_who_check_one_is_new"),
    (Fault::ChecksThenBegins, "of_many_who_begin_one_gets_the_key"),
    (Fault::CompletesInTwoSteps, "a_takeover_and_a_late_completion_exclude_each_other"),
    (Fault::ExpiresLate, "a_key_is_known_until_its_expiry"),
    (Fault::ExpiresEarly, "a_key_is_known_until_its_expiry"),
    (Fault::EndsLeasesLate, "a_lease_lasts_until_its_deadline"),
    (Fault::ForgetsAttempts, "a_released_key_can_be_begun_again"),
    (Fault::CountsNoAttempts, "attempts_are_counted_and_end"),
    (Fault::NeverWakes, "a_wait_ends_with_completion_and_failure"),
    (Fault::NeverWakes, "a_wait_ends_with_release_and_removal"),
    (Fault::DoesNotWait, "a_wait_ends_when_its_time_is_over"),
    (Fault::StartsVersionsAnew, "versions_rise_whatever_becomes_of_the_key"),
    (Fault::StartsVersionsAnew, "a_lease_is_lost_with_its_key"),
    (Fault::CutsZerosOffOutcomes, "outcomes_are_bytes"),
    (Fault::HasNoEmptyOutcomes, "outcomes_are_bytes"),
    (Fault::CutsKeysAtZeros, "keys_are_bytes"),
    (Fault::TakesKeysForText, "keys_are_bytes"),
    (Fault::JoinsNamesAndKeys, "namespaces_do_not_meet"),
    (Fault::SeesNoDuplicatesInBatches, "duplicates_inside_a_batch_resolve_in_order"),
    (Fault::EndsBatchesAtTheFirstError, "an_item_that_is_refused_keeps_no_other_back"),
    (Fault::EndsBatchesAtTheFirstError, "a_batch_answers_as_single_checks_do"),
    (Fault::IgnoresAnchors, "retention_counts_from_first_sight_where_it_says_so"),
    (Fault::IgnoresAnchors, "retention_counts_from_last_sight_where_it_says_so"),
    (Fault::CountsFromFirstSight, "retention_counts_from_the_completion"),
    (Fault::ReplaysForEver, "keys_outlast_their_outcomes"),
    (Fault::ReplaysForEver, "an_outcome_is_replayed_until_its_time_is_over"),
    (Fault::CutsLongOutcomes, "an_outcome_that_is_too_long_is_refused"),
    (Fault::CutsLongOutcomes, "an_outcome_that_is_too_long_leaves_a_mark_where_asked"),
    (Fault::IgnoresWhenItWasSent, "a_request_older_than_the_memory_is_stale"),
    (Fault::ResolvesWhatIsHeld, "only_what_nobody_holds_can_be_resolved"),
    (Fault::ReclaimsWhatIsUnknown, "an_overdue_key_is_held_where_the_policy_says_so"),
    (Fault::RefusesOverdueHolders, "an_overdue_holder_whom_nobody_replaced_goes_on"),
    (Fault::RenewsNothing, "a_renewal_moves_the_end_and_keeps_the_version"),
    (Fault::ForgetsOnRelease, "a_released_key_can_be_begun_again"),
    (Fault::TakesFailureForSuccess, "a_failed_key_is_replayed_as_failed"),
    (Fault::TrustsTheClient, "the_clock_of_a_client_does_not_matter"),
    (Fault::ForgetsOnRestart, "what_was_answered_survives_a_restart"),
];

/// Faults that calls at random notice as well, whatever the seed.
const WALKED: &[Fault] = &[
    Fault::ReplaysOnMismatch,
    Fault::LooksAtTheStatusBeforeTheFingerprint,
    Fault::CompletesWhateverTheVersion,
    Fault::FailsWhateverTheVersion,
    Fault::ReleasesWhateverTheVersion,
    Fault::RenewsWhateverTheVersion,
    Fault::RemovesWhateverTheVersion,
    Fault::StartsVersionsAnew,
    Fault::CutsZerosOffOutcomes,
    Fault::HasNoEmptyOutcomes,
    Fault::SeesNoDuplicatesInBatches,
    Fault::EndsBatchesAtTheFirstError,
    Fault::IgnoresAnchors,
    Fault::CountsFromFirstSight,
    Fault::ReplaysForEver,
    Fault::ResolvesWhatIsHeld,
    Fault::ReclaimsWhatIsUnknown,
    Fault::RefusesOverdueHolders,
    Fault::RenewsNothing,
    Fault::ForgetsOnRelease,
    Fault::TakesFailureForSuccess,
];

/// The embedded engine, of which each client is wrong.
struct Faulty {
    right: Mutex<Arc<Embedded>>,
    fault: Option<Fault>,
    states: Mutex<HashMap<String, Arc<State>>>,
}

impl Faulty {
    fn new(fault: Option<Fault>) -> Self {
        let right = Mutex::new(Arc::new(Embedded::still()));
        Self { right, fault, states: Mutex::default() }
    }

    fn right(&self) -> Arc<Embedded> {
        self.right.lock().unwrap().clone()
    }

    async fn client_of(&self, name: &str, policy: Policy, before: &[u8]) -> Result<AnyBackend> {
        let Some(fault) = self.fault else { return self.right().client(name, policy).await };
        let joins = fault == Fault::JoinsNamesAndKeys;
        let (inner, prefix) = if joins { ("all", name.as_bytes()) } else { (name, before) };
        let inner = self.right().client(inner, policy).await?;
        let state = self.states.lock().unwrap().entry(name.into()).or_default().clone();
        Ok(AnyBackend::new(Wrong { inner, fault, prefix: prefix.to_vec(), state }))
    }
}

impl Harness for Faulty {
    fn client<'a>(&'a self, name: &'a str, policy: Policy) -> Task<'a, Result<AnyBackend>> {
        Box::pin(self.client_of(name, policy, b""))
    }

    fn spawn(&self, task: Task<'static, ()>) {
        spawn(task);
    }

    fn sleep(&self, time: Duration) -> Task<'static, ()> {
        self.right().sleep(time)
    }

    fn restart(&self) -> Task<'_, Able<Clients>> {
        Box::pin(async {
            if self.fault == Some(Fault::ForgetsOnRestart) {
                let later = self.right().store().now().as_millis();
                let clock = ManualClock::new(Timestamp::from_millis(later.max(START)));
                *self.right.lock().unwrap() = Arc::new(Embedded::new(Some(clock)));
                return Able::Done(Clients::Anew);
            }
            self.right().restart().await
        })
    }

    fn skewed_client<'a>(
        &'a self,
        name: &'a str,
        policy: Policy,
        skew: Skew,
    ) -> Task<'a, Able<Result<AnyBackend>>> {
        // A prefix of no bytes would do, but for that the wrong one is to know how it is wrong.
        let before: &[u8] = match (self.fault, skew) {
            (Some(Fault::TrustsTheClient), Skew::Ahead(_)) => b"ahead",
            _ => b"",
        };
        Box::pin(async move { Able::Done(self.client_of(name, policy, before).await) })
    }

    fn time(&self) -> Time {
        Time::StandsStill
    }

    fn pass(&self, time: Duration) -> Task<'_, ()> {
        let right = self.right();
        Box::pin(async move { right.pass(time).await })
    }
}

/// What a case says of a backend with a fault, or without.
fn verdict(fault: Option<Fault>, case: &'static str) -> Verdict {
    let report = block_on(run_named(&Faulty::new(fault), &[case]));
    let verdicts: Vec<_> = report.verdicts().collect();
    assert_eq!(verdicts.len(), 1);
    assert_eq!(verdicts[0].0, case);
    verdicts[0].1.clone()
}

/// Runs them side by side, as some wait for what never comes.
fn unnoticed(rows: Vec<(Fault, &'static str)>) -> Vec<(Fault, &'static str, Verdict)> {
    let run = |(fault, case)| std::thread::spawn(move || (fault, case, verdict(Some(fault), case)));
    let running: Vec<_> = rows.into_iter().map(run).collect();
    let verdicts = running.into_iter().map(|thread| thread.join().unwrap());
    verdicts.filter(|(.., verdict)| !matches!(verdict, Verdict::Failed(_))).collect()
}

#[test]
fn every_fault_is_noticed_by_the_case_that_is_about_it() {
    let rows = NOTICED.to_vec();
    assert!(rows.iter().all(|(_, name)| CASES.iter().any(|case| case.name == *name)));
    assert_eq!(unnoticed(rows), []);
}

#[test]
fn calls_at_random_notice_most_faults_as_well() {
    let case = "calls_at_random_are_answered_as_the_model_says";
    assert_eq!(unnoticed(WALKED.iter().map(|fault| (*fault, case)).collect()), []);
}

#[test]
fn the_same_cases_pass_where_there_is_no_fault() {
    let mut names: Vec<&str> = NOTICED.iter().map(|(_, name)| *name).collect();
    names.sort_unstable();
    names.dedup();
    block_on(run_named(&Faulty::new(None), &names)).assert_passed();
}

#[test]
fn a_name_that_no_case_has_fails() {
    let harness = Faulty::new(None);
    let report = block_on(run_named(&harness, &["a_new_key_is_begun", "no_such_case"]));
    assert_eq!(report.failed(), ["no_such_case"]);
    let text = report.to_string();
    assert!(text.contains("no_such_case: FAILED") && text.contains("2 cases"), "{text}");
}

#[test]
fn a_report_says_what_was_found_and_what_was_left_out() {
    let harness = Faulty::new(Some(Fault::ForgetsAttempts));
    let names = ["a_released_key_can_be_begun_again", "clients_find_a_restarted_server_again"];
    let report = block_on(run_named(&harness, &names));
    assert_eq!(report.left_out(), [(names[1], "clients end with the server")]);
    let text = report.to_string();
    assert!(text.contains("attempt") && text.contains("claims.rs"), "{text}");
    let panic = std::panic::catch_unwind(|| report.assert_passed()).unwrap_err();
    let said = panic.downcast_ref::<String>().unwrap();
    assert!(said.contains(names[0]), "{said}");
}
