//! What a server says of itself: its version, whether it is one of a cluster, what it keeps.

use std::time::Duration;

use oncelog::Result;
use oncelog::backend::Survives;
use redis::{RedisError, Value};

use crate::call::Caller;
use crate::connect::Connect;
use crate::trouble::{self, Reach};

/// The first version with what the scripts need: SET with NX and GET, and flags of scripts.
const VERSION_MIN: (u64, u64) = (7, 0);
/// What is lost at most where the log is synced every second: a sync may be late by another one.
const EVERY_SECOND: Duration = Duration::from_secs(2);

/// What a server, or the least of several, says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// The client sends each call to the node that has its key, or may do so.
    pub(crate) clustered: bool,
    pub(crate) survives: Survives,
    /// Why keys may be thrown away that are not at their end, if they may.
    pub(crate) forgets: Option<String>,
}

impl Server {
    /// Asks; what may not be asked counts as the worst.
    pub(crate) async fn look<S: Connect>(caller: &Caller<S>) -> Result<Self> {
        let info = match caller.plain(&redis::cmd("INFO")).await? {
            Ok(value) => Some(value),
            Err(error) if is_withheld(&error) => None,
            Err(error) => return Err(trouble::of(&error, Reach::Before)),
        };
        // A client for clusters asks all nodes. Where it is not known, what is careful for one is
        // right for the other too.
        let clustered =
            info.as_ref().is_none_or(|info| matches!(info, Value::Map(_) | Value::Array(_)));
        let info = info.map(texts).unwrap_or_default();
        check_version(&info)?;
        if !clustered && info.iter().any(|text| field(text, "redis_mode") == Some("cluster")) {
            return Err(trouble::unprepared(
                "it is a node of a cluster; connect with a client for clusters",
            ));
        }
        let mut config = redis::cmd("CONFIG");
        config.arg("GET").arg("appendfsync").arg("no-appendfsync-on-rewrite");
        let config = caller.plain(&config).await?.map(texts).unwrap_or_default();
        Ok(Self { clustered, survives: survives(&info, &config), forgets: forgets(&info) })
    }
}

/// True if this user, or any, may not ask.
fn is_withheld(error: &RedisError) -> bool {
    let unknown = error.detail().is_some_and(|detail| detail.contains("unknown command"));
    unknown || error.code() == Some("NOPERM")
}

/// All texts in a value: one for a server, one for each node of a cluster, or names and settings.
fn texts(value: Value) -> Vec<String> {
    match value {
        Value::BulkString(bytes) => vec![String::from_utf8_lossy(&bytes).into_owned()],
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => vec![text],
        Value::Array(values) | Value::Set(values) => values.into_iter().flat_map(texts).collect(),
        Value::Map(pairs) => pairs
            .into_iter()
            .flat_map(|(name, value)| [texts(name), texts(value)].concat())
            .collect(),
        _ => Vec::new(),
    }
}

/// The value of a line `name:value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn check_version(info: &[String]) -> Result<()> {
    for version in info.iter().filter_map(|text| field(text, "redis_version")) {
        let mut parts = version.split('.').map_while(|part| part.parse::<u64>().ok());
        let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        if found < VERSION_MIN {
            return Err(trouble::unprepared(format!(
                "it is version {version}, and {}.{} is the first one that has what is needed",
                VERSION_MIN.0, VERSION_MIN.1
            )));
        }
    }
    Ok(())
}

/// Why a server may throw keys away; `None` if all of them say that they do not.
fn forgets(info: &[String]) -> Option<String> {
    let mut policies = info
        .iter()
        .filter_map(|text| Some((field(text, "maxmemory_policy")?, field(text, "maxmemory")?)));
    let mut any = false;
    let throwing = policies.find(|(policy, limit)| {
        any = true;
        *policy != "noeviction" && *limit != "0"
    });
    match throwing {
        Some((policy, limit)) => {
            Some(format!("its maxmemory is {limit} bytes and its maxmemory-policy {policy}"))
        }
        None if any => None,
        None => Some("it does not say what its maxmemory-policy is".to_owned()),
    }
}

fn survives(info: &[String], config: &[String]) -> Survives {
    let logs: Vec<_> = info.iter().filter_map(|text| field(text, "aof_enabled")).collect();
    if logs.is_empty() || logs.iter().any(|enabled| *enabled != "1") {
        return Survives::CallerCrash;
    }
    let setting = |name: &str| {
        let at = config.iter().position(|text| text == name)?;
        config.get(at + 1).map(String::as_str)
    };
    // Such a log is not synced at all while it is being rewritten.
    let pauses = setting("no-appendfsync-on-rewrite") != Some("no");
    match setting("appendfsync") {
        Some("always") if !pauses => Survives::PowerLoss,
        Some("everysec") if !pauses => Survives::PowerLossAfter(EVERY_SECOND),
        // Written before the answer, always; every second, it may be written late.
        Some("always" | "no") => Survives::ProcessCrash,
        _ => Survives::CallerCrash,
    }
}

#[cfg(test)]
mod tests {
    use super::{check_version, forgets, survives};
    use oncelog::backend::Survives;
    use std::time::Duration;

    fn info(lines: &str) -> Vec<String> {
        vec![lines.replace(' ', "\r\n")]
    }

    fn config(fsync: &str, pauses: &str) -> Vec<String> {
        ["appendfsync", fsync, "no-appendfsync-on-rewrite", pauses].map(str::to_owned).to_vec()
    }

    #[test]
    fn an_old_server_is_refused_and_one_that_does_not_say_is_not() {
        assert!(check_version(&info("redis_version:6.2.14")).is_err());
        assert!(check_version(&info("redis_version:7.0.15")).is_ok());
        assert!(check_version(&info("redis_version:7.2.4 server_name:valkey")).is_ok());
        assert!(check_version(&info("redis_version:10.0.0")).is_ok());
        assert!(check_version(&[]).is_ok());
    }

    #[test]
    fn a_server_that_may_throw_keys_away_says_so() {
        assert!(forgets(&info("maxmemory:0 maxmemory_policy:allkeys-lru")).is_none());
        assert!(forgets(&info("maxmemory:9 maxmemory_policy:noeviction")).is_none());
        let found = forgets(&info("maxmemory:9 maxmemory_policy:volatile-ttl")).unwrap();
        assert!(found.contains("volatile-ttl"), "{found}");
        // One node of several is enough, and so is one that nothing is known of.
        let mut nodes = info("maxmemory:9 maxmemory_policy:noeviction");
        nodes.extend(info("maxmemory:9 maxmemory_policy:allkeys-lfu"));
        assert!(forgets(&nodes).is_some());
        assert!(forgets(&[]).is_some());
    }

    #[test]
    fn what_a_call_survives_is_what_the_log_is_set_to() {
        let log = info("aof_enabled:1");
        assert_eq!(survives(&log, &config("always", "no")), Survives::PowerLoss);
        let late = Survives::PowerLossAfter(Duration::from_secs(2));
        assert_eq!(survives(&log, &config("everysec", "no")), late);
        assert_eq!(survives(&log, &config("no", "no")), Survives::ProcessCrash);
        assert_eq!(survives(&log, &config("always", "yes")), Survives::ProcessCrash);
        assert_eq!(survives(&log, &config("everysec", "yes")), Survives::CallerCrash);
        assert_eq!(survives(&log, &[]), Survives::CallerCrash);
        assert_eq!(
            survives(&info("aof_enabled:0"), &config("always", "no")),
            Survives::CallerCrash
        );
        assert_eq!(survives(&[], &[]), Survives::CallerCrash);
    }
}
