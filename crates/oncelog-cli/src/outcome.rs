//! What came of a command, as bytes: exit code, then what it printed.

/// Bytes kept of each of the two outputs.
pub(crate) const OUTPUT_BYTES_MAX: usize = 7 << 20;

/// Version of the encoding.
const VERSION: u8 = 1;

/// The end of a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) code: u8,
    /// True if more was printed than is kept.
    pub(crate) cut: bool,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Outcome {
    /// Keeps what fits of the two outputs.
    pub(crate) fn new(code: u8, mut stdout: Vec<u8>, mut stderr: Vec<u8>) -> Self {
        let cut = stdout.len().max(stderr.len()) > OUTPUT_BYTES_MAX;
        stdout.truncate(OUTPUT_BYTES_MAX);
        stderr.truncate(OUTPUT_BYTES_MAX);
        Self { code, cut, stdout, stderr }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.stdout.len()).unwrap_or(u32::MAX).to_le_bytes();
        let head = [&[VERSION, self.code, u8::from(self.cut), 0][..], &length];
        [head[0], head[1], &self.stdout, &self.stderr].concat()
    }

    /// `None` for anything that [`Outcome::encode`] did not make.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, outputs) = bytes.split_first_chunk::<8>()?;
        let [VERSION, code, cut, 0, length @ ..] = *head else {
            return None;
        };
        let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
        let (stdout, stderr) = outputs.split_at_checked(length)?;
        let (stdout, stderr) = (stdout.to_vec(), stderr.to_vec());
        Some(Self { code, cut: cut != 0, stdout, stderr })
    }
}

#[cfg(test)]
mod tests {
    use super::{OUTPUT_BYTES_MAX, Outcome};

    #[test]
    fn an_outcome_comes_back_and_other_bytes_are_refused() {
        for (stdout, stderr) in [("", ""), ("out", ""), ("", "err"), ("out", "err")] {
            let outcome = Outcome::new(3, stdout.into(), stderr.into());
            assert_eq!(Outcome::decode(&outcome.encode()), Some(outcome));
        }
        for bytes in [&b""[..], b"200 OK", b"\x02\0\0\0\0\0\0\0", b"\x01\0\0\0\x09\0\0\0x"] {
            assert_eq!(Outcome::decode(bytes), None);
        }
    }

    #[test]
    fn more_than_fits_is_cut_and_says_so() {
        let outcome = Outcome::new(0, vec![1; OUTPUT_BYTES_MAX + 1], Vec::new());
        assert!(outcome.cut && outcome.stdout.len() == OUTPUT_BYTES_MAX);
    }
}
