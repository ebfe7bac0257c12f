//! Ballots: none is overwritten, nobody votes twice, and what is counted is what is recorded.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use oncelog::recipes::ballot::{Ballots, Cast, Casts, Election, Found, Tally};
use oncelog::{Durability, Error, Store};
use proptest::prelude::*;

use crate::recipes::{SECOND, at_once, count};
use crate::setup::{Random, directory, fast_directory, small};

fn open(path: &std::path::Path) -> Ballots {
    Ballots::open_with(small(), path).unwrap()
}

fn counts(tally: &Tally) -> BTreeMap<Vec<u8>, u64> {
    tally.iter().map(|(choice, count)| (choice.to_vec(), count)).collect()
}

/// The tally, which is what the records say.
fn tally(election: &Election) -> BTreeMap<Vec<u8>, u64> {
    let tally = election.tally().unwrap();
    assert_eq!(tally, election.recount().unwrap());
    assert_eq!(tally.total(), counts(&tally).values().sum::<u64>());
    counts(&tally)
}

#[test]
fn the_first_ballot_counts_and_no_later_one_changes_it() {
    let directory = directory();
    let ballots = open(directory.path());
    let (mayor, council) =
        (ballots.election("mayor").unwrap(), ballots.election("council").unwrap());
    assert!(mayor.cast("ada", "yes").unwrap().is_counted());
    let Cast::AlreadyVoted(first) = mayor.cast("ada", "no").unwrap() else { panic!("twice") };
    assert_eq!(first.choice(), b"yes");
    assert_eq!(mayor.find("ada").unwrap(), Some(first));
    // Another election, and one whose name goes on with what the voter's begins with.
    assert!(council.cast("ada", "no").unwrap().is_counted());
    assert!(!ballots.election("mayora").unwrap().has_voted("da").unwrap());
    // A voter whose name goes on where the other's ends.
    assert!(!mayor.has_voted("ad").unwrap() && !mayor.has_voted("adaa").unwrap());
    assert_eq!(mayor.tally().unwrap().of("yes"), 1);
    assert_eq!(mayor.tally().unwrap().of("no"), 0);
    assert_eq!(tally(&council), BTreeMap::from([(b"no".to_vec(), 1)]));
    assert_eq!(ballots.elections().unwrap(), ["council", "mayor"]);
}

#[test]
fn the_choice_is_not_shown_to_who_does_not_ask() {
    let directory = directory();
    let election = open(directory.path()).election("mayor").unwrap();
    let _ = election.cast("ada", "the-choice").unwrap();
    let again = election.cast("ada", "").unwrap();
    let mut casts = Casts::new();
    election.cast_many(&[("ada", "")], &mut casts).unwrap();
    let shown = format!("{again:?} {casts:?} {:?} {election:?}", election.find("ada").unwrap());
    assert!(!shown.contains("the-choice") && !shown.contains("116, 104"), "{shown}");
}

#[test]
fn of_64_threads_voting_for_one_voter_one_is_counted() {
    let directory = directory();
    let election = open(directory.path()).election("mayor").unwrap();
    let barrier = Barrier::new(64);
    for voter in 0..50 {
        let voter = format!("voter {voter}");
        let counted: Vec<usize> = thread::scope(|scope| {
            let all: Vec<_> = (0..64)
                .map(|thread| {
                    let (election, barrier, voter) = (&election, &barrier, &voter);
                    scope.spawn(move || {
                        barrier.wait();
                        let choice = thread.to_string();
                        let counted = if thread % 2 == 0 {
                            election.cast(voter, choice).unwrap().is_counted()
                        } else {
                            let mut casts = Casts::new();
                            election.cast_many(&[(voter, choice)], &mut casts).unwrap();
                            casts.counted() == 1
                        };
                        counted.then_some(thread)
                    })
                })
                .collect();
            all.into_iter().filter_map(|one| one.join().unwrap()).collect()
        });
        let [winner] = counted[..] else { panic!("{counted:?} were counted") };
        let ballot = election.find(&voter).unwrap().unwrap();
        assert_eq!(ballot.choice(), winner.to_string().as_bytes());
    }
    assert_eq!(tally(&election).values().sum::<u64>(), 50);
}

#[test]
fn a_batch_is_as_its_ballots_one_after_another() {
    let directory = directory();
    let election = open(directory.path()).election("mayor").unwrap();
    assert!(election.cast("b", "x").unwrap().is_counted());
    let mut casts = Casts::new();
    let ballots = [("a", "x"), ("b", "y"), ("c", "y"), ("a", "z"), ("d", "")];
    election.cast_many(&ballots, &mut casts).unwrap();
    let counted: Vec<bool> = casts.iter().map(|cast| cast.is_counted()).collect();
    assert_eq!(counted, [true, false, true, false, true]);
    assert_eq!((casts.len(), casts.counted()), (5, 3));
    let Some(Cast::AlreadyVoted(first)) = casts.get(3) else { panic!("a voted twice") };
    assert_eq!(first.choice(), b"x");
    let mut found = Found::new();
    election.find_many(&["d", "nobody", "b"], &mut found).unwrap();
    let choices: Vec<_> =
        found.iter().map(|ballot| ballot.map(|one| one.choice().to_vec())).collect();
    assert_eq!(choices, [Some(vec![]), None, Some(b"x".to_vec())]);
    assert_eq!((found.len(), found.voted()), (3, 2));
    let expected = [("", 1), ("x", 2), ("y", 1)];
    let expected = expected.map(|(choice, count)| (choice.as_bytes().to_vec(), count));
    assert_eq!(tally(&election), BTreeMap::from(expected));
}

#[test]
fn a_batch_that_fails_counts_what_it_recorded() {
    let directory = directory();
    let settings = small().key_bytes_max(32).outcome_bytes_max(8);
    let ballots = Ballots::open_with(settings, directory.path()).unwrap();
    let election = ballots.election("mayor").unwrap();
    assert_eq!(election.tally().unwrap().total(), 0);
    let mut casts = Casts::new();
    let long = "v".repeat(40);
    for (at, voter) in ["", &long].into_iter().enumerate() {
        let [a, b] = [0, 1].map(|n| format!("{at} {n}"));
        let error = election.cast_many(&[(&*a, "x"), (voter, "x"), (&*b, "x")], &mut casts);
        assert!(matches!(error, Err(Error::EmptyKey | Error::KeyTooLong { .. })), "{error:?}");
        assert_eq!((casts.len(), casts.counted()), (1, 1));
        assert!(!election.has_voted(&b).unwrap());
    }
    let error = election.cast_many(&[("c", "x"), ("d", "longer than 8")], &mut casts);
    assert!(matches!(error, Err(Error::OutcomeTooLong { .. })));
    assert_eq!(casts.len(), 1);
    assert!(matches!(election.cast("", "x"), Err(Error::EmptyKey)));
    assert!(matches!(election.find(""), Err(Error::EmptyKey)));
    let mut found = Found::new();
    let error = election.find_many(&["c", "", "c"], &mut found);
    assert!(matches!(error, Err(Error::EmptyKey)) && found.voted() == 1 && found.len() == 1);
    assert_eq!(tally(&election), BTreeMap::from([(b"x".to_vec(), 3)]));
}

#[test]
fn a_name_that_is_no_elections_is_refused() {
    let directory = directory();
    let ballots = open(directory.path());
    for name in ["", &"n".repeat(256)] {
        assert!(matches!(ballots.election(name), Err(Error::InvalidNamespace { .. })));
    }
    let longest = ballots.election(&"n".repeat(255)).unwrap();
    assert!(longest.cast("ada", "x").unwrap().is_counted());
    assert_eq!(longest.tally().unwrap().total(), 1);
}

#[test]
fn a_store_of_something_else_is_refused_and_left_as_it_was() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    assert!(store.insert("order-42").unwrap());
    drop(store);
    let refused = Ballots::open_with(small(), directory.path());
    let Err(Error::InvalidConfig { reason }) = refused else { panic!("accepted") };
    assert!(reason.contains("directory of their own"), "{reason}");
    let store = small().open(directory.path()).unwrap();
    assert!(store.contains("order-42").unwrap());
    assert_eq!(store.stats().keys, 1);
}

#[test]
fn ballots_never_end_whatever_lifetime_the_settings_have() {
    let directory = directory();
    let clock = crate::setup::clock();
    let settings = || small().ttl(SECOND).clock(clock.clone());
    let ballots = Ballots::open_with(settings(), directory.path()).unwrap();
    let election = ballots.election("mayor").unwrap();
    assert!(election.cast("ada", "yes").unwrap().is_counted());
    clock.advance(SECOND * 3_600 * 24 * 366 * 900);
    ballots.maintain(SECOND).unwrap();
    assert!(!election.cast("ada", "no").unwrap().is_counted());
    drop((ballots, election));
    let ballots = Ballots::open_with(settings(), directory.path()).unwrap();
    let election = ballots.election("mayor").unwrap();
    assert_eq!(election.find("ada").unwrap().unwrap().choice(), b"yes");
}

#[test]
fn who_learns_that_somebody_has_voted_finds_the_ballot_counted() {
    let directory = directory();
    let election = open(directory.path()).election("mayor").unwrap();
    assert_eq!(election.tally().unwrap().total(), 0);
    for round in 1..=3_000 {
        let voter = format!("voter {round}");
        let answers = at_once(|_| {
            let cast = election.cast(&voter, "yes").unwrap();
            (cast.is_counted(), election.tally().unwrap().total())
        });
        assert_eq!(count(&answers, |one| one.0), 1);
        assert!(answers.iter().all(|one| one.1 == round), "{answers:?} in round {round}");
    }
    let _ = tally(&election);
}

#[test]
fn a_ballot_that_can_be_found_is_counted() {
    const VOTERS: u64 = 40_000;
    let directory = directory();
    let election = open(directory.path()).election("mayor").unwrap();
    assert_eq!(election.tally().unwrap().total(), 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for voter in 0..VOTERS {
                assert!(election.cast(voter.to_string(), "yes").unwrap().is_counted());
            }
        });
        let mut next = 0;
        while next < VOTERS {
            if !election.has_voted(next.to_string()).unwrap() {
                thread::yield_now();
                continue;
            }
            let total = election.tally().unwrap().total();
            assert!(total > next, "voter {next} was found, and {total} are counted");
            next = total;
        }
    });
}

/// A choice that looks at the tally when it is asked for.
struct Curious<'a>(&'a Election);

impl AsRef<[u8]> for Curious<'_> {
    fn as_ref(&self) -> &[u8] {
        assert!(self.0.tally().unwrap().total() <= 2);
        b"yes"
    }
}

#[test]
fn no_code_of_the_caller_runs_while_others_wait() {
    let directory = directory();
    let election = open(directory.path()).election("mayor").unwrap();
    let mut casts = Casts::new();
    election
        .cast_many(&[("ada", Curious(&election)), ("ben", Curious(&election))], &mut casts)
        .unwrap();
    assert!(election.cast("cleo", Curious(&election)).unwrap().is_counted());
    assert_eq!(election.tally().unwrap().of("yes"), 3);
}

#[test]
fn a_tally_has_every_ballot_told_of_before_it_and_is_always_what_a_recount_says() {
    let directory = directory();
    let ballots = Ballots::open_with(small(), directory.path()).unwrap();
    let election = ballots.election("mayor").unwrap();
    let (told, under_way) = (AtomicU64::new(0), AtomicU64::new(2));
    thread::scope(|scope| {
        for thread in 0..2_u64 {
            let (election, told, under_way) = (&election, &told, &under_way);
            scope.spawn(move || {
                let (mut casts, mut random) = (Casts::new(), Random::new(thread));
                for _ in 0..200 {
                    // Of voters that the threads share.
                    let ballots: Vec<_> = (0..1 + random.below(60))
                        .map(|_| random.below(20_000))
                        .map(|voter| (voter.to_string(), (voter % 7).to_string()))
                        .collect();
                    election.cast_many(&ballots, &mut casts).unwrap();
                    told.fetch_add(casts.counted(), Ordering::SeqCst);
                }
                under_way.fetch_sub(1, Ordering::SeqCst);
            });
        }
        let (election, told, under_way) = (&election, &told, &under_way);
        scope.spawn(move || {
            let mut last = 0;
            while under_way.load(Ordering::SeqCst) > 0 {
                let before = told.load(Ordering::SeqCst);
                let total = election.tally().unwrap().total();
                assert!(total >= before.max(last), "{total} of {before}, {last} before");
                let recount = election.recount().unwrap().total();
                assert!(recount >= total);
                last = recount;
            }
        });
    });
    assert_eq!(tally(&election).values().sum::<u64>(), told.into_inner());
}

#[test]
fn a_ballot_at_the_level_synced_is_on_stable_storage() {
    let directory = directory();
    let ballots = open(directory.path());
    let synced = ballots.with_durability(Durability::Synced).unwrap().election("mayor").unwrap();
    let before = ballots.stats();
    assert!(synced.cast("ada", "yes").unwrap().is_counted());
    let after = ballots.stats();
    assert!(after.syncs > before.syncs && after.unsynced_bytes == 0);
    // The same ballots through both handles.
    assert!(!ballots.election("mayor").unwrap().cast("ada", "no").unwrap().is_counted());
    assert_eq!(tally(&synced).values().sum::<u64>(), 1);
}

#[test]
fn closed_ballots_say_so() {
    let directory = directory();
    let ballots = open(directory.path());
    let election = ballots.election("mayor").unwrap();
    let other = ballots.clone();
    let _ = ballots.close().unwrap();
    assert!(matches!(election.cast("ada", "yes"), Err(Error::Closed)));
    assert!(matches!(election.tally(), Err(Error::Closed)));
    assert!(matches!(other.export(), Err(Error::Closed)));
    let error = Store::open(directory.path().join("STORE"));
    assert!(matches!(error, Err(Error::NotADirectory { .. })));
}

#[derive(Clone, Debug)]
enum Step {
    Cast(u8, u8),
    Many(Vec<(u8, u8)>),
    Tally,
    Drop,
    Close,
    Export,
    Maintain,
}

fn step() -> impl Strategy<Value = Step> {
    let (voter, choice) = (0..40_u8, 0..5_u8);
    prop_oneof![
        4 => (voter.clone(), choice.clone()).prop_map(|(voter, choice)| Step::Cast(voter, choice)),
        4 => prop::collection::vec((voter, choice), 0..30).prop_map(Step::Many),
        2 => Just(Step::Tally),
        1 => Just(Step::Drop),
        1 => Just(Step::Close),
        1 => Just(Step::Export),
        1 => Just(Step::Maintain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn tallies_are_those_of_a_model_over_restarts_and_exports(
        steps in prop::collection::vec((any::<bool>(), step()), 1..40)
    ) {
        let directory = fast_directory();
        let mut ballots = open(directory.path());
        let mut model = [BTreeMap::<String, Vec<u8>>::new(), BTreeMap::new()];
        let mut casts = Casts::new();
        for (second, step) in steps {
            let election = ballots.election(if second { "b" } else { "a" }).unwrap();
            let model = &mut model[usize::from(second)];
            let mut expect = |voter: &str, choice: &[u8], cast: Cast| match cast {
                Cast::Counted => assert!(model.insert(voter.into(), choice.into()).is_none()),
                Cast::AlreadyVoted(first) => assert_eq!(first.choice(), &model[voter][..]),
            };
            match step {
                Step::Cast(voter, choice) => {
                    let (voter, choice) = (voter.to_string(), [choice]);
                    expect(&voter, &choice, election.cast(&voter, choice).unwrap());
                }
                Step::Many(items) => {
                    let items: Vec<_> =
                        items.into_iter().map(|(v, c)| (v.to_string(), [c])).collect();
                    election.cast_many(&items, &mut casts).unwrap();
                    assert_eq!(casts.len(), items.len());
                    for ((voter, choice), cast) in items.iter().zip(casts.iter()) {
                        expect(voter, choice, cast);
                    }
                }
                Step::Tally => {
                    let mut counts = BTreeMap::new();
                    model.values().for_each(|c| *counts.entry(c.clone()).or_default() += 1);
                    assert_eq!(tally(&election), counts);
                }
                Step::Drop => {
                    drop((election, ballots));
                    ballots = open(directory.path());
                }
                Step::Close => {
                    drop(election);
                    let _ = ballots.close().unwrap();
                    ballots = open(directory.path());
                }
                Step::Export => drop(ballots.export().unwrap()),
                Step::Maintain => drop(ballots.maintain(SECOND).unwrap()),
            }
        }
        for (name, model) in ["a", "b"].into_iter().zip(&model) {
            let election = ballots.election(name).unwrap();
            for (voter, choice) in model {
                assert_eq!(election.find(voter).unwrap().unwrap().choice(), &choice[..]);
            }
            assert_eq!(election.tally().unwrap().total(), model.len() as u64);
        }
    }
}
