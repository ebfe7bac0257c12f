//! Recipes that record several keys together, cut off by a power loss at every moment.

use std::time::Duration;

use crate::begin::Begin;
use crate::config::Durability;
use crate::engine::bench::{Bench, cut, watched};
use crate::lease::Lease;
use crate::meta::Status;
use crate::recipes::consumer::{Group, Message, Turn};
use crate::recipes::outbox::Outbox;
use crate::store::Store;

const LEASE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);

fn bench(level: Durability) -> Bench {
    let mut bench = Bench::new();
    bench.config.durability = level;
    bench
}

fn job(store: &Store, name: &str) -> Lease {
    match store.begin(name).unwrap() {
        Begin::Started(lease) => lease,
        other => panic!("not started: {other:?}"),
    }
}

fn is_done(store: &Store, name: &str) -> bool {
    let meta = store.peek(name).unwrap();
    meta.is_some_and(|meta| meta.status == Status::Completed)
}

fn outbox(store: &Store) -> Outbox {
    Outbox::open(store, "o", HOUR).unwrap()
}

/// What is pending, in order.
fn pending(store: &Store) -> Vec<String> {
    let outbox = outbox(store);
    let messages = outbox.pending().unwrap();
    messages.map(|one| String::from_utf8(one.unwrap().payload().to_vec()).unwrap()).collect()
}

#[test]
fn work_is_recorded_and_its_messages_sent_or_neither_after_every_power_cut() {
    for level in [Durability::Process, Durability::Synced] {
        let bench = bench(level);
        let store = Store::over(bench.open());
        outbox(&store).complete(&mut job(&store, "first"), "", &["1"]).unwrap();
        let mut lease = job(&store, "second");
        store.sync().unwrap();
        let looks = watched(&bench, || {
            outbox(&store).complete(&mut lease, "done", &["2", "3"]).unwrap();
        });
        let images = cut(&bench, &looks, 150, |engine| {
            let store = Store::over(engine);
            let expected: &[&str] =
                if is_done(&store, "second") { &["1", "2", "3"] } else { &["1"] };
            assert_eq!(pending(&store), expected);
            // Numbers that were given out are not taken for new messages' marks.
            outbox(&store).complete(&mut job(&store, "third"), "", &["4"]).unwrap();
            assert_eq!(pending(&store), [expected, &["4"]].concat());
        });
        assert!(images > 20, "{images}");
    }
}

#[test]
fn no_mark_that_outlives_its_message_hides_a_later_one() {
    let bench = bench(Durability::Process);
    let store = Store::over(bench.open());
    outbox(&store).complete(&mut job(&store, "first"), "", &["1"]).unwrap();
    store.sync().unwrap();
    let looks = watched(&bench, || {
        outbox(&store).complete(&mut job(&store, "second"), "", &["2", "3"]).unwrap();
        let orders = outbox(&store);
        let messages: Vec<_> = orders.pending().unwrap().map(Result::unwrap).collect();
        assert!(orders.dispatched(&messages[2]).unwrap());
        assert_eq!(orders.dispatched_many(&messages).unwrap(), 2);
        outbox(&store).complete(&mut job(&store, "third"), "", &["4"]).unwrap();
    });
    let images = cut(&bench, &looks, 300, |engine| {
        let store = Store::over(engine);
        let before = pending(&store);
        assert_eq!(before.contains(&"4".to_owned()), is_done(&store, "third"));
        let more = is_done(&store, "second");
        assert!(more || !before.iter().any(|name| name == "2" || name == "3"), "{before:?}");
        outbox(&store).complete(&mut job(&store, "fourth"), "", &["5", "6"]).unwrap();
        let after = pending(&store);
        assert_eq!(after, [&before[..], &["5".to_owned(), "6".to_owned()]].concat());
    });
    assert!(images > 20, "{images}");
}

#[test]
fn the_position_is_never_ahead_of_the_marks_after_a_power_cut() {
    for level in [Durability::Process, Durability::Synced] {
        let bench = bench(level);
        let store = Store::over(bench.open());
        let ids: Vec<String> = (0..20).map(|number| format!("id {number}")).collect();
        let orders = |store: &Store| Group::open(store, "g", LEASE, HOUR).unwrap();
        let commit = |from: usize, to: usize| {
            let messages = (0..).zip(&ids).skip(from).take(to - from);
            let messages = messages.map(|(offset, id)| Message::at(offset).id(id));
            let partition = orders(&store).partition("t", 0);
            let mut batch = partition.claim(from as u64, messages).unwrap();
            for index in 0..batch.len() {
                assert!(matches!(batch.turn(index), Turn::Handle(_)));
                batch.handled(index, "").unwrap();
            }
            batch.commit().unwrap();
        };
        commit(0, 10);
        store.sync().unwrap();
        let looks = watched(&bench, || commit(10, 20));
        let images = cut(&bench, &looks, 150, |engine| {
            let store = Store::over(engine);
            let next = orders(&store).partition("t", 0).position().unwrap().unwrap();
            assert!(next == 10 || next == 20, "{next}");
            // By their own marks, whatever the position says.
            let batch = orders(&store).claim("t", ids.iter().map(Message::of)).unwrap();
            let done =
                |index: &usize| *index < batch.len() && matches!(batch.turn(*index), Turn::Done);
            assert_eq!((0..).take_while(done).count() as u64, next);
        });
        assert!(images > 20, "{images}");
    }
}
