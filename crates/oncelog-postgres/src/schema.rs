//! The schema: its files, bringing a database up to them, and looking whether it is.

use oncelog::Result;
use tokio_postgres::Client;

use crate::trouble::{self, NEWER, unprepared};

/// One file of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its place in the order, from 1; recorded in `oncelog.migrations`.
    pub number: i32,
    /// The name of the file.
    pub name: &'static str,
    /// Its statements. They may be run again.
    pub sql: &'static str,
}

macro_rules! migrations {
    ($($number:literal $name:literal),*) => {
        [$(Migration {
            number: $number,
            name: $name,
            sql: include_str!(concat!("../migrations/", $name)),
        }),*]
    };
}

/// The files of the schema in their order, for migration tools; they are in the folder
/// `migrations` of this crate too. [`Builder::migrate`](crate::Builder::migrate) runs the same.
pub static MIGRATIONS: &[Migration] = &migrations![
    1 "0001_oncelog.sql",
    2 "0002_claims.sql",
    3 "0003_endings.sql",
    4 "0004_batches.sql"
];

/// Of all who migrate one works at a time; the number is "oncelog" in ASCII.
const LOCK: i64 = 0x6f_6e63_656c_6f67;
/// The oldest server whose features suffice.
const SERVER_MIN: i32 = 120_000;

/// The number of the last file.
pub(crate) fn current() -> i32 {
    MIGRATIONS.last().map_or(0, |migration| migration.number)
}

/// Brings the schema up to date; true if there was something to do.
///
/// All of it is sent as one message, which the server takes as one transaction: so it can be sent
/// over a connection that others use too, and an error leaves nothing behind. The files may be run
/// again, so nothing is harmed where another process was faster.
pub(crate) async fn migrate(client: &Client) -> Result<bool> {
    let found = found(client).await?;
    if found == Some(current()) {
        return Ok(false);
    }
    refuse_newer(found)?;
    let missing = MIGRATIONS.iter().filter(|migration| migration.number > found.unwrap_or(0));
    let files: String = missing.map(|migration| migration.sql).collect();
    let guard = format!(
        "SELECT pg_advisory_xact_lock({LOCK});
        DO $$
        BEGIN
            IF to_regclass('oncelog.migrations') IS NULL THEN
                RETURN;
            END IF;
            IF (SELECT max(number) FROM oncelog.migrations) > {} THEN
                RAISE EXCEPTION 'the schema is newer' USING ERRCODE = '{NEWER}';
            END IF;
        END
        $$;",
        current()
    );
    let sent = client.batch_execute(&format!("{guard}\n{files}")).await;
    sent.map_err(|error| trouble::failed(&error, false))?;
    Ok(true)
}

/// Refuses a server whose schema is not the one of this crate.
pub(crate) async fn check(client: &Client) -> Result<()> {
    let found = found(client).await?;
    refuse_newer(found)?;
    match found {
        None => Err(unprepared(
            "there is no schema oncelog in this database; run Builder::migrate, or the files of \
             MIGRATIONS",
        )),
        Some(found) if found < current() => Err(unprepared(format!(
            "the schema oncelog has number {found} and this crate needs {}; run Builder::migrate, \
             or the files of MIGRATIONS after that number",
            current()
        ))),
        Some(_) => Ok(()),
    }
}

fn refuse_newer(found: Option<i32>) -> Result<()> {
    match found {
        Some(found) if found > current() => Err(unprepared(format!(
            "the schema oncelog has number {found} and this crate knows {}; use a later version of \
             oncelog-postgres",
            current()
        ))),
        _ => Ok(()),
    }
}

/// The number of the schema that is there.
async fn found(client: &Client) -> Result<Option<i32>> {
    let failed = |error| trouble::failed(&error, false);
    let row = client
        .query_typed(
            "SELECT current_setting('server_version_num')::integer,
            to_regclass('oncelog.migrations') IS NOT NULL",
            &[],
        )
        .await
        .map_err(failed)?;
    let row = row.first().ok_or_else(|| trouble::strange("the server does not say what it is"))?;
    let server: i32 = row.try_get(0).map_err(failed)?;
    if server < SERVER_MIN {
        let reason = format!("the server has version {server}, and {SERVER_MIN} is the oldest");
        return Err(unprepared(reason));
    }
    if !row.try_get::<_, bool>(1).map_err(failed)? {
        return Ok(None);
    }
    let rows = client
        .query_typed("SELECT max(number) FROM oncelog.migrations", &[])
        .await
        .map_err(failed)?;
    rows.first().map_or(Ok(None), |row| row.try_get(0).map_err(failed))
}
