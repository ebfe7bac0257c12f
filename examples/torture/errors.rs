//! An error from each system call of a scripted life, once and from then on.
//!
//! The life goes on to its end whatever it is answered: it neither panics, nor hangs, nor is ended
//! by a signal. What was refused changed nothing, unless that was said to be indeterminate; no
//! damage is reported, as there is none; and what was acknowledged is found by the next process,
//! whose calls do not fail. An interrupted call is made again, so that nobody is told of it.

use oncelog::Durability;

use crate::Failure;
use crate::campaign::Round;
use crate::child::Orders;
use crate::history::{Answer, Line};
use crate::kill::inspect_all;
use crate::life::Witness;
use crate::oracle::Oracle;
use crate::trace::{Lived, Site, run_with, sites, strides};

/// Faults of one round, each in a store of its own.
const FAULTS: u64 = 8;

/// Calls that may fail, with what each is made to fail with.
const ERRORS: &[(&str, &[&str])] = &[
    ("openat", &["EMFILE", "ENFILE", "EIO", "EINTR", "ENOSPC", "EROFS", "EACCES"]),
    ("mkdir", &["EIO", "ENOSPC", "EROFS"]),
    ("fallocate", &["ENOSPC", "EIO", "EINTR", "EOPNOTSUPP"]),
    ("pwrite64", &["ENOSPC", "EIO", "EINTR"]),
    ("write", &["ENOSPC", "EIO", "EINTR"]),
    ("read", &["EIO", "EINTR"]),
    ("pread64", &["EIO", "EINTR"]),
    ("fsync", &["EIO", "ENOSPC"]),
    ("fdatasync", &["EIO", "ENOSPC"]),
    ("msync", &["EIO"]),
    ("ftruncate", &["EIO", "ENOSPC", "EINTR"]),
    ("rename", &["EIO", "ENOSPC", "EROFS"]),
    ("renameat", &["EIO", "ENOSPC", "EROFS"]),
    ("renameat2", &["EIO", "ENOSPC", "EROFS"]),
    ("unlink", &["EIO", "EROFS"]),
    ("unlinkat", &["EIO", "EROFS"]),
    ("mmap", &["ENOMEM", "EMFILE"]),
    ("madvise", &["EINVAL", "EAGAIN"]),
    ("getdents64", &["EIO"]),
    ("fstat", &["EIO"]),
    ("statx", &["EIO"]),
    ("newfstatat", &["EIO"]),
    ("flock", &["ENOLCK", "EIO", "EINTR"]),
    ("getrandom", &["EINTR"]),
];

/// Calls that are made again when they were interrupted.
const REPEATED: &[&str] =
    &["openat", "fallocate", "pwrite64", "write", "read", "pread64", "flock", "getrandom"];

/// A fault at a site.
struct Fault<'a> {
    site: &'a Site,
    error: &'static str,
    from_then_on: bool,
}

pub(crate) fn run(round: &mut Round<'_>) -> Result<(), Failure> {
    let level = if round.number.is_multiple_of(2) { "process" } else { "synced" };
    let script =
        Orders { store: round.room.join("store"), seed: round.seed, level, threads: 0, ttl: 30 };
    let sites = sites(&script)?;
    let faults: Vec<Fault<'_>> = sites.iter().flat_map(faults_at).collect();
    for number in 0..FAULTS {
        let index = strides(faults.len(), round.number / 2 * FAULTS + number);
        let fault = faults.get(index).ok_or("the script makes no call that may fail")?;
        let room = round.room.join(number.to_string());
        std::fs::create_dir(&room)?;
        let orders = Orders { store: room.join("store"), ..script.clone() };
        one(round, &orders, fault).map_err(|error| {
            let Fault { site, error: errno, from_then_on } = fault;
            let often = if *from_then_on { "from then on" } else { "once" };
            let place = format!("{} number {} ({})", site.name, site.nth, site.text);
            format!("{errno} {often} at {place}, level {level}: {error}")
        })?;
        std::fs::remove_dir_all(&room)?;
        if round.until.has_come() {
            break;
        }
    }
    Ok(())
}

fn faults_at(site: &Site) -> Vec<Fault<'_>> {
    let listed = ERRORS.iter().find(|(name, _)| *name == site.name);
    // Other mappings and random numbers are the runtime's own.
    let ours = match site.name.as_str() {
        "mmap" => site.text.contains("MAP_SHARED") || site.text.contains("MAP_NORESERVE"),
        "getrandom" => site.text.contains(", 192, ") || site.text.contains(", 16, "),
        _ => true,
    };
    let errors = listed.filter(|_| ours).map_or(&[][..], |(_, errors)| errors);
    let fault = |error: &'static str, from_then_on| Fault { site, error, from_then_on };
    // The allocator maps memory too, and ends the process where it gets none.
    let may_stay = site.name != "mmap" && site.name != "getrandom";
    let both = |error: &'static str| {
        // What is interrupted every time is not interrupted, it hangs.
        let stays = may_stay && error != "EINTR";
        std::iter::once(fault(error, false)).chain(stays.then(|| fault(error, true)))
    };
    errors.iter().copied().flat_map(both).collect()
}

fn one(round: &mut Round<'_>, orders: &Orders, fault: &Fault<'_>) -> Result<(), Failure> {
    let inject = format!("error={}", fault.error);
    let lived = run_with(orders, fault.site, &inject, fault.from_then_on)?;
    check_ended(&lived)?;
    if lived.injected {
        round.fault();
    }
    let mut oracle = Oracle::new(Durability::Process);
    for line in &lived.lines {
        oracle.hear(line)?;
        if fault.error == "EINTR" && REPEATED.contains(&fault.site.name.as_str()) {
            check_unnoticed(line)?;
        }
    }
    oracle.process_ended();
    for closes in [true, false] {
        inspect_all(&orders.store, &mut oracle, closes, true)?;
    }
    round.tally.checks += oracle.checks;
    Ok(())
}

fn check_ended(lived: &Lived) -> Result<(), Failure> {
    match lived.status {
        None => Err("the life hangs".into()),
        Some(status) if !status.success() => {
            Err(format!("the life ends with {status}: {}", lived.said).into())
        }
        Some(_) if !lived.is_finished() => Err("the life ends too soon".into()),
        Some(_) => Ok(()),
    }
}

fn check_unnoticed(line: &Line) -> Result<(), Failure> {
    match line {
        Line::NotOpened(_) | Line::Reply { answer: Answer::Refused(_), .. } => {
            Err(format!("an interrupted call was not repeated: {line}").into())
        }
        _ => Ok(()),
    }
}
