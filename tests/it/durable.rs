//! Levels and tickets as a caller uses them, on the real file system.

use std::path::Path;
use std::time::Duration;

use oncelog::{
    AbandonPolicy, Answers, Begin, BeginOptions, CheckOptions, Durability, Error, InProgress,
    Lease, Lookups, Policy, Store, Timestamp,
};

use crate::setup::{directory, small};

/// Something to do, with the name it has in a failure.
type Named<T> = (&'static str, T);

/// A store with a handle at `Process` and one at `Synced`.
pub(crate) struct Levels {
    pub(crate) process: Store,
    pub(crate) synced: Store,
}

impl Levels {
    pub(crate) fn open(path: &Path) -> Self {
        let process = small().open(path).unwrap();
        let synced = process.with_durability(Durability::Synced).unwrap();
        Self { process, synced }
    }

    /// Something is recorded that is not on stable storage; afterwards, when a call at `Synced` has
    /// answered, all of it is.
    pub(crate) fn settles<A, B>(
        &self,
        name: &str,
        unsynced: impl FnOnce() -> A,
        ask: impl FnOnce() -> B,
    ) -> B {
        let kept = unsynced();
        assert!(self.process.stats().unsynced_bytes > 0, "{name}: nothing was recorded");
        let answer = ask();
        assert_eq!(self.process.stats().unsynced_bytes, 0, "{name}: answered too early");
        drop(kept);
        answer
    }

    /// What a call at `Synced` records is on stable storage when it returns.
    pub(crate) fn records<B>(&self, name: &str, ask: impl FnOnce() -> B) -> B {
        let before = self.process.stats().syncs;
        let answer = ask();
        assert!(self.process.stats().syncs > before, "{name}: no sync");
        assert_eq!(self.process.stats().unsynced_bytes, 0, "{name}: answered too early");
        answer
    }
}

#[test]
fn every_level_records_and_a_handle_of_another_level_is_the_same_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::builder().durability(Durability::Synced).open(directory.path()).unwrap();
    assert!(store.check_and_set("a", "1").unwrap().is_new());
    let process = store.with_durability(Durability::Process).unwrap();
    assert!(process.check_and_set("a", "2").unwrap().is_duplicate());
    let Begin::Started(mut lease) = store.begin("b").unwrap() else { panic!("a new key") };
    lease.complete("done").unwrap();
    assert!(store.remove("a").unwrap());
    assert_eq!(store.stats().unsynced_bytes, 0);
    let interval = Durability::Interval(Duration::ZERO);
    assert!(matches!(store.with_durability(interval), Err(Error::InvalidConfig { .. })));
}

#[test]
fn a_thousand_tickets_in_flight_share_one_sync() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let before = store.stats().syncs;
    let tickets: Vec<_> = (0..1000)
        .map(|i: u32| {
            assert!(store.insert(i.to_le_bytes()).unwrap());
            store.ticket().unwrap()
        })
        .collect();
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    assert_eq!(store.stats().syncs - before, 1);
    assert_eq!(store.stats().unsynced_bytes, 0);
}

#[test]
fn an_error_that_is_an_answer_waits_for_the_record_it_rests_on_in_a_batch_too() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let process = store.namespace("orders", Policy::default()).unwrap();
    let synced = process.with_durability(Durability::Synced).unwrap();
    let lease = process.begin("a").unwrap();
    assert!(store.stats().unsynced_bytes > 0);
    let refused = synced.check_and_set_many(&[("a", "x")], &mut Answers::new());
    assert!(matches!(refused, Err(Error::InProgress { .. })), "{refused:?}");
    assert_eq!(store.stats().unsynced_bytes, 0);
    drop(lease);
}

#[test]
fn a_batch_of_begins_waits_for_what_its_answers_rest_on_whoever_recorded_that() {
    let directory = tempfile::tempdir().unwrap();
    let process = Store::open(directory.path()).unwrap();
    let synced = process.with_durability(Durability::Synced).unwrap();
    let mut answers = Vec::new();
    synced.begin_many(&["a", "b"], BeginOptions::new(), &mut answers).unwrap();
    assert_eq!(process.stats().unsynced_bytes, 0);
    let lease = process.begin("c").unwrap();
    assert!(process.stats().unsynced_bytes > 0);
    synced.begin_many(&["c"], BeginOptions::new(), &mut answers).unwrap();
    assert!(matches!(answers[..], [Begin::InProgress(_)]));
    assert_eq!(process.stats().unsynced_bytes, 0);
    // A request older than the store's memory is refused, and that too is an answer.
    process.insert("d").unwrap();
    let ancient = BeginOptions::new().sent_at(Timestamp::from_millis(0));
    let refused = synced.begin_many(&["e"], ancient, &mut answers);
    assert!(matches!(refused, Err(Error::Stale { .. })), "{refused:?}");
    assert_eq!(process.stats().unsynced_bytes, 0);
    drop(lease);
}

#[test]
fn completing_a_lease_of_another_store_in_a_batch_syncs_that_store() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let open = |path| Store::builder().durability(Durability::Synced).open(path).unwrap();
    let (one, two) = (open(one.path()), open(two.path()));
    let Begin::Started(lease) = two.begin("a").unwrap() else { panic!("a new key") };
    one.complete_many(&mut [(lease, "done")]).unwrap();
    assert_eq!(two.stats().unsynced_bytes, 0);
}

const HOUR: Duration = Duration::from_secs(3600);

fn started(begun: Begin) -> Lease {
    let Begin::Started(lease) = begun else { panic!("{begun:?}") };
    lease
}

fn in_progress(begun: Begin) -> InProgress {
    let Begin::InProgress(other) = begun else { panic!("{begun:?}") };
    other
}

/// Another caller at `Process` has just recorded the key; each call that finds it out.
#[test]
fn no_lookup_or_duplicate_at_synced_is_told_before_its_record_is_durable() {
    let directory = directory();
    let levels = Levels::open(directory.path());
    let Levels { process, synced } = &levels;
    let record = || assert!(process.check_and_set("a", "1").unwrap().is_new());
    let forget = || assert!(process.remove("a").unwrap());
    let (options, lookups, answers) =
        (CheckOptions::new(), &mut Lookups::new(), &mut Answers::new());
    let mut asks: Vec<Named<Box<dyn FnMut() + '_>>> = vec![
        ("insert", Box::new(|| assert!(!synced.insert("a").unwrap()))),
        ("check", Box::new(|| assert!(!synced.check_and_set("a", "2").unwrap().is_new()))),
        ("for", Box::new(|| assert!(!synced.check_and_set_for("a", "", HOUR).unwrap().is_new()))),
        (
            "with",
            Box::new(|| {
                assert!(!synced.check_and_set_with("a", "", options).unwrap().is_new());
            }),
        ),
        (
            "many",
            Box::new(|| {
                synced.check_and_set_many(&[("a", "2"), ("a", "3")], answers).unwrap();
                assert!(answers.iter().all(|answer| !answer.is_new()));
            }),
        ),
        ("get", Box::new(|| assert!(synced.get("a").unwrap().is_some()))),
        ("contains", Box::new(|| assert!(synced.contains("a").unwrap()))),
        (
            "get many",
            Box::new(|| {
                synced.get_many(&["b", "a"], lookups).unwrap();
                assert!(lookups.get(1).unwrap().is_some());
            }),
        ),
        ("peek", Box::new(|| assert!(synced.peek("a").unwrap().is_some()))),
        ("begin", Box::new(|| assert!(matches!(synced.begin("a").unwrap(), Begin::Completed(_))))),
        ("set_if", Box::new(|| assert!(synced.set_if("a", None, "2", None).unwrap().is_none()))),
        ("resolve", Box::new(|| assert!(!synced.resolve("a", "2").unwrap()))),
        ("complete", Box::new(|| lost(synced.complete_by("a", version(process, "a"), "2")))),
        ("renew", Box::new(|| lost(synced.renew_by("a", version(process, "a"), HOUR)))),
    ];
    for (name, ask) in &mut asks {
        levels.settles(name, record, ask);
        forget();
        process.sync().unwrap();
    }
    // That nothing is known rests on the removal.
    let ends: [Named<fn(&Store)>; 4] = [
        ("get none", |synced| assert!(synced.get("a").unwrap().is_none())),
        ("contains none", |synced| assert!(!synced.contains("a").unwrap())),
        ("peek none", |synced| assert!(synced.peek("a").unwrap().is_none())),
        ("remove none", |synced| assert!(!synced.remove("a").unwrap())),
    ];
    for (name, ask) in ends {
        record();
        levels.settles(name, forget, || ask(synced));
    }
}

fn version(store: &Store, key: &str) -> oncelog::Version {
    store.peek(key).unwrap().unwrap().version
}

fn lost<T>(ended: Result<T, Error>) {
    assert!(matches!(ended.map(|_| ()), Err(Error::LeaseLost)));
}

/// The same of keys under a lease; and what a call at `Synced` records itself.
#[test]
fn no_step_of_a_lease_at_synced_is_told_before_its_record_is_durable() {
    let directory = directory();
    let levels = Levels::open(directory.path());
    let Levels { process, synced } = &levels;
    let mut lease = levels.records("begin", || started(synced.begin("a").unwrap()));
    levels.records("renew", || lease.renew(HOUR).unwrap());
    levels.records("checkpoint", || lease.checkpoint("half", HOUR).unwrap());
    levels.records("complete", || lease.complete("done").map(|_| ()).unwrap());
    let mut lease =
        started(process.with_durability(Durability::Synced).unwrap().begin("b").unwrap());
    levels.records("fail", || lease.fail("no").map(|_| ()).unwrap());
    let mut lease = started(synced.begin("c").unwrap());
    levels.records("release", || lease.release(None).unwrap());
    levels.records("remove", || assert!(synced.remove("c").unwrap()));
    let set = || synced.set_if("d", None, "1", None).unwrap();
    assert!(levels.records("set_if", set).is_some());
    let both = [started(synced.begin("e").unwrap()), started(synced.begin("f").unwrap())];
    let mut both = both.map(|lease| (lease, "done"));
    levels.records("complete many", || synced.complete_many(&mut both).unwrap());

    // Somebody else at Process holds the key, or has ended its lease just now.
    let begin = || started(process.begin("g").unwrap());
    let refused = levels.settles("in progress", begin, || in_progress(synced.begin("g").unwrap()));
    assert!(levels.settles("check", || lease_of(process, "h"), || synced.insert("h")).is_err());
    assert!(
        levels.settles("resolve", || lease_of(process, "i"), || synced.resolve("i", "")).is_err()
    );
    let mut holder = started(process.begin("j").unwrap());
    let waiting = in_progress(synced.begin("j").unwrap());
    let complete = || holder.complete("done").map(|_| ()).unwrap();
    let waited = levels.settles("wait", complete, || waiting.wait(HOUR).unwrap());
    assert!(matches!(waited, Begin::Completed(_)));
    drop(refused);

    // An effect that is unknown is an answer as well.
    let clock = crate::setup::clock();
    let other = crate::setup::directory();
    let process = small().clock(clock.clone()).open(other.path()).unwrap();
    let levels = Levels { synced: process.with_durability(Durability::Synced).unwrap(), process };
    let hold = BeginOptions::new().on_abandon(AbandonPolicy::Hold).lease(HOUR);
    let unknown = || {
        let lease = started(levels.process.begin_with("a", hold).unwrap());
        clock.advance(HOUR);
        lease
    };
    let checked = levels.settles("unresolved", unknown, || levels.synced.insert("a"));
    assert!(matches!(checked, Err(Error::Unresolved)), "{checked:?}");
}

fn lease_of(store: &Store, key: &str) -> Lease {
    started(store.begin(key).unwrap())
}
