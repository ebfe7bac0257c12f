//! Requests without a key of their own: one is made of the fields that count.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use oncelog::Store;
use oncelog::recipes::digest::Digests;

/// A transfer as it was parsed, whatever its text looked like.
struct Transfer {
    from: &'static str,
    to: &'static str,
    cents: u64,
    sent_at: &'static str,
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path())?;
    let digests = Digests::open(&store, "transfers")?;
    let transfers = [
        Transfer { from: "ann", to: "bob", cents: 500, sent_at: "10:00:00" },
        Transfer { from: "ann", to: "bob", cents: 500, sent_at: "10:00:03" },
        Transfer { from: "ann", to: "bob", cents: 700, sent_at: "10:00:05" },
    ];
    for transfer in &transfers {
        // The time is left out: it is another one in each repetition.
        let key = digests
            .begin("POST /transfers")
            .field("from", transfer.from)
            .field("to", transfer.to)
            .field("cents", transfer.cents.to_le_bytes())
            .finish();
        let new = store.insert(key.short())?;
        println!("{}: {}", transfer.sent_at, if new { "new" } else { "seen before" });
    }

    // A body is taken as it is, piece by piece.
    let mut body = digests.begin("PUT /files").field("name", "a.bin").body();
    for piece in [&b"first half, "[..], b"second half"] {
        body.update(piece);
    }
    println!("{:?}", body.finish());
    Ok(())
}
