//! Real power cuts of an ext4 on a loop device, at each level of durability.
//!
//! The file system is told to stop by `FS_IOC_SHUTDOWN` while a child works in it: nothing reaches
//! its device from then on, and its journal is replayed when it is mounted again. Everything
//! happens in a mount namespace of its own.
//!
//! Some records live for a fraction of a second, so that they end between two cuts. A cut may take
//! a removal and keep such a record after it: what was removed must not be known again once that
//! record, which was found, has ended.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;
use crate::campaign::Round;
use crate::child::Orders;
use crate::kernel::cut_power;
use crate::kill::{End, follow_until, inspect_all, start};
use crate::oracle::Oracle;
use crate::pace::pause;
use crate::settings::level;

/// Cuts of one store.
const CUTS: u64 = 6;
const DISK_BYTES: u64 = 96 << 20;

pub(crate) fn run(round: &mut Round<'_>) -> Result<(), Failure> {
    let names = ["process", "interval", "synced"];
    let name = names[usize::try_from(round.number % 3).unwrap_or(0)];
    let level = level(name).ok_or("no such level")?;
    let disk = Disk::make(&round.room)?;
    let store = disk.place.join("store");
    let mut oracle = Oracle::new(level);
    for cut in 0..CUTS {
        disk.mount()?;
        let seed = round.random.next();
        let threads = 1 + cut % 3;
        let orders = Orders { store: store.clone(), seed, level: name, threads, ttl: 400 };
        let mut child = start(&orders)?;
        let end = if round.random.one_in(6) {
            pause(round.random.below(12));
            End::Now
        } else {
            End::AfterLines(round.random.below(if name == "synced" { 400 } else { 4_000 }))
        };
        // The system may write any file by itself at any time.
        let written = round.random.one_in(2).then(|| round.random.next());
        follow_until(&mut child, &mut oracle, end, |child| {
            if let Some(draw) = written {
                write_back(&store, draw);
            }
            cut_power(&File::open(&disk.place)?)?;
            child.kill()?;
            Ok(())
        })?;
        round.fault();
        oracle.power_cut();
        disk.unmount()?;
        if !round.random.one_in(4) {
            disk.mount()?;
            let closes = round.random.one_in(3);
            inspect_all(&store, &mut oracle, closes, false)?;
            disk.unmount()?;
        }
        if round.until.has_come() {
            break;
        }
    }
    disk.mount()?;
    inspect_all(&store, &mut oracle, true, false)?;
    inspect_all(&store, &mut oracle, false, true)?;
    disk.unmount()?;
    round.tally.checks += oracle.checks;
    Ok(())
}

/// Has the system write one of the store's files.
fn write_back(store: &Path, draw: u64) {
    let Ok(entries) = fs::read_dir(store) else { return };
    let files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let chosen = usize::try_from(draw % (files.len().max(1) as u64)).unwrap_or(0);
    if let Some(file) = files.get(chosen).and_then(|path| File::open(path).ok()) {
        // It may be gone, or what it is in may be.
        let _ = file.sync_data();
    }
}

/// A file with a file system in it.
struct Disk {
    image: PathBuf,
    place: PathBuf,
}

impl Disk {
    fn make(room: &Path) -> Result<Self, Failure> {
        let disk = Self { image: room.join("disk"), place: room.join("mounted") };
        fs::create_dir(&disk.place)?;
        File::create(&disk.image)?.set_len(DISK_BYTES)?;
        let mut make = Command::new("mkfs.ext4");
        make.args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0"]).arg(&disk.image);
        call(&mut make)?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), Failure> {
        call(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.place))
    }

    fn unmount(&self) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            let done = call(Command::new("umount").arg(&self.place));
            // The system is still closing what the killed process had open.
            if done.is_ok() || tries == 200 {
                return done;
            }
            tries += 1;
            pause(5);
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // After a failure; otherwise it is not mounted any more.
        let _ = Command::new("umount").arg("-l").arg(&self.place).output();
    }
}

/// Runs a program to its end.
pub(crate) fn call(command: &mut Command) -> Result<(), Failure> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{command:?} ended with {}: {said}", output.status).into())
}
