//! A vote at full speed: threads cast ballots in batches and look voters up, apart and together.
//!
//! Every ballot carries a voter of its own but for a share of repeated ones, which have to be
//! refused; at the end the tally has to be what was cast, and a recount the same. `--help` says
//! what can be set. Results go to the standard output, progress to the standard error output.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod options;
mod report;
mod work;

use std::error::Error;

use oncelog::recipes::ballot::{Ballots, verify_root};

use crate::options::Options;
use crate::report::Report;
use crate::work::{Kind, Plan};

fn main() -> Result<(), Box<dyn Error>> {
    let Some(options) = Options::of(std::env::args().skip(1))? else {
        println!("{}", options::HELP);
        return Ok(());
    };
    let temporary;
    let path = match &options.directory {
        Some(path) => path.clone(),
        None => {
            temporary = tempfile::tempdir()?;
            temporary.path().join("ballots")
        }
    };
    let ballots = Ballots::open(&path)?.with_durability(options.durability)?;
    let election = ballots.election("voting")?;
    if election.tally()?.total() != 0 {
        return Err(format!("{} holds ballots of an earlier run", path.display()).into());
    }
    let mut report = Report::new(&options);
    let mut voters = 0;
    let mut repeated = 0;
    for (wanted, kind) in
        [(options.cast, Kind::Cast), (options.find, Kind::Find), (options.together, Kind::Together)]
    {
        if !wanted {
            continue;
        }
        if kind == Kind::Find && voters == 0 {
            // Somebody has to have voted; not part of what is measured.
            voters += work::run(&election, &Plan::of(Kind::Cast, 0, &options))?.counted;
        }
        let plan = Plan::of(kind, voters, &options);
        let done = work::run(&election, &plan)?;
        plan.check(&done)?;
        voters += done.counted;
        repeated += done.refused;
        report.add(kind, &done);
    }

    let begun = work::now();
    let tally = election.recount()?;
    report.time("recount", begun);
    if tally != election.tally()? || tally.total() != voters {
        return Err(
            format!("{} ballots are recorded, and {voters} were cast", tally.total()).into()
        );
    }
    report.tally(&tally, repeated);
    drop(election);
    let begun = work::now();
    let export = ballots.close()?;
    report.time("close and export", begun);
    let begun = work::now();
    if !verify_root(&path, &export)?.is_unchanged() {
        return Err("the files are not as they were exported".into());
    }
    report.time("verify", begun);
    report.root(&export);
    println!("{}", if options.json { report.json() } else { report.text() });
    Ok(())
}
