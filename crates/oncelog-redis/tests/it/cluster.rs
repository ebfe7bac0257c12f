//! What is particular to a cluster: keys on every node, batches across them, nodes that fail over.

use std::time::Duration;

use oncelog::backend::{Backend, Begin, Survives};
use oncelog::{BeginOptions, Check, CheckOptions, Error, Status};
use oncelog_redis::{RedisBackend, redis};
use tokio::time::{Instant, sleep};

use crate::protocol::started;
use crate::servers::{Cluster, PATIENCE, Server, command, connection};

async fn size(node: &Server) -> i64 {
    node.run(&["DBSIZE"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_answered_by_every_node_and_repeated_keys_keep_their_order() {
    let Some(cluster) = Cluster::start(0, &[]).await else { return };
    let builder = RedisBackend::builder("c").answer_timeout(PATIENCE);
    let backend = cluster.backend_of(builder).await.unwrap();
    let keys: Vec<String> = (0..600).map(|i| format!("key-{}", i % 400)).collect();
    let outcomes: Vec<[u8; 2]> = (0..600_u16).map(u16::to_le_bytes).collect();
    let items: Vec<(&[u8], &[u8])> =
        keys.iter().zip(&outcomes).map(|(key, outcome)| (key.as_bytes(), &outcome[..])).collect();
    let answers = backend.check_and_set_many(&items, CheckOptions::new()).await.unwrap();
    for (index, answer) in answers.iter().enumerate() {
        match answer.as_ref().unwrap() {
            Check::New => assert!(index < 400),
            Check::Duplicate(record) => assert_eq!(record.outcome(), outcomes[index - 400]),
        }
    }
    for node in &cluster.nodes {
        assert!(size(node).await > 60, "keys lie on all nodes");
        // What one node has forgotten of scripts, the others know.
        node.run::<()>(&["SCRIPT", "FLUSH"]).await;
    }
    let answers = backend.check_and_set_many(&items, CheckOptions::new()).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Check::Duplicate(_)))));
}

#[tokio::test]
async fn a_connection_to_one_node_of_a_cluster_is_refused_with_advice() {
    let Some(cluster) = Cluster::start(0, &[]).await else { return };
    let plain = connection(&cluster.nodes[0].client()).await;
    let builder = RedisBackend::builder("c").answer_timeout(PATIENCE);
    let refused = builder.connect(plain).await;
    let Err(Error::Unprepared { reason, .. }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("client for clusters"), "{reason}");
}

/// Who may not ask what the server is has the most careful of ways, and it works on both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_does_not_say_what_it_is_can_be_used() {
    let Some(cluster) = Cluster::start(0, &[]).await else { return };
    for node in &cluster.nodes {
        let rights = ["~*", "&*", "+@all", "-info", "-config"];
        let words = [&["ACL", "SETUSER", "some", "on", ">pw"][..], &rights].concat();
        node.run::<()>(&words).await;
    }
    let urls: Vec<String> =
        cluster.urls().iter().map(|url| url.replace("//", "//some:pw@")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let builder = RedisBackend::builder("c").answer_timeout(PATIENCE);
    let refused = builder.clone().open_cluster(&urls).await;
    assert!(matches!(refused, Err(Error::Unprepared { .. })), "{refused:?}");
    let backend = builder.may_forget(true).open_cluster(&urls).await.unwrap();
    assert_eq!(backend.profile().survives, Survives::CallerCrash);
    let keys: Vec<[u8; 4]> = (0..200_u32).map(u32::to_le_bytes).collect();
    let items: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&key[..], &b"o"[..])).collect();
    let answers = backend.check_and_set_many(&items, CheckOptions::new()).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Check::New))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_away_is_unreachable() {
    let Some(mut cluster) = Cluster::start(0, &[]).await else { return };
    let builder = RedisBackend::builder("c").answer_timeout(Duration::from_millis(500));
    let backend = cluster.backend_of(builder.clone()).await.unwrap();
    started(&backend, b"k").await;
    cluster.nodes.iter_mut().for_each(Server::kill);
    // The connection is found to be broken with the first call of each node, or was before.
    for key in 0..20_u8 {
        let failed = backend.begin(&[key], BeginOptions::new()).await.unwrap_err();
        assert!(matches!(failed, Error::Unanswered { .. } | Error::Unreachable { .. }), "{failed}");
    }
    let refused = backend.begin(b"l", BeginOptions::new()).await;
    assert!(matches!(refused, Err(Error::Unreachable { .. })), "{refused:?}");
    let refused = cluster.backend_of(builder).await;
    assert!(matches!(refused, Err(Error::Unreachable { .. })), "{refused:?}");
}

/// A client of the user's own, which sends calls again by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_that_sends_again_was_refused_in_the_end_is_left_open() {
    let Some(mut cluster) = Cluster::start(0, &[]).await else { return };
    let own = redis::cluster::ClusterClient::builder(cluster.urls()).retries(1).build().unwrap();
    let own = own.get_async_connection().await.unwrap();
    let builder = RedisBackend::builder("c").answer_timeout(PATIENCE);
    let backend = builder.connect(own).await.unwrap();
    started(&backend, b"k").await;
    cluster.nodes.iter_mut().for_each(Server::kill);
    for key in 0..20_u8 {
        let open = backend.begin(&[key], BeginOptions::new()).await;
        assert!(open.as_ref().unwrap_err().is_indeterminate(), "{open:?}");
    }
}

/// Which node has this name.
async fn owner(cluster: &Cluster, name: &str) -> usize {
    for (index, node) in cluster.nodes.iter().enumerate() {
        let mut connection = node.connection().await;
        let answer = command(&["GET", name]).query_async::<Option<Vec<u8>>>(&mut connection).await;
        if answer.is_ok() {
            return index;
        }
    }
    panic!("nobody has {name}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_whose_slot_has_moved_is_found_where_it_is() {
    let Some(cluster) = Cluster::start(0, &[]).await else { return };
    let builder = RedisBackend::builder("c").answer_timeout(PATIENCE);
    let backend = cluster.backend_of(builder).await.unwrap();
    for key in ["a", "b", "c", "d"] {
        let name = format!("oncelog:1:c:{key}");
        let from = owner(&cluster, &name).await;
        let to = &cluster.nodes[(from + 1) % 3];
        let slot: u64 = to.run(&["CLUSTER", "KEYSLOT", &name]).await;
        let id: String = to.run(&["CLUSTER", "MYID"]).await;
        for node in [to, &cluster.nodes[from], &cluster.nodes[(from + 2) % 3]] {
            node.run::<()>(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &id]).await;
        }
        let grant = started(&backend, key.as_bytes()).await;
        backend.complete(key.as_bytes(), grant.version, b"o").await.unwrap();
        assert!(to.run::<i64>(&["EXISTS", &name]).await == 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_may_have_taken_before_it_broke_is_not_sent_to_it_again() {
    let log = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut cluster) = Cluster::start(0, &log).await else { return };
    let builder = RedisBackend::builder("c").answer_timeout(PATIENCE);
    let backend = cluster.backend_of(builder).await.unwrap();
    started(&backend, b"before").await;
    let node = owner(&cluster, "oncelog:1:c:k").await;
    cluster.nodes[node].signal("-STOP");
    let asked = tokio::spawn(async move { backend.begin(b"k", BeginOptions::new()).await });
    sleep(Duration::from_millis(300)).await;
    cluster.nodes[node].kill();
    cluster.nodes[node].restart().await;
    let open = asked.await.unwrap();
    assert!(open.as_ref().is_err_and(Error::is_indeterminate), "{open:?}");
}

/// A primary is killed under way; its replica takes over by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fail_over_forgets_nothing_that_replicas_have_acknowledged() {
    let Some(mut cluster) = Cluster::start(1, &[]).await else { return };
    synchronised(&cluster).await;
    let builder = RedisBackend::builder("c").answer_timeout(Duration::from_secs(2));
    let builder = builder.replicas(1, Duration::from_millis(500));
    let backend = cluster.backend_of(builder).await.unwrap();
    let mut sure: Vec<(Vec<u8>, oncelog::Version)> = Vec::new();
    let (mut open, mut after) = (0, 0);
    let end = Instant::now() + PATIENCE;
    for number in 0_u32.. {
        if number == 150 {
            cluster.nodes[0].kill();
        }
        let key = number.to_le_bytes().to_vec();
        match backend.begin(&key, BeginOptions::new()).await {
            Ok(Begin::Started(grant)) => {
                match backend.complete(&key, grant.version, &key).await {
                    Ok(version) => sure.push((key, version)),
                    Err(error) => {
                        assert!(!matches!(error, Error::LeaseLost), "the lease is gone");
                        open += 1;
                    }
                }
                after += u32::from(number > 150);
            }
            Ok(other) => panic!("a key of this test's alone: {other:?}"),
            Err(error) => {
                assert!(
                    matches!(error, Error::Unanswered { .. } | Error::Unreachable { .. }),
                    "{error}"
                );
                open += 1;
                sleep(Duration::from_millis(20)).await;
            }
        }
        if after > 200 || Instant::now() > end {
            break;
        }
    }
    // Without a replica behind the new primary, nothing is acknowledged: that has to be said.
    assert!(open > 0, "nobody noticed");
    let lone = RedisBackend::builder("c").answer_timeout(PATIENCE);
    cluster.nodes.remove(0);
    let lone = cluster.backend_of(lone).await.unwrap();
    for (key, version) in &sure {
        let record = lone.get(key).await.unwrap().expect("acknowledged, and so known");
        assert_eq!((record.outcome(), record.version()), (&key[..], *version));
    }
    assert!(sure.len() >= 150, "{} sure, {open} open", sure.len());
    let grant = started(&lone, b"afterwards").await;
    lone.complete(b"afterwards", grant.version, b"o").await.unwrap();
    assert_eq!(lone.peek(b"afterwards").await.unwrap().unwrap().status, Status::Completed);
}

/// Waits until each primary has its replica.
async fn synchronised(cluster: &Cluster) {
    let end = Instant::now() + PATIENCE;
    for node in &cluster.nodes {
        loop {
            let info: String = node.run(&["INFO", "replication"]).await;
            let linked = info.contains("role:master") && info.contains("state=online");
            if linked || info.contains("master_link_status:up") {
                break;
            }
            assert!(Instant::now() < end, "{info}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}
