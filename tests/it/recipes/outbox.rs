//! Outboxes: nothing lost, nothing sent of work that was not recorded, order, marks, and age.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use oncelog::recipes::outbox::{MESSAGES_MAX, Message, Outbox};
use oncelog::{Begin, DropPolicy, Durability, Error, Lease, Policy, Status, Store, Ttl};

use crate::lease::{LEASE, open, started};
use crate::recipes::HOUR;
use crate::setup::{Random, clock, directory, fast_directory, maintain, small};

fn outbox(store: &Store) -> Outbox {
    Outbox::open(store, "o", HOUR).unwrap()
}

fn pending(outbox: &Outbox) -> Vec<Message> {
    outbox.pending().unwrap().collect::<Result<_, _>>().unwrap()
}

fn payloads(messages: &[Message]) -> Vec<String> {
    let text = |message: &Message| String::from_utf8_lossy(message.payload()).into_owned();
    messages.iter().map(text).collect()
}

fn job(store: &Store, name: &str) -> Lease {
    started(store.begin(name).unwrap())
}

#[test]
fn a_completion_sends_its_messages_which_are_pending_in_order_until_they_are_marked() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let orders = outbox(&store);
    assert!(pending(&orders).is_empty());
    let (mut first, mut second) = (job(&store, "1"), job(&store, "2"));
    // In the order of completion, whoever began first.
    let version = orders.complete(&mut second, "done 2", &["a", "b"]).unwrap();
    orders.complete(&mut first, "done 1", &["", "d"]).unwrap();
    assert!(first.is_over() && second.is_over());
    let record = store.get("2").unwrap().unwrap();
    assert_eq!((record.outcome(), record.version()), (&b"done 2"[..], version));
    drop((orders, first, second, store));
    let store = open(directory.path(), &clock);
    let orders = outbox(&store);
    let messages = pending(&orders);
    assert_eq!(payloads(&messages), ["a", "b", "", "d"]);
    assert!(messages.is_sorted_by(|a, b| a.number() < b.number()));
    assert!(orders.dispatched(&messages[1]).unwrap());
    assert!(!orders.dispatched(&messages[1]).unwrap());
    assert_eq!(payloads(&pending(&orders)), ["a", "", "d"]);
    assert_eq!(orders.dispatched_many(&messages).unwrap(), 3);
    assert_eq!(orders.dispatched_many(&messages).unwrap(), 0);
    drop((orders, store));
    let store = open(directory.path(), &clock);
    assert!(pending(&outbox(&store)).is_empty());
    let mut third = job(&store, "3");
    outbox(&store).complete(&mut third, "", &["e"]).unwrap();
    let again = pending(&outbox(&store));
    assert!(again[0].number() > messages[3].number());
    assert!(pending(&Outbox::open(&store, "other", HOUR).unwrap()).is_empty());
}

#[test]
fn a_lease_that_is_lost_sends_nothing_and_what_cannot_be_sent_completes_nothing() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let orders = outbox(&store);
    let mut late = job(&store, "1");
    clock.advance(LEASE);
    let mut current = job(&store, "1");
    assert!(matches!(orders.complete(&mut late, "", &["late"]), Err(Error::LeaseLost)));
    assert!(pending(&orders).is_empty() && !late.is_over());
    let long = vec![0; (1 << 20) + 1];
    let refused = orders.complete(&mut current, "", &[&b"short"[..], &long]);
    assert!(matches!(refused, Err(Error::OutcomeTooLong { .. })));
    let refused = orders.complete(&mut current, "", &vec![""; MESSAGES_MAX + 1]);
    assert!(matches!(refused, Err(Error::TooLarge { what: "messages", .. })));
    assert_eq!(store.peek("1").unwrap().unwrap().status, Status::InProgress);
    assert!(pending(&orders).is_empty());
    orders.complete(&mut current, "done", &["in time"]).unwrap();
    assert!(matches!(orders.complete(&mut current, "", &["again"]), Err(Error::LeaseLost)));
    assert_eq!(payloads(&pending(&orders)), ["in time"]);
    let mut silent = job(&store, "2");
    orders.complete(&mut silent, "quiet", &[] as &[&str]).unwrap();
    assert!(matches!(store.begin("2").unwrap(), Begin::Completed(_)));
    let elsewhere = directory.path().join("elsewhere");
    let other = open(&elsewhere, &clock);
    let mut foreign = job(&other, "1");
    let refused = orders.complete(&mut foreign, "", &["x"]);
    assert!(matches!(refused, Err(Error::InvalidConfig { .. })));
    assert!(matches!(Outbox::open(&store, "o", Ttl::Never), Err(Error::InvalidTtl { .. })));
}

#[test]
fn work_whose_outcome_could_not_be_recorded_is_not_given_back_by_its_drop() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let policy = Policy { on_drop: DropPolicy::Release, ..Policy::default() };
    let space = store.namespace("jobs", policy).unwrap();
    let mut lease = started(space.begin("1").unwrap());
    let long = vec![0; (1 << 20) + 1];
    assert!(outbox(&store).complete(&mut lease, "", &[long]).is_err());
    drop(lease);
    assert_eq!(space.peek("1").unwrap().unwrap().status, Status::InProgress);
}

#[test]
fn what_is_pending_is_kept_by_a_dispatcher_that_cannot_send() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let orders = outbox(&store);
    let mut lease = job(&store, "1");
    orders.complete(&mut lease, "", &["a", "b"]).unwrap();
    let first = pending(&orders);
    for _ in 0..10 {
        clock.advance(HOUR / 2 + LEASE);
        maintain(&store);
        let now = pending(&orders);
        assert_eq!(payloads(&now), ["a", "b"]);
        assert_eq!(now[0].number(), first[0].number());
    }
    // Read before it was kept longer, and marked all the same.
    assert!(orders.dispatched(&first[0]).unwrap());
    assert_eq!(payloads(&pending(&orders)), ["b"]);
    // Nobody looks for as long as it is kept: it is forgotten, and its number not used again.
    clock.advance(2 * HOUR);
    maintain(&store);
    assert!(pending(&orders).is_empty());
    let mut lease = job(&store, "2");
    orders.complete(&mut lease, "", &["c"]).unwrap();
    assert!(pending(&orders)[0].number() > first[1].number());
}

#[test]
fn any_life_agrees_with_a_list_of_what_was_completed_and_not_marked() {
    for seed in 0..10 {
        let (directory, clock) = (fast_directory(), clock());
        let mut store = open(directory.path(), &clock);
        let mut random = Random::new(seed);
        let (mut list, mut jobs) = (Vec::<String>::new(), 0);
        for _ in 0..400 {
            let orders = outbox(&store);
            match random.below(10) {
                0..5 => {
                    let mut lease = job(&store, &format!("job {jobs}"));
                    let sent: Vec<String> =
                        (0..random.below(5)).map(|part| format!("{jobs}.{part}")).collect();
                    if random.below(8) == 0 {
                        // The process ends before the completion.
                        drop((lease, orders, store));
                        store = open(directory.path(), &clock);
                    } else {
                        orders.complete(&mut lease, "", &sent).unwrap();
                        list.extend(sent);
                    }
                    jobs += 1;
                }
                5..9 => {
                    let messages = pending(&orders);
                    assert_eq!(payloads(&messages), list, "seed {seed}");
                    let chosen: Vec<Message> =
                        messages.into_iter().filter(|_| random.below(2) == 0).collect();
                    let names: BTreeSet<String> = payloads(&chosen).into_iter().collect();
                    assert_eq!(orders.dispatched_many(&chosen).unwrap(), chosen.len());
                    list.retain(|name| !names.contains(name));
                }
                _ => {
                    drop((orders, store));
                    store = open(directory.path(), &clock);
                    maintain(&store);
                }
            }
        }
        assert_eq!(payloads(&pending(&outbox(&store))), list);
    }
}

#[test]
fn threads_that_complete_and_dispatch_lose_nothing_and_mark_each_message_once() {
    let directory = fast_directory();
    let store = small().open(directory.path()).unwrap();
    let (done, marks) = (AtomicBool::new(false), Mutex::new(BTreeMap::<String, u32>::new()));
    let rounds = 200;
    thread::scope(|scope| {
        let dispatch = || {
            let orders = outbox(&store);
            loop {
                let last = done.load(Ordering::SeqCst);
                let messages = pending(&orders);
                assert!(messages.is_sorted_by(|a, b| a.number() < b.number()));
                for message in &messages {
                    if orders.dispatched(message).unwrap() {
                        let name = payloads(std::slice::from_ref(message)).remove(0);
                        *marks.lock().unwrap().entry(name).or_default() += 1;
                    }
                }
                if last && messages.is_empty() {
                    return;
                }
            }
        };
        let dispatchers = [scope.spawn(dispatch), scope.spawn(dispatch)];
        let store = &store;
        let completers: Vec<_> = (0..3)
            .map(|worker| {
                scope.spawn(move || {
                    let orders = outbox(store);
                    for round in 0..rounds {
                        let mut lease = job(store, &format!("{worker} {round}"));
                        let sent = [format!("{worker} {round} a"), format!("{worker} {round} b")];
                        orders.complete(&mut lease, "", &sent).unwrap();
                    }
                })
            })
            .collect();
        completers.into_iter().for_each(|worker| worker.join().unwrap());
        done.store(true, Ordering::SeqCst);
        dispatchers.into_iter().for_each(|one| one.join().unwrap());
    });
    let marks = marks.into_inner().unwrap();
    assert_eq!(marks.len(), 3 * rounds * 2);
    assert!(marks.values().all(|times| *times == 1));
    assert!(pending(&outbox(&store)).is_empty());
}

#[test]
fn the_lease_s_level_and_the_outbox_s_are_kept_both() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let synced = store.with_durability(Durability::Synced).unwrap();
    let (mut at_process, mut at_synced) = (job(&store, "1"), job(&synced, "2"));
    outbox(&store).complete(&mut at_synced, "", &["a"]).unwrap();
    assert_eq!(store.stats().unsynced_bytes, 0);
    outbox(&synced).complete(&mut at_process, "", &["b"]).unwrap();
    assert_eq!(store.stats().unsynced_bytes, 0);
    let mut last = job(&store, "3");
    outbox(&store).complete(&mut last, "", &["c"]).unwrap();
    assert!(store.stats().unsynced_bytes > 0);
}
