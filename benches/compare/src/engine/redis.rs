//! Redis, a server in memory, with and without its append-only file.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use redis::{Connection, ErrorKind, Value};

use super::server::{Server, version_of};
use super::{Engine, Item, Session, Setup};
use crate::Result;
use crate::bytes::Bytes;
use crate::machine::Memory;
use crate::tally::Tally;

const PROGRAM: &str = "redis-server";
/// The first version in which `NX` and `GET` go together.
const MAJOR_MIN: u32 = 7;
/// A day, which is the lifetime of oncelog's records by default.
const LIFETIME_MS: &str = "86400000";

/// A server started for the run on a free port of the loopback, with default settings but for its
/// persistence; no snapshots are taken.
///
/// Durability: `redis` keeps nothing, class `memory`, whatever is asked for. `redis-aof` writes
/// each command to its append-only file before it answers; asked `process`, `appendfsync
/// everysec`, which survives the server being killed; `synced`, `appendfsync always`, the file is
/// synced before the answer. Check-and-set is `SET key outcome NX GET PX`, one atomic command that
/// answers with what was there. A batch is a pipeline of as many commands, sent at once, of which
/// Redis may serve others in between; a look-up of many is one `EXISTS`. Each session has a
/// connection of its own. Memory is the server's.
#[derive(Debug)]
pub struct Redis<const AOF: bool> {
    server: Server,
}

/// A connection.
pub struct RedisSession(Connection);

/// What the program says of its version, once.
fn installed() -> &'static std::result::Result<String, String> {
    static INSTALLED: OnceLock<std::result::Result<String, String>> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let said = version_of(Path::new(PROGRAM))?;
        let word = said.split(' ').find_map(|word| word.strip_prefix("v="));
        Ok(word.unwrap_or("unknown").to_owned())
    })
}

/// Why it cannot be measured here.
pub fn missing() -> Option<String> {
    match installed() {
        Err(error) => Some(error.clone()),
        Ok(version) => {
            let major = version.split('.').next().and_then(|word| word.parse().ok());
            major.filter(|major: &u32| *major < MAJOR_MIN).map(|_| {
                format!("{PROGRAM} {version} has no SET with both NX and GET; it takes {MAJOR_MIN}")
            })
        }
    }
}

/// The server's version.
pub fn version() -> String {
    installed().clone().unwrap_or("unknown".to_owned())
}

fn connect(port: u16) -> Result<Connection> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/"))?;
    let mut connection = client.get_connection()?;
    redis::cmd("PING").exec(&mut connection)?;
    Ok(connection)
}

impl<K: Bytes, V: Bytes, const AOF: bool> Engine<K, V> for Redis<AOF> {
    type Session<'a> = RedisSession;

    fn open(setup: &Setup<'_>) -> Result<Self> {
        let dir = setup.dir.to_owned();
        let fsync = if setup.synced { "always" } else { "everysec" };
        let command = |port: u16| {
            let mut command = Command::new(PROGRAM);
            command
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
                .args(["--save", "", "--appendfsync", fsync])
                .args(["--appendonly", if AOF { "yes" } else { "no" }])
                .arg("--dir")
                .arg(&dir);
            command
        };
        let (server, _) = Server::start(setup.dir, command, connect)?;
        Ok(Redis { server })
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(RedisSession(connect(self.server.port)?))
    }

    fn server_memory(&self) -> Result<Option<Memory>> {
        self.server.memory().map(Some)
    }
}

fn set_command<K: Bytes, V: Bytes>((key, outcome): &Item<K, V>) -> redis::Cmd {
    let mut command = redis::cmd("SET");
    command
        .arg(key.as_ref())
        .arg(outcome.as_ref())
        .arg("NX")
        .arg("GET")
        .arg("PX")
        .arg(LIFETIME_MS);
    command
}

/// Nothing was there, or these bytes were.
fn answer<V: Bytes>(at: usize, value: &Value, tally: &mut Tally<V>) -> Result<()> {
    match value {
        Value::Nil => tally.answer(at, None),
        Value::BulkString(outcome) => tally.answer(at, Some(outcome)),
        other => return Err(format!("SET was answered with {other:?}").into()),
    }
    Ok(())
}

impl<K: Bytes, V: Bytes> Session<K, V> for RedisSession {
    fn set(&mut self, item: &Item<K, V>, tally: &mut Tally<V>) -> Result<()> {
        let value = set_command(item).query::<Value>(&mut self.0)?;
        answer(0, &value, tally)
    }

    fn set_many(&mut self, items: &[Item<K, V>], tally: &mut Tally<V>) -> Result<()> {
        let mut pipe = redis::Pipeline::with_capacity(items.len());
        for item in items {
            pipe.add_command(set_command(item));
        }
        let values: Vec<Value> = pipe.query(&mut self.0)?;
        if values.len() != items.len() {
            let text = "a pipeline was not answered in full";
            return Err(redis::RedisError::from((ErrorKind::Client, text)).into());
        }
        let mut answers = values.iter().enumerate();
        answers.try_for_each(|(at, value)| answer(at, value, tally))
    }

    fn has(&mut self, key: &K) -> Result<bool> {
        Session::<K, V>::has_many(self, std::slice::from_ref(key)).map(|known| known == 1)
    }

    fn has_many(&mut self, keys: &[K]) -> Result<usize> {
        let mut command = redis::cmd("EXISTS");
        for key in keys {
            command.arg(key.as_ref());
        }
        Ok(command.query(&mut self.0)?)
    }
}
