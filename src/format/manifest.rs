//! The list of segments that belong to the store, and the epoch; replaced as a whole.
//!
//! A segment is listed before its first record is acknowledged and until after its last record is
//! forgotten, so a listed segment that is missing is damage, and a segment file that is not listed
//! is debris of a crash.

use crate::format::layout::FORMAT_VERSION;
use crate::format::reader::{Reader, checked, seal};
use crate::time::Timestamp;

const MAGIC: [u8; 8] = *b"oncelist";
const ENTRY_BYTES: usize = 32;

/// Bits of the word that says how the manifest is to be read.
const CLOSED: u32 = 1;
const HELD: u32 = 2;
const SALVAGED: u32 = 4;

/// How far a listed segment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListedState {
    /// May hold records, or none yet; scanned at open.
    Open,
    /// Complete, synced, with a run that lists its records.
    Sealed,
}

/// The level of the store that wrote the manifest, for whoever inspects it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListedDurability {
    #[default]
    Process,
    Interval,
    Synced,
}

impl ListedDurability {
    const ALL: [Self; 3] = [Self::Process, Self::Interval, Self::Synced];
}

/// Above the mark of a closed store, in the same four bytes.
const DURABILITY_SHIFT: u32 = 8;

/// One segment that belongs to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    pub(crate) state: ListedState,
    /// Records in a sealed segment.
    pub(crate) records: u64,
}

impl Listed {
    /// A segment about to be used.
    pub(crate) fn open(number: u64, bytes: u64) -> Self {
        Self { number, bytes, state: ListedState::Open, records: 0 }
    }
}

/// A namespace by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    /// In front of each of its keys; never given to another name.
    pub(crate) number: u32,
    pub(crate) created: Timestamp,
    /// What it held when this was written: keys, and bytes of their latest records.
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
    pub(crate) name: String,
}

/// What the store consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) epoch: u32,
    /// True when the store was closed: nothing is open and no tail can be torn.
    pub(crate) closed: bool,
    /// When calls of the store that wrote this returned; of no meaning for reading it.
    pub(crate) durability: ListedDurability,
    /// The store's time when this was written; it never runs back behind it.
    pub(crate) time: Timestamp,
    pub(crate) next_number: u64,
    /// When records were last given up by a salvage: keys from before may be forgotten.
    pub(crate) salvaged: Option<Timestamp>,
    pub(crate) spaces: Vec<Space>,
    pub(crate) segments: Vec<Listed>,
}

impl Manifest {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.segments.len() * ENTRY_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        let level = ListedDurability::ALL.iter().position(|level| *level == self.durability);
        let level = u32::try_from(level.unwrap_or(0)).unwrap_or(0) << DURABILITY_SHIFT;
        let mut marks = if self.closed { CLOSED | HELD } else { HELD };
        marks |= if self.salvaged.is_some() { SALVAGED } else { 0 };
        bytes.extend_from_slice(&(marks | level).to_le_bytes());
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        let spaces = u32::try_from(self.spaces.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&spaces.to_le_bytes());
        bytes.extend_from_slice(&self.time.as_millis().to_le_bytes());
        bytes.extend_from_slice(&self.next_number.to_le_bytes());
        if let Some(salvaged) = self.salvaged {
            bytes.extend_from_slice(&salvaged.as_millis().to_le_bytes());
        }
        for space in &self.spaces {
            let length = u32::try_from(space.name.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&space.number.to_le_bytes());
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&space.created.as_millis().to_le_bytes());
            bytes.extend_from_slice(&space.keys.to_le_bytes());
            bytes.extend_from_slice(&space.bytes.to_le_bytes());
            bytes.extend_from_slice(space.name.as_bytes());
        }
        for segment in &self.segments {
            bytes.extend_from_slice(&segment.number.to_le_bytes());
            bytes.extend_from_slice(&segment.bytes.to_le_bytes());
            bytes.extend_from_slice(&segment.records.to_le_bytes());
            let sealed = u64::from(segment.state == ListedState::Sealed);
            bytes.extend_from_slice(&sealed.to_le_bytes());
        }
        seal(&mut bytes);
        bytes
    }

    /// `None` for anything that [`Manifest::encode`] did not make.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(checked(bytes)?);
        if reader.array()? != MAGIC || reader.u32()? != FORMAT_VERSION {
            return None;
        }
        let marks = reader.u32()?;
        if marks & ((1 << DURABILITY_SHIFT) - 1) & !(CLOSED | HELD | SALVAGED) != 0 {
            return None;
        }
        let closed = marks & CLOSED != 0;
        let level = usize::try_from(marks >> DURABILITY_SHIFT).ok()?;
        let durability = *ListedDurability::ALL.get(level)?;
        let epoch = reader.u32()?;
        let space_count = reader.u32()?;
        let time = Timestamp::from_millis(reader.u64()?);
        let next_number = reader.u64()?;
        let salvaged = if marks & SALVAGED != 0 { Some(reader.u64()?) } else { None };
        let salvaged = salvaged.map(Timestamp::from_millis);
        let mut spaces = Vec::new();
        for _ in 0..space_count {
            let (number, length) = (reader.u32()?, reader.u32()?);
            let created = Timestamp::from_millis(reader.u64()?);
            // Manifests written before say nothing of it.
            let held = if marks & HELD != 0 { (reader.u64()?, reader.u64()?) } else { (0, 0) };
            let (keys, bytes) = held;
            let name = reader.bytes(usize::try_from(length).ok()?)?;
            let name = String::from_utf8(name.to_vec()).ok()?;
            spaces.push(Space { number, created, keys, bytes, name });
        }
        let mut segments = Vec::with_capacity(reader.0.len() / ENTRY_BYTES);
        while !reader.0.is_empty() {
            let (number, bytes, records) = (reader.u64()?, reader.u64()?, reader.u64()?);
            let state = match reader.u64()? {
                0 => ListedState::Open,
                1 => ListedState::Sealed,
                _ => return None,
            };
            segments.push(Listed { number, bytes, state, records });
        }
        let mut numbers: Vec<u64> = segments.iter().map(|segment| segment.number).collect();
        numbers.sort_unstable();
        if numbers.windows(2).any(|pair| pair.first() == pair.last()) {
            return None;
        }
        Some(Self { epoch, closed, durability, time, next_number, salvaged, spaces, segments })
    }
}

#[cfg(test)]
mod tests {
    use super::{Listed, ListedDurability, ListedState, Manifest, Space};
    use crate::time::Timestamp;

    fn space(number: u32, name: &str) -> Space {
        let created = Timestamp::from_millis(5);
        Space { number, created, keys: 1 << 33, bytes: 1 << 50, name: name.into() }
    }

    fn sample() -> Manifest {
        let open = Listed { number: 3, bytes: 1 << 20, state: ListedState::Open, records: 0 };
        let sealed = Listed { number: 2, bytes: 2 << 20, state: ListedState::Sealed, records: 9 };
        Manifest {
            epoch: 7,
            closed: false,
            durability: ListedDurability::Synced,
            time: Timestamp::from_millis(99),
            next_number: 4,
            salvaged: Some(Timestamp::from_millis(77)),
            spaces: vec![space(1, "payments"), space(2, "x")],
            segments: vec![sealed, open],
        }
    }

    #[test]
    fn a_manifest_comes_back_and_no_damage_goes_unnoticed() {
        let never = Manifest { salvaged: None, ..sample() };
        assert_eq!(Manifest::decode(&never.encode()), Some(never));
        let mut twice = sample();
        twice.segments.push(twice.segments[0]);
        assert_eq!(Manifest::decode(&twice.encode()), None, "a segment is listed twice");
        let bytes = sample().encode();
        assert_eq!(Manifest::decode(&bytes), Some(sample()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Manifest::decode(&flipped), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(Manifest::decode(&bytes[..len]), None);
        }
    }
}
