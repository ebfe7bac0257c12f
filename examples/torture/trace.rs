//! The scripted life under strace: which system calls it makes, and what follows if one goes wrong.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::Failure;
use crate::child::Orders;
use crate::history::Line;
use crate::kill::read;
use crate::pace::wait;
use crate::settings::text;

/// Longer than the script takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// One system call of the life.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) name: String,
    /// Which of the calls of this name it is, from 1.
    pub(crate) nth: u64,
    /// As strace writes it.
    pub(crate) text: String,
}

/// How a life ended.
#[derive(Debug)]
pub(crate) struct Lived {
    pub(crate) lines: Vec<Line>,
    /// None if it did not end in time.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) said: String,
    /// Whether the life came to the site.
    pub(crate) injected: bool,
}

impl Lived {
    pub(crate) fn is_finished(&self) -> bool {
        self.lines.last() == Some(&Line::Finished)
    }
}

/// Runs the script under strace with these expressions.
fn run(orders: &Orders, log: &Path, expressions: &[&str]) -> Result<Lived, Failure> {
    let room = orders.store.parent().ok_or("a store without a room")?;
    let (output, said) = (room.join("output"), room.join("said"));
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-s", "0", "-o"]).arg(log);
    for expression in expressions {
        command.args(["-e", expression]);
    }
    command.arg(std::env::current_exe()?).args(orders.arguments());
    command.stdin(Stdio::null()).stdout(File::create(&output)?).stderr(File::create(&said)?);
    let mut child = command.spawn()?;
    let status = wait(&mut child, PATIENCE)?;
    let mut lines = Vec::new();
    read(File::open(&output)?, |line| {
        lines.push(line.clone());
        Ok(())
    })?;
    let injected = fs::read_to_string(log)?.contains("(INJECTED)");
    Ok(Lived { lines, status, said: fs::read_to_string(&said)?, injected })
}

/// Runs the script with a fault at a site; `from_then_on`, at every later call of its name too.
pub(crate) fn run_with(
    orders: &Orders,
    site: &Site,
    fault: &str,
    from_then_on: bool,
) -> Result<Lived, Failure> {
    let more = if from_then_on { "+" } else { "" };
    let Site { name, nth, .. } = site;
    let traced = format!("trace={name}");
    let log = orders.store.with_extension("log");
    run(orders, &log, &[&traced, &format!("inject={name}:{fault}:when={nth}{more}")])
}

/// The sites of one script.
type Sites = Arc<Vec<Site>>;
/// What was found out before, by level and seed.
static KNOWN: Mutex<BTreeMap<(&str, u64), Sites>> = Mutex::new(BTreeMap::new());

/// The system calls of the script's main thread from where it first names its store.
pub(crate) fn sites(orders: &Orders) -> Result<Sites, Failure> {
    let mut known = KNOWN.lock().map_err(|_| "a thread panicked")?;
    if let Some(sites) = known.get(&(orders.level, orders.seed)) {
        return Ok(sites.clone());
    }
    let room = orders.store.parent().ok_or("a store without a room")?.join("first");
    fs::create_dir_all(&room)?;
    let first = Orders { store: room.join("store"), ..orders.clone() };
    let log = room.join("log");
    let lived = run(&first, &log, &["trace=all"])?;
    if !lived.is_finished() {
        return Err(format!("strace does not run the script: {}", lived.said).into());
    }
    let sites = Arc::new(read_log(&fs::read_to_string(&log)?, &text(&first.store)));
    fs::remove_dir_all(&room)?;
    known.insert((orders.level, orders.seed), sites.clone());
    Ok(sites)
}

fn read_log(log: &str, store: &str) -> Vec<Site> {
    let (mut counts, mut sites) = (BTreeMap::<&str, u64>::new(), Vec::new());
    let (mut main, mut begun) = (None, false);
    for line in log.lines() {
        let (thread, call) = line.split_once(' ').unwrap_or_default();
        let (call, main) = (call.trim_start(), *main.get_or_insert(thread));
        let Some((name, _)) = call.split_once('(').filter(|_| thread == main) else { continue };
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let nth = counts.entry(name).or_default();
        *nth += 1;
        // The arguments of the program itself name the store too.
        begun |= name != "execve" && call.contains(store);
        if begun {
            sites.push(Site { name: name.to_owned(), nth: *nth, text: call.to_owned() });
        }
    }
    sites
}

/// Goes through a list in an order that seems to be none, and meets each item once.
pub(crate) fn strides(count: usize, step: u64) -> usize {
    // A prime that divides no list of such a length.
    const STRIDE: u64 = 1_000_003;
    usize::try_from(step.wrapping_mul(STRIDE) % (count.max(1) as u64)).unwrap_or(0)
}
