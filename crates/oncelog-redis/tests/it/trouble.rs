//! Servers that are away, say no, are full or hold something else: a typed error each.

use std::time::Duration;

use oncelog::backend::{Backend, Begin};
use oncelog::{BeginOptions, Check, CheckOptions, Error, Policy, Status};
use oncelog_redis::{Pooled, RedisBackend};
use tokio::time::sleep;

use crate::protocol::started;
use crate::servers::{PATIENCE, Server, free_port};

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn settings_that_cannot_work_are_refused_before_anything_is_asked() {
    let nowhere = || RedisBackend::builder("n");
    for url in ["", "redis", "http://127.0.0.1/", "redis://127.0.0.1:notaport/", "redis://h/db"] {
        let refused = nowhere().open(url).await;
        assert!(matches!(refused, Err(Error::InvalidConfig { .. })), "{url}: {refused:?}");
    }
    let policy = Policy { max_keys: Some(1), ..Policy::default() };
    for (builder, what) in [
        (nowhere().policy(policy), "max_keys"),
        (nowhere().prefix("a:b"), "prefix"),
        (nowhere().answer_timeout(Duration::ZERO), "answer_timeout"),
        (nowhere().replicas(0, SHORT), "replicas"),
        (nowhere().clock_skew(Duration::MAX), "clock_skew"),
        (nowhere().outcome_bytes_max(usize::MAX), "outcome_bytes_max"),
    ] {
        let Some(server) = Server::start(&[]).await else { return };
        let refused = builder.connect(server.connection().await).await;
        let Err(Error::InvalidConfig { reason }) = refused else { panic!("{what}: {refused:?}") };
        assert!(reason.contains(what), "{reason}");
        let left: Vec<String> = server.run(&["KEYS", "*"]).await;
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_unreachable_and_found_again_when_it_is_back() {
    let nobody = format!("redis://127.0.0.1:{}/", free_port());
    let refused = RedisBackend::builder("n").open(&nobody).await;
    assert!(matches!(refused, Err(Error::Unreachable { .. })), "{refused:?}");

    let Some(mut server) = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]).await
    else {
        return;
    };
    let backend = RedisBackend::builder("n").answer_timeout(PATIENCE);
    let backend = backend.open(&server.url()).await.unwrap();
    assert!(backend.check_and_set(b"k", b"o", CheckOptions::new()).await.unwrap().is_new());
    server.kill();
    // The connection is found to be broken with the first call, or was before.
    let _ = backend.peek(b"k").await;
    for _ in 0..3 {
        let refused = backend.begin(b"l", BeginOptions::new()).await;
        assert!(matches!(refused, Err(Error::Unreachable { .. })), "{refused:?}");
        assert!(refused.unwrap_err().is_retryable());
    }
    let items: Vec<(&[u8], &[u8])> = vec![(b"m", b"o")];
    let refused = backend.check_and_set_many(&items, CheckOptions::new()).await;
    assert!(matches!(refused, Err(Error::Unreachable { .. })), "{refused:?}");
    server.restart().await;
    let mut found = backend.check_and_set(b"k", b"", CheckOptions::new()).await;
    for _ in 0..100 {
        if !matches!(found, Err(Error::Unreachable { .. })) {
            break;
        }
        sleep(Duration::from_millis(50)).await;
        found = backend.check_and_set(b"k", b"", CheckOptions::new()).await;
    }
    assert!(found.unwrap().is_duplicate(), "what was answered is there after kill -9");
}

#[tokio::test]
async fn a_call_that_is_not_answered_in_time_is_indeterminate_and_may_have_happened() {
    let Some(server) = Server::start(&[]).await else { return };
    let builder = RedisBackend::builder("n").answer_timeout(SHORT);
    let backend = builder.connect(server.connection().await).await.unwrap();
    // The server knows the scripts by now: what is sent is done.
    started(&backend, b"before").await;
    assert!(backend.check_and_set(b"seen", b"o", CheckOptions::new()).await.unwrap().is_new());
    server.signal("-STOP");
    let late = backend.begin(b"k", BeginOptions::new()).await;
    let Err(error) = late else { panic!("answered by a stopped server: {late:?}") };
    assert!(error.is_indeterminate(), "{error}");
    assert!(error.to_string().contains("300ms"), "{error}");
    let items: Vec<(&[u8], &[u8])> = vec![(b"m", b"o")];
    let late = backend.check_and_set_many(&items, CheckOptions::new()).await;
    assert!(late.unwrap_err().is_indeterminate());
    server.signal("-CONT");
    // It had been sent, and is done when the server goes on.
    let backend = server.backend("n").await;
    let meta = backend.peek(b"k").await.unwrap().unwrap();
    assert_eq!(meta.status, Status::InProgress);
    assert!(backend.check_and_set(b"m", b"", CheckOptions::new()).await.unwrap().is_duplicate());
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_of_a_verb_leaves_it_open() {
    let Some(mut server) = Server::start(&[]).await else { return };
    let backend = server.backend("n").await;
    started(&backend, b"before").await;
    server.signal("-STOP");
    let asked = tokio::spawn(async move { backend.begin(b"k", BeginOptions::new()).await });
    sleep(SHORT).await;
    server.kill();
    let broken = asked.await.unwrap();
    assert!(broken.as_ref().unwrap_err().is_indeterminate(), "{broken:?}");
}

#[tokio::test]
async fn whoever_may_not_come_in_is_denied() {
    let Some(server) = Server::start(&["--requirepass", "secret"]).await else { return };
    let name = |user: &str| format!("redis://{user}127.0.0.1:{}/", server.port);
    for user in ["", ":wrong@", "nobody:secret@"] {
        let denied = RedisBackend::builder("n").open(&name(user)).await;
        assert!(matches!(denied, Err(Error::Denied { .. })), "{user}: {denied:?}");
    }
    let backend = RedisBackend::builder("n").answer_timeout(PATIENCE);
    let backend = backend.open(&name(":secret@")).await.unwrap();
    started(&backend, b"k").await;
}

#[tokio::test]
async fn a_user_with_few_rights_can_use_it_and_one_with_fewer_is_denied() {
    let Some(server) = Server::start(&[]).await else { return };
    let grant = |user: &'static str, rights: &'static [&'static str]| {
        let words: Vec<&str> = ["ACL", "SETUSER", user, "on", ">pw"]
            .into_iter()
            .chain(rights.iter().copied())
            .collect();
        words
    };
    server
        .run::<()>(&grant(
            "some",
            &[
                "~oncelog:*",
                "resetchannels",
                "+evalsha",
                "+eval",
                "+get",
                "+set",
                "+getrange",
                "+setrange",
                "+strlen",
                "+time",
                "+publish",
                "+ping",
                "+client",
            ],
        ))
        .await;
    server.run::<()>(&grant("none", &["~oncelog:*", "+info", "+ping", "+client"])).await;
    let url = |user: &str| format!("redis://{user}:pw@127.0.0.1:{}/", server.port);
    let denied = RedisBackend::builder("n").open(&url("none")).await;
    assert!(matches!(denied, Err(Error::Denied { .. })), "{denied:?}");
    // Without INFO nobody can say that the server keeps what it is given.
    let unsure = RedisBackend::builder("n").open(&url("some")).await;
    assert!(matches!(unsure, Err(Error::Unprepared { .. })), "{unsure:?}");
    let builder = RedisBackend::builder("n").answer_timeout(PATIENCE).may_forget(true);
    let backend = builder.open(&url("some")).await.unwrap();
    let grant = started(&backend, b"k").await;
    let other = backend.clone();
    let waits = tokio::spawn(async move { other.wait(b"k", PATIENCE).await });
    sleep(Duration::from_millis(50)).await;
    // The channel is denied, and so nobody is woken; who waits looks by itself.
    backend.complete(b"k", grant.version, b"o").await.unwrap();
    assert_eq!(waits.await.unwrap().unwrap().unwrap().status, Status::Completed);
    let outside = RedisBackend::builder("n").prefix("other").may_forget(true);
    let denied = outside.open(&url("some")).await;
    assert!(matches!(denied, Err(Error::Denied { .. })), "{denied:?}");
}

#[tokio::test]
async fn a_server_that_runs_no_scripts_is_not_prepared() {
    let arguments = ["--rename-command", "EVAL", "", "--rename-command", "EVALSHA", ""];
    let Some(server) = Server::start(&arguments).await else { return };
    let refused = RedisBackend::builder("n").open(&server.url()).await;
    let Err(Error::Unprepared { reason, .. }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("EVALSHA"), "{reason}");
}

#[tokio::test]
async fn a_server_that_may_throw_keys_away_is_refused_unless_that_is_allowed() {
    let arguments = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let Some(server) = Server::start(&arguments).await else { return };
    let refused = RedisBackend::builder("n").open(&server.url()).await;
    let Err(Error::Unprepared { reason, .. }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("allkeys-lru") && reason.contains("may_forget"), "{reason}");
    let backend = RedisBackend::builder("n").may_forget(true).open(&server.url()).await.unwrap();
    started(&backend, b"k").await;
}

#[tokio::test]
async fn a_full_server_refuses_new_keys_and_does_all_else() {
    let Some(server) = Server::start(&[]).await else { return };
    let backend = server.backend("n").await;
    let options = CheckOptions::new();
    assert!(backend.check_and_set(b"done", b"o", options).await.unwrap().is_new());
    let mut grants = Vec::new();
    for key in [&b"a"[..], b"b", b"c"] {
        grants.push(started(&backend, key).await);
    }
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let full = backend.begin(b"new", BeginOptions::new()).await;
    assert!(matches!(full, Err(Error::Full { .. })), "{full:?}");
    let full = backend.check_and_set(b"new", b"o", options).await;
    assert!(matches!(full, Err(Error::Full { .. })), "{full:?}");
    assert!(full.unwrap_err().is_retryable());
    assert!(backend.check_and_set(b"done", b"", options).await.unwrap().is_duplicate());
    assert!(matches!(backend.begin(b"done", BeginOptions::new()).await, Ok(Begin::Completed(_))));
    assert!(backend.get(b"done").await.unwrap().is_some());
    backend.renew(b"a", grants[0].version, PATIENCE).await.unwrap();
    backend.complete(b"a", grants[0].version, &[7; 1_000]).await.unwrap();
    backend.fail(b"b", grants[1].version, b"no").await.unwrap();
    backend.release(b"c", grants[2].version, None).await.unwrap();
    assert!(backend.remove(b"done", None).await.unwrap());
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert!(matches!(backend.check_and_set(b"new", b"o", options).await, Ok(Check::New)));
}

#[tokio::test]
async fn a_replica_takes_no_writes_and_that_is_said() {
    let Some(server) = Server::start(&[]).await else { return };
    let backend = server.backend("n").await;
    assert!(backend.check_and_set(b"k", b"o", CheckOptions::new()).await.unwrap().is_new());
    server.run::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let refused = backend.begin(b"l", BeginOptions::new()).await;
    assert!(matches!(refused, Err(Error::Unreachable { .. })), "{refused:?}");
    let refused = backend.check_and_set(b"l", b"o", CheckOptions::new()).await;
    assert!(matches!(refused, Err(Error::Unreachable { .. })), "{refused:?}");
}

#[tokio::test]
async fn what_others_have_written_is_never_taken_for_a_key_that_is_absent() {
    let Some(server) = Server::start(&[]).await else { return };
    let backend = server.backend("n").await;
    server.run::<()>(&["RPUSH", "oncelog:1:n:list", "x"]).await;
    server
        .run::<()>(&["SET", "oncelog:1:n:string", "a string of another program's, long enough"])
        .await;
    server.run::<()>(&["SET", "oncelog:1:n:empty", ""]).await;
    let mut connection = server.connection().await;
    let mut record = vec![0xC1_u8, 0x23, 0];
    record.resize(80, 1);
    oncelog_redis::redis::cmd("SET")
        .arg("oncelog:1:n:newer")
        .arg(record)
        .exec_async(&mut connection)
        .await
        .unwrap();
    for key in [&b"list"[..], b"string", b"empty", b"newer"] {
        let name = String::from_utf8_lossy(key).into_owned();
        let unprepared = |error: Error| {
            assert!(matches!(error, Error::Unprepared { .. }), "{name}: {error}");
        };
        unprepared(backend.begin(key, BeginOptions::new()).await.unwrap_err());
        unprepared(backend.check_and_set(key, b"o", CheckOptions::new()).await.unwrap_err());
        unprepared(backend.get(key).await.unwrap_err());
        unprepared(backend.remove(key, None).await.unwrap_err());
        unprepared(backend.complete(key, oncelog::Version::from_u64(1), b"").await.unwrap_err());
        if key != b"empty" {
            unprepared(backend.peek(key).await.unwrap_err());
        }
    }
    let kept: String = server.run(&["GET", "oncelog:1:n:string"]).await;
    assert_eq!(kept, "a string of another program's, long enough");
}

#[tokio::test]
async fn scripts_that_the_server_has_forgotten_are_sent_again() {
    let Some(server) = Server::start(&[]).await else { return };
    let backend = server.backend("n").await;
    for round in 0_u32..3 {
        let key = round.to_le_bytes();
        server.run::<()>(&["SCRIPT", "FLUSH"]).await;
        let grant = started(&backend, &key).await;
        server.run::<()>(&["SCRIPT", "FLUSH"]).await;
        backend.complete(&key, grant.version, b"o").await.unwrap();
        server.run::<()>(&["SCRIPT", "FLUSH"]).await;
        let keys: Vec<Vec<u8>> =
            (0..500_u32).map(|i| [round, i].map(u32::to_le_bytes).concat()).collect();
        let items: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&key[..], &b"o"[..])).collect();
        let answers = backend.check_and_set_many(&items, CheckOptions::new()).await.unwrap();
        assert!(answers.iter().all(|answer| matches!(answer, Ok(Check::New))));
    }
}

#[tokio::test]
async fn a_pool_that_has_nothing_to_give_is_said_to_be_out_of_reach() {
    let nobody = format!("redis://127.0.0.1:{}/", free_port());
    let pool = deadpool_redis::Config::from_url(nobody);
    let pool = pool.create_pool(Some(deadpool_redis::Runtime::Tokio1)).unwrap();
    let pooled = Pooled::new(move || {
        let pool = pool.clone();
        async move { pool.get().await }
    });
    let refused = RedisBackend::builder("n").connect(pooled).await;
    assert!(matches!(refused, Err(Error::Unreachable { .. })), "{refused:?}");
}
