//! A vote: one ballot for each voter, a tally, and a published root that later changes differ from.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::fs;

use oncelog::recipes::ballot::{Ballots, Cast, Export, verify_root};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("ballots");

    let ballots = Ballots::open(&path)?;
    let park = ballots.election("a park by the river")?;
    for (voter, choice) in [("ada", "yes"), ("ben", "no"), ("cleo", "yes"), ("ben", "yes")] {
        match park.cast(voter, choice)? {
            Cast::Counted => println!("{voter}'s ballot is in"),
            Cast::AlreadyVoted(first) => println!("{voter} voted at {}", first.cast_at()),
        }
    }
    for (choice, count) in park.tally()?.iter() {
        println!("{}: {count}", String::from_utf8_lossy(choice));
    }

    // The root goes where nobody can change it; the export is kept in any place.
    let export = ballots.close()?;
    let published = export.root();
    fs::write(directory.path().join("export"), export.to_string())?;
    println!("root {published}");

    // Some day somebody makes a no of a yes.
    let segment = path.join(format!("{:010}.seg", export.links()[0].segment));
    let mut bytes = fs::read(&segment)?;
    let yes = bytes.windows(3).position(|three| three == b"yes").ok_or("no ballot says yes")?;
    bytes[yes..yes + 3].copy_from_slice(b"no ");
    fs::write(&segment, bytes)?;

    let export: Export = fs::read_to_string(directory.path().join("export"))?.parse()?;
    assert_eq!(export.root(), published);
    let verified = verify_root(&path, &export)?;
    assert!(!verified.is_unchanged());
    for difference in &verified.differences {
        println!("segment {:?}: {}", difference.segment, difference.change);
    }
    Ok(())
}
