//! Futures that wait, polled by hand: woken once each, and without a trace when they are dropped.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use oncelog::{
    BeginOptions, DropPolicy, Durability, Error, Lease, LongOutcomePolicy, Maintenance, Policy,
    RunError, Status, Store, Timestamp,
};

use crate::lease::{LEASE, completed, in_progress, open, started};
use crate::setup::{clock, directory};

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll<F: Future>(future: Pin<&mut F>, count: &Arc<Count>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(count.clone())))
}

fn ready<T>(poll: Poll<T>) -> T {
    match poll {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("still pending"),
    }
}

/// Pending as often as told, then ready.
struct Steps(u32);

impl Future for Steps {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

fn is_send<T: Send>(value: T) -> T {
    value
}

#[test]
fn a_future_is_woken_by_every_end_of_a_lease() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    for end in 0..5 {
        let options = BeginOptions::new().on_drop(DropPolicy::Release);
        let mut lease = started(store.begin_with("a", options).unwrap());
        let count = Arc::new(Count::default());
        let mut wait = pin!(is_send(in_progress(store.begin("a").unwrap()).wait_async()));
        assert!(poll(wait.as_mut(), &count).is_pending());
        assert!(poll(wait.as_mut(), &count).is_pending());
        assert_eq!((count.get(), store.stats().waiting), (0, 1));
        match end {
            0 => drop(lease.complete("x").unwrap()),
            1 => lease.release(None).unwrap(),
            2 => drop(lease),
            3 => assert!(store.remove("a").unwrap()),
            _ => {
                store.maintain(Duration::ZERO).unwrap();
                assert_eq!(count.get(), 0);
                clock.advance(LEASE);
                store.maintain(Duration::ZERO).unwrap();
            }
        }
        assert_eq!(count.get(), 1, "end {end}");
        let answer = ready(poll(wait.as_mut(), &count)).unwrap();
        if end == 0 {
            drop(completed(answer))
        } else {
            drop(started(answer))
        }
        assert_eq!(store.stats().waiting, 0);
        assert!(store.remove("a").unwrap());
    }
}

#[test]
fn a_change_between_two_looks_is_seen_by_the_next_poll_whoever_is_woken() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut lease = started(store.begin("a").unwrap());
    let (before, after) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let mut wait = pin!(in_progress(store.begin("a").unwrap()).wait_async());
    assert!(poll(wait.as_mut(), &before).is_pending());
    assert!(poll(wait.as_mut(), &after).is_pending());
    lease.complete("x").unwrap();
    // The task that polled last is the one that is woken.
    assert_eq!((before.get(), after.get()), (0, 1));
    completed(ready(poll(wait.as_mut(), &after)).unwrap());
}

/// Runs the work to its end, or drops it after so many polls; true if it came to its end.
fn run_for(store: &Store, polls: u32, options: BeginOptions) -> bool {
    let count = Arc::new(Count::default());
    let mut run = pin!(is_send(store.run_async("a", options, async |lease| {
        Steps(2).await;
        lease.renew(LEASE).map_err(RunError::from)?;
        Steps(2).await;
        Ok::<_, RunError<()>>("done")
    })));
    for _ in 0..polls {
        if let Poll::Ready(result) = poll(run.as_mut(), &count) {
            assert!(result.unwrap().worked());
            return true;
        }
    }
    false
}

#[test]
fn work_dropped_at_any_await_point_follows_the_drop_policy() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    for policy in [DropPolicy::Hold, DropPolicy::Release] {
        let options = BeginOptions::new().on_drop(policy);
        for polls in 0..=5 {
            let ended = run_for(&store, polls, options);
            let status = store.peek("a").unwrap().map(|meta| meta.status);
            let dropped = match policy {
                DropPolicy::Hold => Status::InProgress,
                DropPolicy::Release => Status::Released,
            };
            let expected = match polls {
                0 => None,
                5 => Some(Status::Completed),
                _ => Some(dropped),
            };
            assert_eq!((status, ended), (expected, polls == 5), "{policy:?} after {polls}");
            assert_eq!(store.stats().waiting, 0);
            store.remove("a").unwrap();
        }
    }
}

#[test]
fn a_waiting_run_dropped_at_any_point_leaves_nothing_and_the_others_go_on() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut lease = started(store.begin("a").unwrap());
    let count = Arc::new(Count::default());
    let work = async |_: &mut oncelog::Lease| Ok::<_, ()>("mine");
    let mut kept = pin!(store.run_async("a", BeginOptions::new(), work));
    assert!(poll(kept.as_mut(), &count).is_pending());
    for polls in 0..3 {
        let mut dropped = Box::pin(store.run_async("a", BeginOptions::new(), work));
        for _ in 0..polls {
            assert!(poll(dropped.as_mut(), &count).is_pending());
        }
        drop(dropped);
        assert_eq!(store.stats().waiting, 1);
    }
    lease.complete("theirs").unwrap();
    let run = ready(poll(kept.as_mut(), &count)).unwrap();
    assert_eq!((run.outcome(), run.worked()), (&b"theirs"[..], false));
}

#[test]
fn an_outcome_too_long_to_be_kept_is_told_by_its_length_at_every_level() {
    for level in [Durability::Process, Durability::Synced] {
        let directory = directory();
        let policy = Policy { on_long_outcome: LongOutcomePolicy::KeepMark, ..Policy::default() };
        let builder = Store::builder().outcome_bytes_max(100).policy(policy).durability(level);
        let store = builder.open(directory.path()).unwrap();
        let work = async |_: &mut Lease| Ok::<_, ()>(vec![7_u8; 101]);
        let mut run = pin!(store.run_async("a", BeginOptions::new(), work));
        let waker = Waker::from(Arc::new(Count::default()));
        let done = loop {
            if let Poll::Ready(done) = run.as_mut().poll(&mut Context::from_waker(&waker)) {
                break done.unwrap();
            }
            // A future never syncs itself; maintenance does, at once when one waits.
            store.maintain(Duration::from_secs(1)).unwrap();
        };
        assert_eq!(done.record().outcome_gone().map(|gone| gone.bytes), Some(101), "{level:?}");
    }
}

#[test]
fn failed_work_gives_its_key_back_without_waiting_for_the_disk_at_any_level() {
    for level in [Durability::Process, Durability::Synced] {
        let directory = directory();
        let builder = Store::builder().durability(level).maintenance(Maintenance::Manual);
        let store = builder.open(directory.path()).unwrap();
        let work = async |_: &mut Lease| Err::<Vec<u8>, _>("no answer");
        let mut run = pin!(store.run_async("a", BeginOptions::new(), work));
        let waker = Waker::from(Arc::new(Count::default()));
        let mut context = Context::from_waker(&waker);
        let mut syncs = store.stats().syncs;
        let failed = loop {
            if let Poll::Ready(failed) = run.as_mut().poll(&mut context) {
                break failed;
            }
            store.maintain(Duration::from_secs(1)).unwrap();
            syncs = store.stats().syncs;
        };
        assert!(matches!(failed, Err(RunError::Work("no answer"))), "{failed:?}");
        assert_eq!(store.stats().syncs, syncs, "{level:?}");
        assert_eq!(store.peek("a").unwrap().unwrap().status, Status::Released, "{level:?}");
    }
}

#[test]
fn a_refused_begin_waits_for_what_it_rests_on_before_a_future_tells() {
    let directory = directory();
    let builder = Store::builder().maintenance(Maintenance::Manual);
    let process = builder.open(directory.path()).unwrap();
    let synced = process.with_durability(Durability::Synced).unwrap();
    process.insert("other").unwrap();
    let ancient = BeginOptions::new().sent_at(Timestamp::from_millis(0));
    let work = async |_: &mut Lease| Ok::<_, ()>("never done");
    let mut run = pin!(synced.run_async("a", ancient, work));
    let waker = Waker::from(Arc::new(Count::default()));
    let mut context = Context::from_waker(&waker);
    assert!(run.as_mut().poll(&mut context).is_pending());
    process.maintain(Duration::from_secs(1)).unwrap();
    let Poll::Ready(refused) = run.as_mut().poll(&mut context) else { panic!("settled") };
    assert!(matches!(refused, Err(RunError::Store(Error::Stale { .. }))), "{refused:?}");
    assert_eq!(process.stats().unsynced_bytes, 0);
}
