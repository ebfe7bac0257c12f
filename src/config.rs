//! A store's settings: those that change behaviour, then those that change speed, with limits.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::key::{
    KEY_BYTES_MAX, KEY_BYTES_MAX_DEFAULT, Limits, OUTCOME_BYTES_MAX, OUTCOME_BYTES_MAX_DEFAULT,
};
use crate::policy::Policy;
use crate::time::{Clock, Jumps, Ttl};

/// How long a key is remembered unless the call says otherwise: 24 hours.
pub const TTL_DEFAULT: Duration = Duration::from_secs(24 * 3600);

/// The default number of stripes.
pub const STRIPES_DEFAULT: usize = 4096;
/// The highest number of stripes; each has a lock of its own.
pub const STRIPES_MAX: usize = 65_536;
/// The highest number of lanes.
pub const LANES_MAX: usize = 64;
/// The smallest segment, and the default size of a bucket's first one, in bytes.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// The default size that a bucket's segments double up to, in bytes.
pub const SEGMENT_BYTES_MAX_DEFAULT: u64 = 64 << 20;
/// The largest segment, in bytes.
pub const SEGMENT_BYTES_MAX: u64 = 256 << 20;

/// The least limit on the bytes of a store is this many of its smallest segments.
const BYTES_PER_SEGMENT_MIN: u64 = 4;

/// When a call may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// When the record is in the shared mapping: it survives the end of the process, also by
    /// `kill -9`. An operating system crash or power loss may lose what was recorded since the
    /// last [`Store::sync`](crate::Store::sync).
    #[default]
    Process,
    /// As `Process`; and a sync begins at least this often while something is unsynced, so that
    /// a power loss takes no more than what was recorded in that time and in the sync's own.
    /// From 1 ms to an hour. Maintenance does it.
    Interval(Duration),
    /// When the record is on stable storage, and with it whatever the answer rests on: a
    /// duplicate of a record that another caller has not synced yet waits for it. One sync serves
    /// all who wait; see [`Store::ticket`](crate::Store::ticket) for many calls in flight.
    Synced,
}

impl Durability {
    pub(crate) fn is_synced(self) -> bool {
        matches!(self, Self::Synced)
    }

    /// Refuses an interval that cannot be kept.
    pub(crate) fn validate(self) -> Result<()> {
        match self {
            Self::Interval(interval) if !INTERVALS.contains(&interval) => {
                let reason =
                    format!("the interval is {interval:?}; it must be between 1 ms and an hour");
                Err(Error::InvalidConfig { reason })
            }
            _ => Ok(()),
        }
    }
}

/// Intervals between syncs that can be asked for.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

/// Who does the background work: reclaiming expired segments, sealing full ones, preparing room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Maintenance {
    /// One thread of the store, which ends with its last handle.
    #[default]
    Thread,
    /// Nobody but the caller, through [`Store::maintain`](crate::Store::maintain).
    Manual,
}

/// Everything that can be set on a store.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) ttl: Ttl,
    pub(crate) policy: Policy,
    pub(crate) limits: Limits,
    pub(crate) max_keys: Option<u64>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) durability: Durability,
    pub(crate) maintenance: Maintenance,
    pub(crate) clock: Option<Arc<dyn Clock>>,
    pub(crate) jumps: Jumps,
    pub(crate) stripes: usize,
    pub(crate) lanes: usize,
    pub(crate) segment_bytes_min: u64,
    pub(crate) segment_bytes_max: u64,
    pub(crate) negative_filter: bool,
    /// Nothing is ever removed or replaced: segments stay as they were sealed, and no room is kept
    /// for removals.
    pub(crate) write_once: bool,
}

impl Default for Config {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            ttl: Ttl::After(TTL_DEFAULT),
            policy: Policy::DEFAULT,
            limits: Limits {
                key_bytes_max: KEY_BYTES_MAX_DEFAULT,
                outcome_bytes_max: OUTCOME_BYTES_MAX_DEFAULT,
            },
            max_keys: None,
            max_bytes: None,
            durability: Durability::Process,
            maintenance: Maintenance::Thread,
            clock: None,
            jumps: Jumps::DEFAULT,
            stripes: STRIPES_DEFAULT,
            lanes: cores.clamp(2, LANES_MAX),
            segment_bytes_min: SEGMENT_BYTES_MIN,
            segment_bytes_max: SEGMENT_BYTES_MAX_DEFAULT,
            negative_filter: false,
            write_once: false,
        }
    }
}

impl Config {
    /// Refuses settings that cannot work, naming the setting and what it allows.
    pub(crate) fn validate(&self) -> Result<()> {
        self.policy.validate_default(self.ttl.millis()?)?;
        self.durability.validate()?;
        within("key_bytes_max", self.limits.key_bytes_max, 1, KEY_BYTES_MAX)?;
        within("outcome_bytes_max", self.limits.outcome_bytes_max, 0, OUTCOME_BYTES_MAX)?;
        within("lanes", self.lanes, 1, LANES_MAX)?;
        within("stripes", self.stripes, 1, STRIPES_MAX)?;
        if !self.stripes.is_power_of_two() {
            let reason = format!("stripes is {}; it must be a power of two", self.stripes);
            return Err(Error::InvalidConfig { reason });
        }
        let (min, max) = (self.segment_bytes_min, self.segment_bytes_max);
        within("segment_bytes_min", min, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)?;
        within("segment_bytes_max", max, min, SEGMENT_BYTES_MAX)?;
        within("max_keys", self.max_keys.unwrap_or(1), 1, u64::MAX)?;
        let least = min.saturating_mul(BYTES_PER_SEGMENT_MIN);
        within("max_bytes", self.max_bytes.unwrap_or(least), least, u64::MAX)?;
        for (name, bytes) in [("segment_bytes_min", min), ("segment_bytes_max", max)] {
            if !bytes.is_power_of_two() {
                let reason = format!("{name} is {bytes}; it must be a power of two");
                return Err(Error::InvalidConfig { reason });
            }
        }
        Ok(())
    }
}

fn within<T: PartialOrd + std::fmt::Display>(name: &str, value: T, min: T, max: T) -> Result<()> {
    if value < min || value > max {
        let reason = format!("{name} is {value}; it must be between {min} and {max}");
        return Err(Error::InvalidConfig { reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Config;
    use crate::error::Error;

    #[test]
    fn the_defaults_are_valid() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn a_refused_setting_is_named_with_what_it_allows() {
        let config = Config { stripes: 3, ..Config::default() };
        let Err(Error::InvalidConfig { reason }) = config.validate() else {
            panic!("three stripes were accepted")
        };
        assert!(reason.contains("stripes") && reason.contains("power of two"));
        assert!(Config { segment_bytes_max: 1 << 30, ..Config::default() }.validate().is_err());
        assert!(Config { lanes: 0, ..Config::default() }.validate().is_err());
        assert!(Config { max_keys: Some(0), ..Config::default() }.validate().is_err());
        assert!(Config { max_bytes: Some(4 << 20), ..Config::default() }.validate().is_ok());
        assert!(Config { max_bytes: Some(3 << 20), ..Config::default() }.validate().is_err());
    }
}
