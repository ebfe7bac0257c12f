//! Settings that every store of a campaign is opened with, by whichever process.

use std::path::Path;
use std::time::Duration;

use oncelog::{Builder, Durability, Maintenance, Store, Ttl};

/// How long a key is remembered unless its call says otherwise, in milliseconds: longer than any
/// campaign, so that what ends by itself is what was given a lifetime of its own.
pub(crate) const LIFETIME_MS: u64 = 24 * 3_600_000;
/// How long a lease lasts; longer than any campaign.
pub(crate) const LEASE: Duration = Duration::from_secs(3_600);
pub(crate) const LEASE_MS: u64 = 3_600_000;

/// The lifetime that a call asks for.
pub(crate) fn lifetime(ttl_ms: u64) -> Ttl {
    let millis = if ttl_ms == 0 { LIFETIME_MS } else { ttl_ms };
    Ttl::After(Duration::from_millis(millis))
}

/// A small store: few stripes and small segments, so that it opens fast and rolls often.
pub(crate) fn builder() -> Builder {
    Store::builder()
        .ttl(Duration::from_millis(LIFETIME_MS))
        .stripes(16)
        .lanes(2)
        .segment_bytes_max(2 << 20)
}

/// As [`builder`], with nothing happening but what is called.
pub(crate) fn manual() -> Builder {
    builder().maintenance(Maintenance::Manual)
}

/// A level by its name.
pub(crate) fn level(name: &str) -> Option<Durability> {
    Some(match name {
        "process" => Durability::Process,
        "interval" => Durability::Interval(Duration::from_millis(5)),
        "synced" => Durability::Synced,
        _ => return None,
    })
}

/// The bytes of a file's path, as text for a command line.
pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}
