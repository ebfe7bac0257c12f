//! Who else may open a store that is open: nobody, by no path, from no process, not after a fork.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;

use oncelog::{Error, Store};

use crate::Failure;
use crate::campaign::Round;
use crate::kernel::fork;
use crate::pace::pause;
use crate::power::call;
use crate::settings::{builder, manual};

const OPENED: &str = "opened";
const REFUSED: &str = "refused";

fn try_open(path: &Path) -> Result<&'static str, Failure> {
    match manual().open(path) {
        Ok(_store) => Ok(OPENED),
        Err(Error::AlreadyOpen { .. }) => Ok(REFUSED),
        Err(error) => Err(error.into()),
    }
}

/// The other process: opens what it is told, and says how that went.
pub(crate) fn guest(words: &[String]) -> Result<(), Failure> {
    let path = words.first().ok_or("a guest wants a path")?;
    println!("{}", try_open(Path::new(path))?);
    Ok(())
}

/// What a process of its own is told that opens `path` from `folder`.
fn elsewhere(folder: &Path, path: &Path) -> Result<String, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--guest", "open"]).arg(path).current_dir(folder);
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn expect(found: &str, wanted: &str, path: &Path, how: &str) -> Result<(), Failure> {
    if found == wanted {
        return Ok(());
    }
    Err(format!("{} is {found} {how}, and was to be {wanted}", path.display()).into())
}

pub(crate) fn run(round: &mut Round<'_>) -> Result<(), Failure> {
    let path = round.room.join("store");
    let store = manual().open(&path)?;
    store.insert("before")?;
    let (link, parent) = (round.room.join("link"), round.room.join("parent"));
    symlink(&path, &link)?;
    symlink(&round.room, &parent)?;
    let dotted = path.join("..").join("store").join(".");
    let mut paths = vec![path.clone(), link, parent.join("store"), dotted, "./store".into()];
    paths.push("store/../store".into());
    for other in &paths {
        if other.is_absolute() {
            expect(try_open(other)?, REFUSED, other, "in this process")?;
        }
        expect(&elsewhere(&round.room, other)?, REFUSED, other, "in another process")?;
        round.fault();
        round.tally.checks += 1;
    }
    store.insert("after")?;
    if round.random.one_in(2) {
        store.close()?
    } else {
        drop(store)
    }
    let other = round.random.pick(&paths).ok_or("no path")?;
    expect(&elsewhere(&round.room, other)?, OPENED, other, "after the end of the first")?;
    check_kept(&path)?;
    race(&path)?;
    round.tally.checks += 2;
    Ok(())
}

fn check_kept(path: &Path) -> Result<(), Failure> {
    let store = manual().open(path)?;
    if !store.contains("before")? || !store.contains("after")? {
        return Err("a key is lost after others tried to open the store".into());
    }
    Ok(())
}

/// Of several threads that open at once one succeeds.
fn race(path: &Path) -> Result<(), Failure> {
    const THREADS: usize = 4;
    let (begin, end) = (Barrier::new(THREADS), Barrier::new(THREADS));
    let opened = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    begin.wait();
                    let opened: oncelog::Result<Store> = manual().open(path);
                    end.wait();
                    match opened {
                        Ok(_store) => Ok(true),
                        Err(Error::AlreadyOpen { .. }) => Ok(false),
                        Err(error) => Err(error.to_string()),
                    }
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    let mut count = 0;
    for one in opened {
        count += usize::from(one.map_err(|_| "an opening thread panicked")??);
    }
    if count == 1 { Ok(()) } else { Err(format!("{count} of {THREADS} opened at once").into()) }
}

/// In a mount namespace: the other path is a bind mount.
pub(crate) fn run_bound(round: &mut Round<'_>) -> Result<(), Failure> {
    let (path, bound) = (round.room.join("store"), round.room.join("bound"));
    std::fs::create_dir(&bound)?;
    let store = manual().open(&path)?;
    store.insert("before")?;
    call(Command::new("mount").arg("--bind").arg(&path).arg(&bound))?;
    let tried = try_open(&bound)
        .and_then(|found| expect(found, REFUSED, &bound, "in this process"))
        .and_then(|()| elsewhere(&round.room, &bound))
        .and_then(|found| expect(&found, REFUSED, &bound, "in another process"));
    round.fault();
    round.tally.checks += 3;
    drop(store);
    let opened = tried.and_then(|()| elsewhere(&round.room, &bound));
    call(Command::new("umount").arg(&bound))?;
    expect(&opened?, OPENED, &bound, "after the end of the first")
}

/// How the copy of a process behaves that has the store open.
const COPIES: &[&str] = &["drops", "drops-with-a-thread", "ends", "outlives"];

/// Has processes copied that have a store open.
pub(crate) fn run_forked(round: &mut Round<'_>) -> Result<(), Failure> {
    for copy in COPIES {
        let path = round.room.join(copy);
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--guest", "fork", copy]).arg(&path);
        let output = command.output()?;
        round.fault();
        round.tally.checks += 1;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("a copy that {copy}: {said}").into());
        }
        check_kept(&path)?;
    }
    Ok(())
}

/// A process that opens a store and is copied. It has one thread, or one of maintenance beside it,
/// and then its copy does nothing but drop the store.
pub(crate) fn forking_guest(words: &[String]) -> Result<(), Failure> {
    let [copy, path] = words else { return Err("a fork wants a path".into()) };
    let path = Path::new(path);
    let here = Path::new(".");
    let threaded = copy == "drops-with-a-thread";
    let mut store = Some(if threaded { builder().open(path)? } else { manual().open(path)? });
    store.as_ref().ok_or("no store")?.insert("before")?;
    let copied = fork(|| {
        match copy.as_str() {
            "drops" | "drops-with-a-thread" => drop(store.take()),
            "outlives" => pause(300),
            _ => {}
        }
        true
    })?;
    let store = store.ok_or("no store")?;
    if copy == "outlives" {
        store.insert("after")?;
        store.close()?;
        expect(&elsewhere(here, path)?, OPENED, path, "while the copy lives")?;
        return if copied.wait()? { Ok(()) } else { Err("the copy failed".into()) };
    }
    if !copied.wait()? {
        return Err("the copy failed".into());
    }
    expect(&elsewhere(here, path)?, REFUSED, path, "after the end of the copy")?;
    store.insert("after")?;
    Ok(())
}
