//! Facts read from the machine: what it is, and what the process and its files take up.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::Result;
use crate::args::Args;
use crate::keys::{Generator, KeyShape, Shuffle};
use crate::popular::{Random, Zipf};

/// Less than this to write back does not disturb the next process.
const DIRTY_MAX: u64 = 10 << 20;
const WRITEBACK_WAIT: Duration = Duration::from_secs(10);

/// The first line of a report: where and when it was made.
#[derive(Clone, Debug, Serialize)]
pub struct Header {
    /// Model of the processor.
    pub cpu: String,
    /// Processors this process may use.
    pub cores: usize,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Type of the file system the stores are on.
    pub file_system: String,
    /// Whether the kernel makes huge pages of its own accord.
    pub transparent_hugepage: String,
    /// Processes that wanted a processor in the minute before the run, on average.
    pub load: f64,
    /// When the run began, in UTC.
    pub date: String,
    /// Commit of the source tree, with `+` when the tree differs from it.
    pub commit: Option<String>,
    /// Nanoseconds to make one key and its outcome in order, part of every `new`.
    pub new_key_ns: f64,
    /// Nanoseconds to make one key and its outcome in random order, part of every `dup`.
    pub dup_key_ns: f64,
    /// Nanoseconds more to draw a key by Zipf's law, part of `mix_zipf`.
    pub zipf_ns: f64,
}

/// Memory of this process.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Anonymous pages.
    pub anon: u64,
    /// Mapped pages of files.
    pub file: u64,
}

/// Reads the facts of this machine for stores in `dir`.
pub fn header(args: &Args, dir: &Path) -> Header {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let hugepage = read("/sys/kernel/mm/transparent_hugepage/enabled");
    let chosen = hugepage.split(['[', ']']).nth(1).unwrap_or("unknown");
    let [new_key_ns, dup_key_ns, zipf_ns] = generator_cost(args.seed);
    Header {
        cpu: field(&cpuinfo, "model name")
            .unwrap_or("unknown")
            .to_owned(),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        memory_bytes: kilobytes(&meminfo, "MemTotal"),
        kernel: read("/proc/sys/kernel/osrelease"),
        file_system: file_system(dir),
        transparent_hugepage: chosen.to_owned(),
        load: load(),
        date: utc(SystemTime::now()),
        commit: commit(),
        new_key_ns,
        dup_key_ns,
        zipf_ns,
    }
}

/// What this process has in memory now.
pub fn memory() -> Result<Memory> {
    memory_of("self")
}

/// What another process has in memory now.
#[cfg(feature = "services")]
pub fn memory_of_process(id: u32) -> Result<Memory> {
    memory_of(&id.to_string())
}

fn memory_of(process: &str) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let file = kilobytes(&status, "RssFile") + kilobytes(&status, "RssShmem");
    Ok(Memory {
        anon: kilobytes(&status, "RssAnon"),
        file,
    })
}

/// Has the file system write what the last store left, so that the next one does not pay.
pub fn wait_for_writeback(base: &Path) {
    // Without the command, the wait below still gives the kernel some time.
    let _ = Command::new("sync").arg("-f").arg(base).status();
    let begin = Instant::now();
    while dirty_bytes() > DIRTY_MAX && begin.elapsed() < WRITEBACK_WAIT {
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Bytes the machine still has to write back to its disks.
fn dirty_bytes() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kilobytes(&meminfo, "Dirty") + kilobytes(&meminfo, "Writeback")
}

/// Nanoseconds that the calling thread was ready to run but had no processor, since it began.
///
/// Zero where the kernel does not count that.
pub fn waited_for_processor() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

/// Blocks allocated to the files below a folder, in bytes.
pub fn disk_usage(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // A file that the engine has removed since the listing takes up nothing.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        bytes += match metadata.is_dir() {
            true => disk_usage(&entry.path())?,
            false => metadata.blocks() * 512,
        };
    }
    Ok(bytes)
}

/// Processes that wanted a processor in the last minute.
fn load() -> f64 {
    let text = read("/proc/loadavg");
    let first = text.split(' ').next();
    first.and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or("unknown".to_owned(), |text| text.trim().to_owned())
}

/// The value of `name : value` in a text of such lines.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(name)?.trim_start().strip_prefix(':');
    text.lines().find_map(value).map(str::trim)
}

/// The value of `name: value kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> u64 {
    let number = field(text, name).and_then(|value| value.split(' ').next());
    number
        .and_then(|number| number.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// The type of the file system with the longest mount point above `dir`.
fn file_system(dir: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let dir = dir.canonicalize().unwrap_or_default();
    let mount = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        dir.starts_with(point)
            .then(|| (point.len(), kind.to_owned()))
    };
    mounts
        .lines()
        .filter_map(mount)
        .max()
        .map_or("unknown".to_owned(), |(_, kind)| kind)
}

/// The commit of the source tree, when git knows one.
fn commit() -> Option<String> {
    let tree = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or(".".into());
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command
            .arg("--no-optional-locks")
            .arg("-C")
            .arg(&tree)
            .args(arguments);
        let output = command.output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?.trim().to_owned();
    let changed = git(&["status", "--porcelain"]).is_none_or(|changes| !changes.is_empty());
    Some(if changed { commit + "+" } else { commit })
}

/// What making a key of 16 bytes and its outcome of 32 costs, in nanoseconds: in order, shuffled;
/// and what drawing a rank does.
fn generator_cost(seed: u64) -> [f64; 3] {
    const COUNT: u64 = 1 << 20;
    let generator = Generator::new(seed, KeyShape::Random(16));
    let shuffle = Shuffle::new(COUNT - 1, seed);
    let (zipf, mut random) = (Zipf::new(COUNT, 0.99), Random::new(seed));
    let mut item = ([0_u8; 16], [0_u8; 32]);
    let mut time = |work: &mut dyn FnMut(u64) -> u64, makes: bool| {
        let begin = Instant::now();
        for at in 0..COUNT - 1 {
            let index = std::hint::black_box(work(at));
            if makes {
                generator.item(index, &mut item);
                std::hint::black_box(&item);
            }
        }
        (begin.elapsed().as_secs_f64() * 1e10 / COUNT as f64).round() / 10.0
    };
    [
        time(&mut |at| at, true),
        time(&mut |at| shuffle.at(at), true),
        time(&mut |_| zipf.rank(&mut random), false),
    ]
}

/// A point in time as `YYYY-MM-DDTHH:MM:SSZ`.
fn utc(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from 0000-03-01, so that a leap day is the last day of its year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_right() {
        let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_767_225_600), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn fields_are_found() {
        assert_eq!(
            kilobytes("RssAnon:\t   12 kB\nRssFile: 3 kB", "RssAnon"),
            12 * 1024
        );
        assert_eq!(field("model name\t: A B", "model name"), Some("A B"));
    }
}
