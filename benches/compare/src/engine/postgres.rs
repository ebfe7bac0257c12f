//! PostgreSQL, the SQL server.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use postgres::{Client, Config, NoTls, Statement};

use super::server::{Server, version_of};
use super::{CACHE_BYTES, Engine, Item, Session, Setup};
use crate::Result;
use crate::bytes::Bytes;
use crate::machine::Memory;
use crate::tally::Tally;

const INSERT: &str = "INSERT INTO seen (key, outcome) VALUES ($1, $2) ON CONFLICT DO NOTHING";
const INSERT_MANY: &str = "INSERT INTO seen (key, outcome) \
     SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT DO NOTHING RETURNING key";
const OUTCOME: &str = "SELECT outcome FROM seen WHERE key = $1";
const OUTCOMES: &str = "SELECT key, outcome FROM seen WHERE key = ANY($1)";
const COUNT: &str = "SELECT count(*) FROM unnest($1::bytea[]) AS asked JOIN seen ON key = asked";
/// Users that a run as root falls back to, for the server refuses to run as root.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// A server started for the run on a free port of the loopback, with 1 GiB of shared buffers, 4 GiB
/// of write-ahead log between checkpoints, and default settings otherwise.
///
/// Durability `process`: `fsync = off`, so a commit has been handed to the operating system and
/// survives the server being killed, but not a loss of power. `synced`: default settings, each
/// commit syncs the log. Check-and-set is `INSERT .. ON CONFLICT DO NOTHING`, and a `SELECT` of the
/// outcome where that inserted nothing. A batch is one such statement over arrays, sorted by key so
/// that two batches cannot wait for each other, and one `SELECT` of what was there. Statements are
/// prepared once; each session has a connection of its own. Nothing ever expires. Memory is that of
/// the server's processes, and on disk that of its whole folder.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
}

/// A connection and its statements.
pub struct PostgresSession {
    client: Client,
    insert: Statement,
    insert_many: Statement,
    outcome: Statement,
    outcomes: Statement,
    count: Statement,
}

/// Where the programs are, and what the server says of its version, once.
fn installed() -> &'static std::result::Result<(PathBuf, String), String> {
    static INSTALLED: OnceLock<std::result::Result<(PathBuf, String), String>> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let mut folders: Vec<PathBuf> = std::env::var_os("PATH")
            .map(|path| std::env::split_paths(&path).collect())
            .unwrap_or_default();
        // Debian keeps them out of the way, by version.
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
        let mut versions: Vec<PathBuf> = versions.flatten().map(|v| v.path().join("bin")).collect();
        versions.sort();
        folders.extend(versions.into_iter().rev());
        let has_both = |folder: &&PathBuf| {
            ["postgres", "initdb"]
                .iter()
                .all(|name| folder.join(name).is_file())
        };
        let folder = folders.iter().find(has_both);
        let folder = folder.ok_or("the programs postgres and initdb were not found")?;
        let said = version_of(&folder.join("postgres"))?;
        let number = said
            .split(' ')
            .find(|word| word.starts_with(char::is_numeric));
        Ok((folder.clone(), number.unwrap_or("unknown").to_owned()))
    })
}

/// Why it cannot be measured here.
pub fn missing() -> Option<String> {
    match installed() {
        Err(error) => Some(error.clone()),
        Ok(_) if is_root() && user().is_none() => {
            let users = USERS.join(" or ");
            Some(format!(
                "it does not run as root, and there is no user {users}"
            ))
        }
        Ok(_) => None,
    }
}

/// The server's version.
pub fn version() -> String {
    let installed = installed().as_ref();
    installed.map_or("unknown".to_owned(), |(_, version)| version.clone())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Numbers of a user and its group that the server can run as.
fn user() -> Option<(u32, u32)> {
    let text = fs::read_to_string("/etc/passwd").ok()?;
    USERS.iter().find_map(|name| {
        let line = text
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

/// A program of PostgreSQL, as a user that it agrees to run as.
fn program(name: &str) -> Result<Command> {
    let (folder, _) = installed().as_ref().map_err(String::as_str)?;
    let mut command = Command::new(folder.join(name));
    if let Some((uid, gid)) = user().filter(|_| is_root()) {
        command.uid(uid).gid(gid);
    }
    Ok(command)
}

fn connect(port: u16) -> Result<Client> {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(port)
        .user("compare")
        .dbname("postgres");
    Ok(config.connect(NoTls)?)
}

/// Makes the server's folder.
fn create(data: &Path) -> Result<()> {
    fs::create_dir(data)?;
    if let Some((uid, gid)) = user().filter(|_| is_root()) {
        chown(data, Some(uid), Some(gid))?;
        if let Some(above) = data.parent() {
            chown(above, Some(uid), Some(gid))?;
        }
    }
    let output = program("initdb")?
        .args(["--username=compare", "--auth=trust", "--no-sync"])
        .args(["--encoding=UTF8", "--locale=C", "--pgdata"])
        .arg(data)
        .current_dir("/")
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr)
            .trim()
            .replace('\n', " | ");
        return Err(format!("initdb ended with {}: {said}", output.status).into());
    }
    Ok(())
}

impl<K: Bytes, V: Bytes> Engine<K, V> for Postgres {
    type Session<'a> = PostgresSession;

    fn open(setup: &Setup<'_>) -> Result<Self> {
        let data = setup.dir.join("data");
        create(&data)?;
        let buffers = format!("shared_buffers={}MB", CACHE_BYTES >> 20);
        let connections = format!("max_connections={}", setup.threads + 8);
        let fsync = format!("fsync={}", if setup.synced { "on" } else { "off" });
        let settings = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_wal_size=4GB",
            &buffers,
            &connections,
            &fsync,
        ];
        let mut command = program("postgres")?;
        command.arg("-D").arg(&data).current_dir("/");
        for setting in settings {
            command.args(["-c", setting]);
        }
        let at = |port: u16| {
            command.args(["-p", &port.to_string()]);
            command
        };
        let (server, mut client) = Server::start(setup.dir, at, connect)?;
        client.batch_execute(
            "CREATE TABLE IF NOT EXISTS seen (key bytea PRIMARY KEY, outcome bytea NOT NULL)",
        )?;
        Ok(Postgres { server })
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        let mut client = connect(self.server.port)?;
        Ok(PostgresSession {
            insert: client.prepare(INSERT)?,
            insert_many: client.prepare(INSERT_MANY)?,
            outcome: client.prepare(OUTCOME)?,
            outcomes: client.prepare(OUTCOMES)?,
            count: client.prepare(COUNT)?,
            client,
        })
    }

    fn server_memory(&self) -> Result<Option<Memory>> {
        self.server.memory().map(Some)
    }
}

impl PostgresSession {
    /// Inserts what is not there, of pairs sorted by key; the keys that were inserted.
    fn insert_many(&mut self, keys: &[&[u8]], outcomes: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
        let rows = self.client.query(&self.insert_many, &[&keys, &outcomes])?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The outcomes of keys that are there.
    fn outcomes(&mut self, keys: &[&[u8]]) -> Result<HashMap<Vec<u8>, Vec<u8>>> {
        let rows = self.client.query(&self.outcomes, &[&keys])?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

impl<K: Bytes, V: Bytes> Session<K, V> for PostgresSession {
    fn set(&mut self, (key, outcome): &Item<K, V>, tally: &mut Tally<V>) -> Result<()> {
        let (key, outcome) = (key.as_ref(), outcome.as_ref());
        if self.client.execute(&self.insert, &[&key, &outcome])? == 1 {
            tally.answer(0, None);
            return Ok(());
        }
        let row = self.client.query_one(&self.outcome, &[&key])?;
        tally.answer(0, Some(row.get(0)));
        Ok(())
    }

    fn set_many(&mut self, items: &[Item<K, V>], tally: &mut Tally<V>) -> Result<()> {
        let mut order: Vec<&Item<K, V>> = items.iter().collect();
        // Stable, so that of a key that comes twice the first outcome is inserted.
        order.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        let keys: Vec<&[u8]> = order.iter().map(|item| item.0.as_ref()).collect();
        let outcomes: Vec<&[u8]> = order.iter().map(|item| item.1.as_ref()).collect();
        let inserted = self.insert_many(&keys, &outcomes)?;
        if inserted.len() == items.len() {
            (0..items.len()).for_each(|at| tally.answer(at, None));
            return Ok(());
        }
        // Each key inserted is new for its first item, and a duplicate for those after it.
        let mut inserted: HashMap<Vec<u8>, bool> =
            inserted.into_iter().map(|key| (key, false)).collect();
        let known = self.outcomes(&keys)?;
        for (at, (key, _)) in items.iter().enumerate() {
            match inserted.get_mut(key.as_ref()) {
                Some(is_told @ false) => {
                    *is_told = true;
                    tally.answer(at, None);
                }
                _ => {
                    let outcome = known.get(key.as_ref());
                    let outcome = outcome.ok_or("a key is neither inserted nor there")?;
                    tally.answer(at, Some(outcome));
                }
            }
        }
        Ok(())
    }

    fn has(&mut self, key: &K) -> Result<bool> {
        Session::<K, V>::has_many(self, std::slice::from_ref(key)).map(|known| known == 1)
    }

    fn has_many(&mut self, keys: &[K]) -> Result<usize> {
        let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_ref()).collect();
        let row = self.client.query_one(&self.count, &[&keys])?;
        Ok(row.get::<_, i64>(0) as usize)
    }
}
