//! What finished work leaves behind for every later request with its key.

/// Outcomes up to this many bytes are held without an allocation of their own.
const INLINE_BYTES: usize = 47;

/// An outcome's bytes, held in place where they are few.
#[derive(Clone)]
pub(crate) enum Outcome {
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    Heap(Box<[u8]>),
}

impl Outcome {
    /// Room for `len` bytes, all zero.
    pub(crate) fn zeroed(len: usize) -> Self {
        match u8::try_from(len) {
            Ok(len) if usize::from(len) <= INLINE_BYTES => {
                Self::Inline { len, bytes: [0; INLINE_BYTES] }
            }
            _ => Self::Heap(vec![0; len].into_boxed_slice()),
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Self::Heap(bytes) => bytes,
        }
    }

    pub(crate) fn as_mut_bytes(&mut self) -> &mut [u8] {
        match self {
            Self::Inline { len, bytes } => {
                let len = usize::from(*len).min(INLINE_BYTES);
                bytes.split_at_mut(len).0
            }
            Self::Heap(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{INLINE_BYTES, Outcome};

    #[test]
    fn an_outcome_keeps_its_length_on_both_sides_of_the_inline_limit() {
        for len in [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 300] {
            let mut outcome = Outcome::zeroed(len);
            outcome.as_mut_bytes().fill(7);
            assert_eq!(outcome.as_bytes(), vec![7; len]);
        }
    }
}
