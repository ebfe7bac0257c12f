//! Consumers: redelivery, repeats, holes, takeover, pipelining, restarts, and a full store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use oncelog::recipes::consumer::{Batch, Committed, Group, MESSAGES_MAX, Message, Partition, Turn};
use oncelog::{Error, Store};

use crate::lease::open;
use crate::recipes::{HOUR, SECOND, at_once};
use crate::setup::{Random, clock, directory, fast_directory, maintain, small};

const LEASE: Duration = Duration::from_secs(30);

fn partition(store: &Store) -> Partition {
    Group::open(store, "g", LEASE, HOUR).unwrap().partition("t", 0)
}

/// A poll of these offsets, which began at `from`.
fn poll(partition: &Partition, from: u64, offsets: impl IntoIterator<Item = u64>) -> Batch {
    partition.claim(from, offsets.into_iter().map(Message::at)).unwrap()
}

/// The messages whose turn it is.
fn turns(batch: &Batch) -> Vec<usize> {
    (0..batch.len()).filter(|index| matches!(batch.turn(*index), Turn::Handle(_))).collect()
}

fn handle_all(batch: &mut Batch) -> Committed {
    for index in turns(batch) {
        batch.handled(index, "").unwrap();
    }
    batch.commit().unwrap()
}

#[test]
fn what_was_committed_is_not_handled_again_and_polling_resumes_behind_it() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let orders = partition(&store);
    assert_eq!(orders.position().unwrap(), None);
    let mut batch = poll(&orders, 5, 5..15);
    assert_eq!(turns(&batch).len(), 10);
    let committed = handle_all(&mut batch);
    assert_eq!((committed.next, committed.lost.len()), (Some(15), 0));
    drop((batch, orders, store));
    let store = open(directory.path(), &clock);
    let orders = partition(&store);
    assert_eq!(orders.position().unwrap(), Some(15));
    // A rebalance delivers some of them again.
    let mut batch = poll(&orders, 10, 10..20);
    assert_eq!(turns(&batch), [5, 6, 7, 8, 9]);
    assert!(matches!(batch.turn(0), Turn::Done));
    assert_eq!(handle_all(&mut batch).next, Some(20));
    let other = Group::open(&store, "other", LEASE, HOUR).unwrap().partition("t", 0);
    assert_eq!(turns(&poll(&other, 10, 10..20)).len(), 10);
    let group = Group::open(&store, "g", LEASE, HOUR).unwrap();
    for apart in [group.partition("t", 1), group.partition("t2", 0)] {
        assert_eq!((turns(&poll(&apart, 10, 10..20)).len()), 10);
    }
}

#[test]
fn a_message_that_is_sent_twice_is_handled_once_in_whatever_partition_or_poll() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let group = Group::open(&store, "g", LEASE, HOUR).unwrap();
    let [first, second] = [0, 1].map(|number| group.partition("t", number));
    let sent = [(0, "a"), (1, "b"), (2, "a")];
    let mut batch = first.claim(0, sent.map(|(at, id)| Message::at(at).id(id))).unwrap();
    assert_eq!(turns(&batch), [0, 1]);
    assert!(matches!(batch.turn(2), Turn::Repeated(0)));
    // Its repetition is done when it is, and not before.
    batch.handled(1, "").unwrap();
    assert_eq!(batch.commit().unwrap().next, Some(0));
    batch.handled(0, "").unwrap();
    assert_eq!(batch.commit().unwrap().next, Some(3));
    let mut batch = second.claim(7, [Message::at(7).id("b"), Message::at(9).id("c")]).unwrap();
    assert_eq!(turns(&batch), [1]);
    assert_eq!(handle_all(&mut batch).next, Some(10));
    let mut batch = group.claim("t", [Message::of("c"), Message::of("d")]).unwrap();
    assert_eq!(turns(&batch), [1]);
    assert_eq!(handle_all(&mut batch), Committed::default());
    assert!(turns(&group.claim("t", [Message::of("d")]).unwrap()).is_empty());
    assert_eq!(turns(&group.claim("t2", [Message::of("d")]).unwrap()), [0]);
}

#[test]
fn nothing_is_marked_before_it_was_handled_and_the_position_stays_before_it() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let orders = partition(&store);
    let mut batch = poll(&orders, 0, 0..5);
    for index in [0, 1, 3, 4] {
        batch.handled(index, "").unwrap();
    }
    batch.release(2, None).unwrap();
    assert_eq!(batch.commit().unwrap().next, Some(2));
    // The process ends with a poll whose effects may have happened.
    let lost = poll(&orders, 5, 5..8);
    drop((batch, lost, orders, store));
    let store = open(directory.path(), &clock);
    let orders = partition(&store);
    assert_eq!(orders.position().unwrap(), Some(2));
    let mut batch = poll(&orders, 2, 2..8);
    assert_eq!(turns(&batch), [0]);
    assert!(matches!(batch.turn(1), Turn::Done) && matches!(batch.turn(3), Turn::Busy(_)));
    assert_eq!(handle_all(&mut batch).next, Some(5));
    clock.advance(LEASE);
    let mut batch = poll(&orders, 5, 5..8);
    assert_eq!(turns(&batch).len(), 3);
    assert_eq!(handle_all(&mut batch).next, Some(8));
}

#[test]
fn polls_that_end_out_of_order_move_the_position_only_over_what_is_handled() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let orders = partition(&store);
    let mut polls: Vec<Batch> =
        (0..5).map(|number| poll(&orders, number * 10, number * 10..number * 10 + 10)).collect();
    for (number, next) in [(2, 0), (4, 0), (1, 0), (0, 30), (3, 50)] {
        let batch: &mut Batch = &mut polls[number];
        assert_eq!(handle_all(batch).next, Some(next), "after poll {number}");
    }
    // Also if the later poll is the first that is ever committed.
    let other = Group::open(&store, "g", LEASE, HOUR).unwrap().partition("t", 9);
    let (mut first, mut second) = (poll(&other, 100, 100..110), poll(&other, 110, 110..120));
    assert_eq!(handle_all(&mut second).next, Some(100));
    assert_eq!(handle_all(&mut first).next, Some(120));
    // A poll from before all that was ever asked for is handled, and comes first after a restart.
    let mut earlier = poll(&other, 90, [93, 97]);
    assert_eq!(other.position().unwrap(), Some(90));
    assert_eq!(turns(&earlier).len(), 2);
    earlier.handled(0, "").unwrap();
    assert_eq!(earlier.commit().unwrap().next, Some(94));
    assert_eq!(handle_all(&mut earlier).next, Some(98));
    let mut last = poll(&other, 98, [98, 99]);
    assert_eq!(handle_all(&mut last).next, Some(120));
}

#[test]
fn offsets_that_are_no_messages_are_passed_and_skipped_ones_too() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let orders = partition(&store);
    assert_eq!(handle_all(&mut poll(&orders, 3, [7, 8, 20])).next, Some(21));
    let mut batch = poll(&orders, 21, [25, 26]);
    batch.handled(1, "").unwrap();
    assert_eq!(batch.commit().unwrap().next, Some(21));
    orders.skip_to(26).unwrap();
    assert_eq!(orders.position().unwrap(), Some(27));
    orders.skip_to(5).unwrap();
    assert_eq!(orders.position().unwrap(), Some(27));
    assert!(turns(&poll(&orders, 21, [25, 26])).is_empty());
    for wrong in [&[5][..], &[30, 30], &[31, 30], &[u64::MAX]] {
        let claimed = orders.claim(27, wrong.iter().map(|offset| Message::at(*offset)));
        assert!(matches!(claimed, Err(Error::InvalidConfig { .. })), "{wrong:?}");
    }
    assert!(matches!(orders.claim(27, [Message::of("x")]), Err(Error::InvalidConfig { .. })));
    let many = (0..=MESSAGES_MAX as u64).map(|number| Message::at(100 + number));
    assert!(matches!(orders.claim(100, many), Err(Error::TooLarge { what: "messages", .. })));
}

#[test]
fn a_holder_that_was_replaced_marks_nothing_and_is_told_and_the_rest_is_marked() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let orders = partition(&store);
    let mut slow = poll(&orders, 0, 0..4);
    for index in 0..4 {
        slow.handled(index, "slow").unwrap();
    }
    clock.advance(LEASE);
    let mut next = poll(&orders, 1, [1, 2]);
    assert_eq!(turns(&next), [0, 1]);
    let committed = slow.commit().unwrap();
    assert_eq!((committed.next, committed.lost), (Some(1), vec![1, 2]));
    assert!(matches!(slow.handled(1, ""), Err(Error::LeaseLost)));
    assert_eq!(handle_all(&mut next).next, Some(4));
}

#[test]
fn only_a_message_that_is_marked_may_be_acknowledged() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let group = Group::open(&store, "g", LEASE, HOUR).unwrap();
    let marked = |batch: &Batch| -> Vec<usize> {
        (0..=batch.len()).filter(|index| batch.is_marked(*index)).collect()
    };
    let mut before = group.claim("t", [Message::of("before")]).unwrap();
    handle_all(&mut before);
    let _elsewhere = group.claim("t", [Message::of("elsewhere")]).unwrap();
    let ids = ["before", "elsewhere", "handled", "handled", "back", "back", "lost", "left out"];
    let mut batch = group.claim("t", ids.map(Message::of)).unwrap();
    assert_eq!(marked(&batch), [0]);
    batch.handled(2, "").unwrap();
    batch.handled(6, "").unwrap();
    batch.release(4, None).unwrap();
    // Its effect has happened, but a power cut or a kill would forget that.
    assert_eq!(marked(&batch), [0]);
    clock.advance(LEASE);
    let _other = group.claim("t", [Message::of("lost")]).unwrap();
    assert_eq!(batch.commit().unwrap().lost, [6]);
    assert_eq!(marked(&batch), [0, 2, 3]);
    assert!(matches!(batch.turn(4), Turn::Done) && matches!(batch.turn(6), Turn::Done));
}

#[test]
fn who_waits_for_another_consumer_finds_the_message_done_or_has_its_turn() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let orders = partition(&store);
    let mut first = poll(&orders, 0, 0..2);
    let mut second = poll(&orders, 0, 0..2);
    assert!(turns(&second).is_empty());
    first.handled(0, "").unwrap();
    first.release(1, None).unwrap();
    first.commit().unwrap();
    second.wait(SECOND).unwrap();
    assert_eq!(turns(&second), [1]);
    second.renew().unwrap();
    assert_eq!(handle_all(&mut second).next, Some(2));
}

#[test]
fn four_consumers_of_one_partition_handle_each_message_once() {
    let directory = fast_directory();
    let store = small().open(directory.path()).unwrap();
    let effects = Mutex::new(BTreeMap::<u64, u32>::new());
    let last = 600;
    at_once(|thread| {
        let orders = partition(&store);
        let mut random = Random::new(thread);
        loop {
            let from = orders.position().unwrap().unwrap_or(0);
            if from >= last {
                return;
            }
            let to = (from + 1 + random.below(40)).min(last);
            let mut batch = poll(&orders, from, from..to);
            for index in turns(&batch) {
                if random.below(5) == 0 {
                    batch.release(index, None).unwrap();
                    continue;
                }
                *effects.lock().unwrap().entry(from + index as u64).or_default() += 1;
                batch.handled(index, "").unwrap();
            }
            let next = batch.commit().unwrap().next.unwrap();
            let effects = effects.lock().unwrap();
            assert!((0..next).all(|offset| effects.contains_key(&offset)), "{next} is ahead");
        }
    });
    let effects = effects.into_inner().unwrap();
    assert_eq!(effects.len() as u64, last);
    assert!(effects.values().all(|times| *times == 1), "{effects:?}");
    assert!(store.stats().syncs == 0);
}

/// One life of a consumer: polls of any length from any place, effects that fail, processes that
/// end at any moment, and the broker that begins again somewhere before the position.
#[test]
fn any_life_loses_no_message_and_repeats_only_what_a_crash_cut_off() {
    for seed in 0..12 {
        let (directory, clock) = (fast_directory(), clock());
        let mut store = open(directory.path(), &clock);
        let mut random = Random::new(seed);
        let (mut effects, mut committed) = (BTreeMap::<u64, u32>::new(), BTreeSet::new());
        let (mut from, mut cut_off) = (0, BTreeSet::new());
        for _ in 0..300 {
            let orders = partition(&store);
            let offsets: Vec<u64> =
                (from..from + 1 + random.below(12)).filter(|offset| offset % 7 != 3).collect();
            let mut batch = poll(&orders, from, offsets.iter().copied());
            let mut handled = Vec::new();
            for index in turns(&batch) {
                let offset = offsets[index];
                assert!(!committed.contains(&offset), "seed {seed}: {offset} is handled again");
                if random.below(8) == 0 {
                    batch.release(index, None).unwrap();
                    continue;
                }
                *effects.entry(offset).or_default() += 1;
                batch.handled(index, "").unwrap();
                handled.push(offset);
            }
            if random.below(6) == 0 {
                // The process ends between the effects and the commit.
                cut_off.extend(handled);
                drop((batch, orders, store));
                store = open(directory.path(), &clock);
                clock.advance(LEASE);
                from = partition(&store).position().unwrap().unwrap_or(0);
                continue;
            }
            let next = batch.commit().unwrap().next.unwrap();
            committed.extend(handled);
            let mut before = (0..next).filter(|offset| offset % 7 != 3);
            assert!(
                before.all(|offset| committed.contains(&offset)),
                "seed {seed}: {next} is ahead"
            );
            from = match random.below(6) {
                0 => next.saturating_sub(random.below(20)),
                _ => next,
            };
            if random.below(30) == 0 {
                maintain(&store);
            }
        }
        let twice = effects.iter().filter(|(_, times)| **times > 1);
        assert!(twice.map(|(offset, _)| offset).all(|offset| cut_off.contains(offset)));
        assert!(from > 100, "seed {seed}: {from}");
    }
}

#[test]
fn a_full_store_marks_what_was_handled_and_leaves_the_position_behind() {
    let directory = directory();
    let store = small().max_bytes(8 << 20).open(directory.path()).unwrap();
    let orders = partition(&store);
    let mut batch = poll(&orders, 0, 0..50);
    let filler = vec![1; 100_000];
    let full = (0..1_000).find_map(|number: u32| {
        let options = oncelog::CheckOptions::new().retention(HOUR);
        store.check_and_set_with(number.to_le_bytes(), &filler, options).err()
    });
    assert!(matches!(full, Some(Error::Full { .. })), "{full:?}");
    let mut number = 0_u32;
    // The rest of the block that the partition's records go to.
    while store
        .namespace("fill", oncelog::Policy { retention: Some(HOUR.into()), ..Default::default() })
        .unwrap()
        .check_and_set(number.to_le_bytes(), [0; 100])
        .is_ok()
    {
        number += 1;
    }
    let committed = handle_all(&mut batch);
    assert_eq!((committed.lost.len(), committed.next), (0, Some(0)));
    assert_eq!(orders.position().unwrap(), Some(0));
    assert!(turns(&poll(&orders, 0, 0..50)).is_empty());
}

#[test]
fn an_idle_partition_that_is_polled_keeps_its_position() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let orders = partition(&store);
    handle_all(&mut poll(&orders, 0, 0..10));
    for _ in 0..10 {
        clock.advance(HOUR / 3);
        maintain(&store);
        assert_eq!(poll(&orders, 10, []).commit().unwrap().next, Some(10));
    }
    assert_eq!(orders.position().unwrap(), Some(10));
    clock.advance(HOUR);
    assert_eq!(orders.position().unwrap(), None);
}
