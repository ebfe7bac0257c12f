//! A long job under a short lease, renewed as the job goes on, and found by a scan if it is stuck.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use oncelog::{Begin, BeginOptions, Scan, Status, Store};

const LEASE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path())?;
    let options = BeginOptions::new().lease(LEASE).attempts_max(3);
    let Begin::Started(mut lease) = store.begin_with("report 2026-07", options)? else {
        println!("somebody else is at it, or it is done");
        return Ok(());
    };
    let mut pages = 0;
    for chapter in 1..=4 {
        pages += chapter;
        // After each step: the lease is as long as one step may take, not as the whole job.
        if lease.remaining() < LEASE / 2 || chapter % 2 == 0 {
            lease.renew(LEASE)?;
        }
    }
    for found in store.scan(Scan::new().status(Status::InProgress)) {
        let (key, meta) = found?;
        println!("{}: attempt {}", String::from_utf8_lossy(&key), meta.attempts);
    }
    lease.complete(format!("{pages} pages"))?;

    // A job that cannot be done now is given back, to be begun again in a minute.
    if let Begin::Started(mut lease) = store.begin_with("report 2026-08", options)? {
        lease.release(Some(Duration::from_secs(60)))?;
    }
    if let Begin::InProgress(later) = store.begin_with("report 2026-08", options)? {
        println!("the next report in {:?}", later.retry_after());
    }
    Ok(())
}
