//! Sizes and names that several structures share.

/// Version of the format that this crate reads and writes.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// Records and locations are multiples of this.
pub(crate) const UNIT_BYTES: u64 = 16;
/// What a lane owns and recovery resynchronises at.
pub(crate) const BLOCK_BYTES: u64 = 64 << 10;
/// Segments are placed in the address space in multiples of this.
pub(crate) const CHUNK_BYTES: u64 = 1 << 20;
/// Where the first block's contents begin: after the segment's head page.
pub(crate) const HEAD_BYTES: u64 = 4096;
/// The block's own header, one cache line.
pub(crate) const BLOCK_HEADER_BYTES: u64 = 64;

/// Identity of a store; written once.
pub(crate) const IDENTITY_FILE: &str = "STORE";
/// Epoch and list of segments; replaced as a whole.
pub(crate) const MANIFEST_FILE: &str = "MANIFEST";

const _: () = assert!(CHUNK_BYTES.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(HEAD_BYTES + BLOCK_HEADER_BYTES < BLOCK_BYTES);

/// Name of a segment's file.
pub(crate) fn segment_file(number: u64) -> String {
    format!("{number:010}.seg")
}

/// Name of a sealed segment's run.
pub(crate) fn run_file(number: u64) -> String {
    format!("{number:010}.run")
}

/// The number in a name that [`segment_file`] or [`run_file`] made.
pub(crate) fn file_number(name: &str, extension: &str) -> Option<u64> {
    let digits = name.strip_suffix(extension)?;
    let well_formed = digits.len() >= 10 && digits.bytes().all(|b| b.is_ascii_digit());
    if well_formed { digits.parse().ok() } else { None }
}

/// Offset in the segment at which block `index` begins, its header included.
pub(crate) fn block_start(index: u64) -> u64 {
    if index == 0 { HEAD_BYTES } else { index * BLOCK_BYTES }
}

/// Rounds a length up to whole units.
pub(crate) const fn round_to_unit(bytes: u64) -> u64 {
    bytes.next_multiple_of(UNIT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::{file_number, run_file, segment_file};

    #[test]
    fn a_file_name_gives_its_number_back_and_foreign_names_give_none() {
        assert_eq!(file_number(&segment_file(42), ".seg"), Some(42));
        assert_eq!(file_number(&run_file(42), ".run"), Some(42));
        for foreign in
            ["42.seg", "x.seg", "0000000042.seg.unfinished", ".DS_Store", "-000000001.seg"]
        {
            assert_eq!(file_number(foreign, ".seg"), None, "{foreign}");
        }
    }
}
