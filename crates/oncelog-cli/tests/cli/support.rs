//! What every test needs: a directory of its own, a run of the binary, and awk to compare with.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};

use tempfile::TempDir;

/// A directory that ends with the test.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), content).unwrap();
        self.text(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }
}

/// What a run left behind.
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn from(output: Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { code: output.status.code(), stdout: output.stdout, stderr }
    }

    /// The output of a run that must have succeeded in silence.
    pub(crate) fn quiet_success(self) -> Vec<u8> {
        assert_eq!(self.stderr, "");
        assert_eq!(self.code, Some(0));
        self.stdout
    }

    /// The error of a run that must have ended with `code`.
    pub(crate) fn failure(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert!(self.stderr.contains("error:"), "{}", self.stderr);
        &self.stderr
    }
}

/// The binary, to be started with the usual answers to signals.
///
/// A program in the background inherits that interrupts are ignored, and rightly goes on ignoring
/// them; so would the tests' children where the tests themselves run in the background.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP,INT,TERM,PIPE", env!("CARGO_BIN_EXE_oncelog")]);
    command.args(arguments);
    command
}

/// Starts the binary with pipes for its input and output.
pub(crate) fn start(arguments: &[&str]) -> Child {
    let mut command = command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Runs the binary with nothing on standard input.
pub(crate) fn run(arguments: &[&str]) -> Done {
    Done::from(command(arguments).stdin(Stdio::null()).output().unwrap())
}

/// Runs the binary with `input` on standard input.
pub(crate) fn feed(arguments: &[&str], input: &[u8]) -> Done {
    let mut child = start(arguments);
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // The run may end before it has read everything.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Done::from(output)
}

/// Ends a process at once and waits until it is gone.
pub(crate) fn kill(child: &mut Child) -> ExitStatus {
    child.kill().unwrap();
    child.wait().unwrap()
}

/// Reads `len` bytes from a process that goes on.
pub(crate) fn read_some(from: &mut ChildStdout, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    std::io::Read::read_exact(from, &mut bytes).unwrap();
    bytes
}

/// What `awk '!seen[$0]++'` prints.
pub(crate) fn awk(files: &[&str]) -> Vec<u8> {
    let output = Command::new("awk").arg("!seen[$0]++").args(files).env("LC_ALL", "C").output();
    let output = output.unwrap();
    assert!(output.status.success());
    output.stdout
}

pub(crate) fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name);
    path.to_str().unwrap().to_owned()
}

/// Numbered lines with repeats, the same in every run: a linear congruence picks the numbers.
pub(crate) fn generated(lines: u64, range: u64) -> Vec<u8> {
    let mut state = 12_345_u64;
    let mut bytes = Vec::new();
    for _ in 0..lines {
        state = state * 16_807 % 2_147_483_647;
        writeln!(bytes, "line {:027}", state % range).unwrap();
    }
    bytes
}

/// The lines of `bytes`, each with its newline.
pub(crate) fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').collect()
}

/// The first appearance of each line.
pub(crate) fn distinct(bytes: &[u8]) -> Vec<&[u8]> {
    let mut seen = std::collections::HashSet::new();
    lines(bytes).into_iter().filter(|line| seen.insert(*line)).collect()
}
