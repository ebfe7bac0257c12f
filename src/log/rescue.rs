//! Finds what is sound in a damaged segment, and writes it to a segment without damage.
//!
//! Recovery stops a block at the first zeros, which is right for what a crash leaves. Here every
//! unit of the segment is tried, behind zeros and damage as well, whatever the headers of blocks
//! say: a record's own checks tell its place, so what they accept was written there.
//!
//! The sound records go to the front of the blocks of a segment with the same number and head.
//! They keep all their fields; only their checks are made anew, as these depend on the place.

use crate::sys::sync::atomic::AtomicU64;

use crate::format::layout::{BLOCK_BYTES, BLOCK_HEADER_BYTES, UNIT_BYTES, block_start};
use crate::format::record::{Common, Header};
use crate::format::segment::BlockHeader;
use crate::key::KeyHasher;
use crate::log::view::RecordView;
use crate::sys::words;

/// A record that passed all checks, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sound {
    pub(crate) at: u64,
    pub(crate) header: Header,
    digest: u64,
}

impl Sound {
    pub(crate) fn end(&self) -> u64 {
        self.at + self.header.record_bytes()
    }
}

/// A record behind the first of its block is no longer than this; checking whether longer ones
/// begin at each unit could take days on bytes made for it.
const LATER_BYTES_MAX: u64 = 2 * BLOCK_BYTES;

/// Every sound record of a segment, in order of their places.
pub(crate) fn sound_records(
    segment: &[AtomicU64],
    common: &Common,
    hasher: &KeyHasher,
) -> Vec<Sound> {
    let bytes = segment.len() as u64 * 8;
    let mut found = Vec::new();
    let mut buffer = Vec::new();
    let mut at = block_start(0);
    while at < bytes {
        let first_of_block = block_start(at / BLOCK_BYTES) + BLOCK_HEADER_BYTES == at;
        let limit = if first_of_block { bytes } else { bytes.min(at + LATER_BYTES_MAX) };
        match sound_record(segment, common, hasher, at, limit, &mut buffer) {
            Some(sound) => {
                at = sound.end();
                found.push(sound);
            }
            None => at += UNIT_BYTES,
        }
    }
    found
}

fn sound_record(
    segment: &[AtomicU64],
    common: &Common,
    hasher: &KeyHasher,
    at: u64,
    limit: u64,
    buffer: &mut Vec<u8>,
) -> Option<Sound> {
    let from = segment.get(usize::try_from(at / 8).ok()?..)?;
    let view = RecordView::read(from, common, at, true)?;
    if at + view.header.record_bytes() > limit || view.header.key_len == 0 {
        return None;
    }
    let hash = view.verify(common, at, hasher, buffer)?;
    let digest = hash.digest(view.copy_payload(buffer));
    Some(Sound { at, header: view.header, digest })
}

/// Writes the records to `to`, all zeros behind its head; false if they do not fit.
///
/// They fit wherever they came from a segment of this length: in their order they fill no block
/// later than they did.
pub(crate) fn repack(
    sound: &[Sound],
    from: &[AtomicU64],
    common: &Common,
    to: &[AtomicU64],
) -> bool {
    let bytes = to.len() as u64 * 8;
    let (mut next, mut limit, mut free_block) = (0, 0, 0);
    for record in sound {
        let len = record.header.record_bytes();
        if next + len > limit {
            let start = block_start(free_block);
            next = start + BLOCK_HEADER_BYTES;
            let end_block = (next + len).div_ceil(BLOCK_BYTES);
            limit = end_block * BLOCK_BYTES;
            if limit > bytes {
                return false;
            }
            put_block(to, free_block, end_block - free_block, common);
            free_block = end_block;
        }
        put_record(record, from, common, to, next);
        next += len;
    }
    true
}

fn put_block(to: &[AtomicU64], index: u64, span: u64, common: &Common) {
    let (index, span) = (u32::try_from(index), u32::try_from(span));
    let (Ok(index), Ok(span)) = (index, span) else { return };
    let header = BlockHeader { index, span }.encode(common);
    put_words(to, block_start(u64::from(index)), &header);
}

fn put_record(record: &Sound, from: &[AtomicU64], common: &Common, to: &[AtomicU64], at: u64) {
    let header = record.header.encode(common, at, record.digest);
    let header = header.get(..record.header.header_words()).unwrap_or_default();
    put_words(to, at, header);
    let behind = header.len() as u64 * 8;
    let words = (record.header.record_bytes() - behind) / 8;
    for word in 0..words {
        let place = |start: u64| usize::try_from((start + behind) / 8 + word).unwrap_or(usize::MAX);
        if let (Some(source), Some(target)) = (from.get(place(record.at)), to.get(place(at))) {
            words::store(target, words::load(source));
        }
    }
}

fn put_words(to: &[AtomicU64], at: u64, values: &[u64]) {
    let first = usize::try_from(at / 8).unwrap_or(usize::MAX);
    for (target, value) in to.get(first..).unwrap_or_default().iter().zip(values) {
        words::store(target, *value);
    }
}
