//! A session that times each call, where latencies are asked for.

use std::time::Instant;

use hdrhistogram::Histogram;

use crate::Result;
use crate::bytes::Bytes;
use crate::engine::{Item, Session};
use crate::machine;
use crate::tally::Tally;

/// The longest latency that is told apart, in nanoseconds: 100 s.
pub const LATENCY_MAX: u64 = 100_000_000_000;
/// Calls from this long on are looked at one by one, in nanoseconds.
const SLOW: u64 = 1_000_000;
/// Calls between two looks at how long the thread was without a processor.
const CALLS_PER_WAIT_LOOK: u64 = 4096;

/// How long the calls of one thread, or of all, took.
#[derive(Clone, Debug)]
pub struct Times {
    /// Nanoseconds of every call.
    pub histogram: Histogram<u64>,
    /// Calls over a millisecond, time in which the thread lacked a processor not counted.
    pub over_1ms_running: u64,
    /// Of the longest call, in nanoseconds: all of it, and without a processor.
    pub longest: (u64, u64),
    /// Time without a processor when it was last looked at.
    waited: u64,
}

impl Times {
    /// Nothing yet.
    pub fn new() -> Result<Times> {
        Ok(Times {
            histogram: Histogram::new_with_bounds(1, LATENCY_MAX, 3)?,
            over_1ms_running: 0,
            longest: (0, 0),
            waited: machine::waited_for_processor(),
        })
    }

    /// Joins what another thread measured.
    pub fn add(&mut self, other: &Times) -> Result<()> {
        self.histogram.add(&other.histogram)?;
        self.over_1ms_running += other.over_1ms_running;
        self.longest = self.longest.max(other.longest);
        Ok(())
    }

    fn record(&mut self, took: u64) {
        self.histogram.saturating_record(took.max(1));
        if took >= SLOW {
            self.record_slow(took);
        } else if self.histogram.len().is_multiple_of(CALLS_PER_WAIT_LOOK) {
            self.waited = machine::waited_for_processor();
        }
    }

    #[cold]
    fn record_slow(&mut self, took: u64) {
        let before = self.waited;
        self.waited = machine::waited_for_processor();
        let waited = (self.waited - before).min(took);
        self.over_1ms_running += u64::from(took - waited > SLOW);
        self.longest = self.longest.max((took, waited));
    }
}

/// A session and, where it is asked for, how long its calls take.
#[derive(Debug)]
pub struct Timed<S> {
    session: S,
    times: Option<Box<Times>>,
}

impl<S> Timed<S> {
    /// Times the calls of one thread, or does not.
    pub fn new(session: S, is_timed: bool) -> Result<Timed<S>> {
        let times = is_timed.then(Times::new).transpose()?.map(Box::new);
        Ok(Timed { session, times })
    }

    /// What was measured.
    pub fn into_times(self) -> Option<Box<Times>> {
        self.times
    }

    #[inline(always)]
    fn call<T>(&mut self, call: impl FnOnce(&mut S) -> T) -> T {
        let Some(times) = &mut self.times else {
            return call(&mut self.session);
        };
        let begin = Instant::now();
        let done = call(&mut self.session);
        times.record(begin.elapsed().as_nanos() as u64);
        done
    }
}

impl<K: Bytes, V: Bytes, S: Session<K, V>> Session<K, V> for Timed<S> {
    #[inline]
    fn set(&mut self, item: &Item<K, V>, tally: &mut Tally<V>) -> Result<()> {
        self.call(|session| session.set(item, tally))
    }

    #[inline]
    fn set_many(&mut self, items: &[Item<K, V>], tally: &mut Tally<V>) -> Result<()> {
        self.call(|session| session.set_many(items, tally))
    }

    #[inline]
    fn has(&mut self, key: &K) -> Result<bool> {
        self.call(|session| session.has(key))
    }

    #[inline]
    fn has_many(&mut self, keys: &[K]) -> Result<usize> {
        self.call(|session| session.has_many(keys))
    }

    #[inline]
    fn set_for(
        &mut self,
        item: &Item<K, V>,
        lifetime: Option<std::time::Duration>,
        tally: &mut Tally<V>,
    ) -> Result<()> {
        self.call(|session| session.set_for(item, lifetime, tally))
    }

    #[inline]
    fn remove(&mut self, key: &K) -> Result<bool> {
        self.call(|session| session.remove(key))
    }

    #[inline]
    fn probe(&mut self, key: &K) -> Result<bool> {
        self.call(|session| session.probe(key))
    }

    #[inline]
    fn lease(&mut self, items: &[Item<K, V>]) -> Result<usize> {
        self.call(|session| session.lease(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_where_they_are_asked_for() {
        let mut timed = Timed::new((), true).unwrap();
        timed.call(|()| std::thread::sleep(std::time::Duration::from_millis(3)));
        (0..99).for_each(|_| timed.call(|()| ()));
        let times = timed.into_times().unwrap();
        assert_eq!(times.histogram.len(), 100);
        assert!(times.histogram.max() >= 3_000_000 && times.longest.0 >= 3_000_000);
        assert!(times.over_1ms_running >= 1);
        assert!(times.histogram.value_at_percentile(50.0) < 3_000_000);
        let mut all = Times::new().unwrap();
        all.add(&times).unwrap();
        all.add(&times).unwrap();
        assert_eq!(all.histogram.len(), 200);
        assert_eq!(all.longest, times.longest);
        let mut untimed = Timed::new((), false).unwrap();
        untimed.call(|()| ());
        assert!(untimed.into_times().is_none());
    }
}
