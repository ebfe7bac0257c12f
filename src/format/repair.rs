//! Puts a single flipped bit of a checked structure right.
//!
//! CRC-32 tells any two structures of up to some ten thousand bytes apart that differ in up to
//! three bits. So what is right again after one flip is what was written, unless two bits and more
//! were damaged; of those, two are never taken for one.

/// Longer structures are not searched: the check would not be unique, and the search slow.
const BYTES_MAX: usize = 8 << 10;

/// The structure that `decode` accepts after one bit of `bytes` is flipped, with its bytes.
pub(crate) fn single_flip<T>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Option<T>,
) -> Option<(T, Vec<u8>)> {
    if bytes.len() > BYTES_MAX {
        return None;
    }
    let mut tried = bytes.to_vec();
    for at in 0..tried.len() {
        for bit in 0..8 {
            flip(&mut tried, at, bit);
            if let Some(decoded) = decode(&tried) {
                return Some((decoded, tried));
            }
            flip(&mut tried, at, bit);
        }
    }
    None
}

fn flip(bytes: &mut [u8], at: usize, bit: u32) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << bit;
    }
}

#[cfg(test)]
mod tests {
    use super::single_flip;
    use crate::format::segment::{SEGMENT_HEAD_BYTES, SegmentHead};

    #[test]
    fn one_flipped_bit_is_put_right_and_two_are_never_taken_for_one() {
        let head = SegmentHead {
            store: [5; 16],
            number: 6,
            bytes: 1 << 20,
            ends: 9,
            version: 10,
            created: 11,
            lifetime: 12,
        };
        let bytes = head.encode();
        for bit in 0..SEGMENT_HEAD_BYTES * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let found = single_flip(&damaged, SegmentHead::decode);
            assert_eq!(found, Some((head, bytes.clone())), "bit {bit}");
            let other = (bit * 7 + 13) % (SEGMENT_HEAD_BYTES * 8);
            if other != bit {
                damaged[other / 8] ^= 1 << (other % 8);
                assert_eq!(single_flip(&damaged, SegmentHead::decode), None, "{bit} and {other}");
            }
        }
    }
}
