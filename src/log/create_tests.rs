//! Many threads that are without a block at once: one makes a segment, all get a block in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::log::Log;
use crate::log::catalog::Sizes;
use crate::sys::memory_disk::MemoryDisk;
use crate::time::Timestamp;

const LANES: usize = 6;

fn log() -> Log {
    let sizes = Sizes { min: 1 << 20, max: 1 << 20, limit: 1 << 28, total: u64::MAX };
    Log::new(Arc::new(MemoryDisk::default()), [7; 16], LANES, sizes, 1).unwrap()
}

#[test]
fn whoever_waited_while_another_made_a_segment_takes_that_one() {
    let (log, now, ends) = (log(), Timestamp::from_millis(5), Timestamp::from_millis(1_000_000));
    let (arriving, made) = (AtomicU64::new(0), AtomicU64::new(0));
    let growing = log.growing.lock();
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (log, arriving, made) = (&log, &arriving, &made);
            scope.spawn(move || {
                arriving.fetch_add(1, Ordering::SeqCst);
                let segment = log.provide(lane, ends, 100, now, 60_000).unwrap();
                made.fetch_add(u64::from(segment.is_some()), Ordering::SeqCst);
            });
        }
        while arriving.load(Ordering::SeqCst) < LANES as u64 {
            std::thread::yield_now();
        }
        // Until all have most likely found no block: nobody can tell that they wait.
        (0..20_000).for_each(|_| std::thread::yield_now());
        drop(growing);
    });
    assert_eq!((made.into_inner(), log.segments().len()), (1, 1));
}

#[test]
fn whoever_made_a_segment_gets_its_block_whatever_others_claim_meanwhile() {
    let (log, now, ends) = (log(), Timestamp::from_millis(5), Timestamp::from_millis(1_000_000));
    let made = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (log, made) = (&log, &made);
            scope.spawn(move || {
                for _ in 0..10 {
                    // A whole segment each time.
                    let segment = log.provide(lane, ends, 900 << 10, now, 60_000).unwrap();
                    made.fetch_add(u64::from(segment.is_some()), Ordering::SeqCst);
                }
            });
        }
    });
    // Each segment was handed to whoever made it, who adds it to the wheel.
    assert_eq!((made.into_inner(), log.segments().len()), (60, 60));
}
