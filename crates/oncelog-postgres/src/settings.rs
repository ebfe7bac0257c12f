//! What the server's settings promise, as the profile says it.

use std::time::Duration;

use oncelog::Result;
use oncelog::backend::{Clocked, Fenced, Profile, Survives};
use tokio_postgres::Client;

use crate::trouble::{self, NAME};

/// A commit that is not waited for reaches the disk within three rounds of the WAL writer.
const WRITER_ROUNDS: u32 = 3;

const QUERY: &str = "SELECT current_setting('fsync') = 'on', \
    current_setting('synchronous_commit'), \
    (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_writer_delay'), \
    current_setting('synchronous_standby_names') <> ''";

/// What the settings of a session on this connection promise.
pub(crate) async fn profile(client: &Client, key_bytes: usize, outcome: usize) -> Result<Profile> {
    let failed = |error| trouble::failed(&error, false);
    let rows = client.query_typed(QUERY, &[]).await.map_err(failed)?;
    let row = rows.first().ok_or_else(|| trouble::strange("the server has no settings"))?;
    let fsync: bool = row.try_get(0).map_err(failed)?;
    let commit: String = row.try_get(1).map_err(failed)?;
    let delay: i64 = row.try_get(2).map_err(failed)?;
    let standbys: bool = row.try_get(3).map_err(failed)?;
    let delay = Duration::from_millis(u64::try_from(delay).unwrap_or(0));
    Ok(Profile {
        name: NAME,
        survives: survives(fsync, &commit, delay),
        fenced: fenced(standbys, &commit),
        clocked: Clocked::Server,
        key_bytes_max: key_bytes,
        outcome_bytes_max: outcome,
        limits_room: false,
    })
}

fn survives(fsync: bool, commit: &str, delay: Duration) -> Survives {
    match (fsync, commit) {
        // What is not waited for is lost with the server's process too.
        (false, "off") => Survives::CallerCrash,
        (true, "off") => Survives::PowerLossAfter(delay.saturating_mul(WRITER_ROUNDS)),
        (false, _) => Survives::ProcessCrash,
        (true, _) => Survives::PowerLoss,
    }
}

/// Whether there are standbys that might take over is not known; that they have everything is only
/// where commits wait for them.
fn fenced(standbys: bool, commit: &str) -> Fenced {
    if standbys && matches!(commit, "on" | "remote_apply") {
        Fenced::Database
    } else {
        Fenced::Primary
    }
}

#[cfg(test)]
mod tests {
    use super::{fenced, survives};
    use oncelog::backend::{Fenced, Survives};
    use std::time::Duration;

    #[test]
    fn what_a_commit_survives_is_what_it_waits_for() {
        let delay = Duration::from_millis(200);
        let late = Survives::PowerLossAfter(Duration::from_millis(600));
        for (fsync, commit, promised) in [
            (true, "on", Survives::PowerLoss),
            (true, "local", Survives::PowerLoss),
            (true, "off", late),
            (false, "on", Survives::ProcessCrash),
            (false, "off", Survives::CallerCrash),
        ] {
            assert_eq!(survives(fsync, commit, delay), promised, "{fsync} {commit}");
        }
    }

    #[test]
    fn the_fence_outlasts_a_fail_over_only_where_commits_wait_for_a_standby() {
        assert_eq!(fenced(true, "on"), Fenced::Database);
        assert_eq!(fenced(true, "remote_apply"), Fenced::Database);
        for (standbys, commit) in [(false, "on"), (true, "local"), (true, "remote_write")] {
            assert_eq!(fenced(standbys, commit), Fenced::Primary, "{standbys} {commit}");
        }
    }
}
