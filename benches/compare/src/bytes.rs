//! Keys and outcomes as engines hold them: arrays of a length known in advance, or boxed slices.
//!
//! A map whose keys all have one length would hold arrays, and so it does here for keys of 8, 16,
//! 36, 64 and 200 bytes with outcomes of 32. Other lengths are held in boxed slices, as they would
//! be by a program that does not know them: a pointer and an allocation more for the maps. What
//! copies keys anyway, the stores and oncelog, loses only that the compiler knows the length.

use std::fmt::Debug;
use std::hash::Hash;

/// What a key or an outcome is made of.
pub trait Bytes: AsRef<[u8]> + Clone + Debug + Eq + Hash + Send + Sync + 'static {
    /// The length, where the type has only one.
    const LEN: Option<usize>;

    /// So many zeros.
    fn zeros(len: usize) -> Self;

    /// The bytes, to be written over.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Whether these are the bytes.
    fn is(&self, found: &[u8]) -> bool;
}

impl<const N: usize> Bytes for [u8; N] {
    const LEN: Option<usize> = Some(N);

    fn zeros(_: usize) -> Self {
        [0; N]
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }

    /// As arrays, which takes a few instructions and no call.
    #[inline(always)]
    fn is(&self, found: &[u8]) -> bool {
        <&[u8; N]>::try_from(found).is_ok_and(|found| found == self)
    }
}

impl Bytes for Box<[u8]> {
    const LEN: Option<usize> = None;

    fn zeros(len: usize) -> Self {
        vec![0; len].into_boxed_slice()
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }

    #[inline(always)]
    fn is(&self, found: &[u8]) -> bool {
        **self == *found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds<B: Bytes>(len: usize) {
        let mut bytes = B::zeros(len);
        assert_eq!(bytes.as_ref(), vec![0; len]);
        bytes.bytes_mut().fill(7);
        assert!(bytes.is(&vec![7; len]));
        assert!(!bytes.is(&vec![7; len + 1]));
        assert!(!bytes.is(&vec![6; len]));
    }

    #[test]
    fn arrays_and_slices_hold_the_same() {
        holds::<[u8; 16]>(16);
        holds::<Box<[u8]>>(16);
        holds::<Box<[u8]>>(200);
    }
}
