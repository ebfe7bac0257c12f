//! The list of a sealed segment's records, sorted by hash: 8 bytes a record.
//!
//! An entry holds the 40 hash bits below the top 8 and the record's offset in units; the top 8
//! bits are implied by the part of the list the entry is in, of which there are 256. Sorted
//! entries make opening a store a sequential pass over the index.

use crate::format::identity::ID_BYTES;
use crate::format::layout::{BLOCK_HEADER_BYTES, FORMAT_VERSION, HEAD_BYTES};
use crate::format::reader::{Reader, checked, seal};

const MAGIC: [u8; 8] = *b"oncerun\0";
const PARTS: usize = 256;
const OFFSET_BITS: u32 = 24;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;

/// One record of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunEntry {
    /// The upper 48 bits of the key's hash, in their place.
    pub(crate) hash_bits: u64,
    /// Offset of the record in the segment, in units.
    pub(crate) units: u32,
}

/// What the keys of a namespace hold in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpaceHeld {
    pub(crate) space: u32,
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
}

/// A sealed segment's records, and what its blocks must contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) store: [u8; ID_BYTES],
    pub(crate) number: u64,
    /// The latest time of creation among the records.
    pub(crate) created_max: u64,
    /// Bytes of the removals among the records.
    pub(crate) removal_bytes: u64,
    /// How many of the records are of leases under way.
    pub(crate) started: u64,
    /// What its records hold if each is its key's latest, in order of the namespaces' numbers.
    pub(crate) held: Vec<SpaceHeld>,
    /// For each block, the offset in it at which its records end; zero if it holds none.
    pub(crate) block_ends: Vec<u32>,
    /// Sorted by hash.
    pub(crate) entries: Vec<RunEntry>,
}

impl Run {
    pub(crate) fn encode(&self) -> Vec<u8> {
        debug_assert!(self.entries.is_sorted());
        let mut bytes = Vec::with_capacity(1200 + self.entries.len() * 8);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.store);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.created_max.to_le_bytes());
        bytes.extend_from_slice(&self.removal_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.started.to_le_bytes());
        let mut counts = [0_u32; PARTS];
        for entry in &self.entries {
            if let Some(count) = counts.get_mut(part(entry.hash_bits)) {
                *count += 1;
            }
        }
        for count in counts {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        let spaces = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&spaces.to_le_bytes());
        for held in &self.held {
            bytes.extend_from_slice(&held.space.to_le_bytes());
            bytes.extend_from_slice(&held.keys.to_le_bytes());
            bytes.extend_from_slice(&held.bytes.to_le_bytes());
        }
        let blocks = u32::try_from(self.block_ends.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&blocks.to_le_bytes());
        for end in &self.block_ends {
            bytes.extend_from_slice(&end.to_le_bytes());
        }
        for entry in &self.entries {
            let packed = entry.hash_bits << 8 | u64::from(entry.units);
            bytes.extend_from_slice(&packed.to_le_bytes());
        }
        seal(&mut bytes);
        bytes
    }

    /// Bytes of all records.
    pub(crate) fn used_bytes(&self) -> u64 {
        let (page, header) = (HEAD_BYTES, BLOCK_HEADER_BYTES);
        let before = |block: usize| if block == 0 { page + header } else { header };
        let ends = self.block_ends.iter().enumerate();
        ends.map(|(block, end)| u64::from(*end).saturating_sub(before(block))).sum()
    }

    /// Whether some record's key may have this hash.
    pub(crate) fn may_hold(&self, hash_bits: u64) -> bool {
        let first = self.entries.partition_point(|entry| entry.hash_bits < hash_bits);
        self.entries.get(first).is_some_and(|entry| entry.hash_bits == hash_bits)
    }

    /// `None` for anything that [`Run::encode`] did not make.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(checked(bytes)?);
        if reader.array()? != MAGIC || reader.u32()? != FORMAT_VERSION {
            return None;
        }
        let store = reader.array()?;
        let number = reader.u64()?;
        let created_max = reader.u64()?;
        let removal_bytes = reader.u64()?;
        let started = reader.u64()?;
        let mut counts = [0; PARTS];
        for count in &mut counts {
            *count = reader.u32()?;
        }
        let mut held = Vec::new();
        for _ in 0..reader.u32()? {
            let (space, keys, bytes) = (reader.u32()?, reader.u64()?, reader.u64()?);
            held.push(SpaceHeld { space, keys, bytes });
        }
        let blocks = usize::try_from(reader.u32()?).ok()?;
        let block_ends = reader.bytes(blocks.checked_mul(4)?)?;
        let block_ends = block_ends.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b));
        let block_ends = block_ends.collect();
        let (packed, rest) = reader.0.as_chunks::<8>();
        let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        if !rest.is_empty() || total != packed.len() as u64 {
            return None;
        }
        let mut entries = Vec::with_capacity(packed.len());
        let mut packed = packed.iter().map(|bytes| u64::from_le_bytes(*bytes));
        for (part, count) in (0_u64..).zip(counts) {
            for _ in 0..count {
                let word = packed.next()?;
                let hash_bits = part << 56 | (word & !OFFSET_MASK) >> 8;
                entries
                    .push(RunEntry { hash_bits, units: u32::try_from(word & OFFSET_MASK).ok()? });
            }
        }
        Some(Self { store, number, created_max, removal_bytes, started, held, block_ends, entries })
    }
}

fn part(hash_bits: u64) -> usize {
    usize::try_from(hash_bits >> 56).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Run, RunEntry, SpaceHeld};

    fn sample(count: u64) -> Run {
        let mut entries: Vec<RunEntry> = (0..count)
            .map(|i| RunEntry {
                hash_bits: i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & !0xffff,
                units: u32::try_from(i * 7 % (1 << 24)).unwrap(),
            })
            .collect();
        entries.sort_unstable();
        let (number, created_max, removal_bytes) = (2, 3, 96);
        Run {
            store: [1; 16],
            number,
            created_max,
            removal_bytes,
            started: 5,
            held: vec![SpaceHeld { space: 7, keys: 2, bytes: 1 << 40 }],
            block_ends: vec![4, 0, 9],
            entries,
        }
    }

    #[test]
    fn a_run_of_any_length_comes_back() {
        for count in [0, 1, 2, 257, 5000] {
            assert_eq!(Run::decode(&sample(count).encode()), Some(sample(count)));
        }
    }

    #[test]
    fn no_single_bit_flip_and_no_truncation_goes_unnoticed() {
        let bytes = sample(20).encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Run::decode(&flipped), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(Run::decode(&bytes[..len]), None);
        }
    }
}
