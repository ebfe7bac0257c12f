//! The suite of the contract over servers of several settings, a cluster, and odd connections.

use std::time::Duration;

use oncelog::backend::AnyBackend;
use oncelog::backend::suite::{Able, CASES, Clients, Harness, Skew, Task, run_all, run_named};
use oncelog::{Policy, Result};
use oncelog_redis::redis::Client;
use oncelog_redis::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use oncelog_redis::{Pooled, RedisBackend};
use tokio::sync::Mutex;

use crate::servers::{Cluster, PATIENCE, Server};
use crate::wires::Twice;

const SYNCED: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// How clients are connected.
#[derive(Clone, Copy)]
enum Wire {
    /// As [`oncelog_redis::Builder::open`] does.
    Opened,
    /// The same, in the other version of the protocol.
    Resp3,
    /// Each call is sent twice, and nobody listens.
    Twice,
    /// A pool of connections, and nobody listens.
    Pooled,
}

struct One {
    server: Mutex<Server>,
    url: String,
    wire: Wire,
}

impl One {
    async fn start(wire: Wire, arguments: &[&str]) -> Option<Self> {
        let server = Server::start(arguments).await?;
        let url = server.url();
        Some(Self { server: Mutex::new(server), url, wire })
    }

    async fn make(&self, namespace: &str, policy: Policy) -> Result<AnyBackend> {
        let builder = RedisBackend::builder(namespace).policy(policy).answer_timeout(PATIENCE);
        let url = &self.url;
        Ok(match self.wire {
            Wire::Opened => AnyBackend::new(builder.open(url).await?),
            Wire::Resp3 => AnyBackend::new(builder.open(&format!("{url}?protocol=resp3")).await?),
            Wire::Twice => AnyBackend::new(builder.connect(Twice(lasting(url).await)).await?),
            Wire::Pooled => {
                let pool = deadpool_redis::Config::from_url(url);
                let pool = pool.create_pool(Some(deadpool_redis::Runtime::Tokio1)).unwrap();
                let pooled = Pooled::new(move || {
                    let pool = pool.clone();
                    async move { pool.get().await }
                });
                AnyBackend::new(builder.connect(pooled).await?)
            }
        })
    }
}

/// A connection that is made anew when it breaks.
async fn lasting(url: &str) -> ConnectionManager {
    let config = ConnectionManagerConfig::new().set_response_timeout(Some(PATIENCE));
    ConnectionManager::new_with_config(Client::open(url).unwrap(), config).await.unwrap()
}

impl Harness for One {
    fn client<'a>(&'a self, namespace: &'a str, policy: Policy) -> Task<'a, Result<AnyBackend>> {
        Box::pin(self.make(namespace, policy))
    }

    fn spawn(&self, task: Task<'static, ()>) {
        drop(tokio::spawn(task));
    }

    fn sleep(&self, time: Duration) -> Task<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn restart(&self) -> Task<'_, Able<Clients>> {
        Box::pin(async {
            let mut server = self.server.lock().await;
            if !server.keeps() {
                return Able::Cannot("the server is set to keep nothing");
            }
            server.kill();
            server.restart().await;
            Able::Done(Clients::GoOn)
        })
    }

    fn skewed_client<'a>(
        &'a self,
        _namespace: &'a str,
        _policy: Policy,
        _skew: Skew,
    ) -> Task<'a, Able<Result<AnyBackend>>> {
        Box::pin(async { Able::Cannot("the time of a client is that of its process: see races") })
    }
}

struct Three {
    cluster: Mutex<Cluster>,
    urls: Vec<String>,
}

impl Harness for Three {
    fn client<'a>(&'a self, namespace: &'a str, policy: Policy) -> Task<'a, Result<AnyBackend>> {
        Box::pin(async move {
            let builder = RedisBackend::builder(namespace).policy(policy).answer_timeout(PATIENCE);
            let urls: Vec<&str> = self.urls.iter().map(String::as_str).collect();
            Ok(AnyBackend::new(builder.open_cluster(&urls).await?))
        })
    }

    fn spawn(&self, task: Task<'static, ()>) {
        drop(tokio::spawn(task));
    }

    fn sleep(&self, time: Duration) -> Task<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn restart(&self) -> Task<'_, Able<Clients>> {
        Box::pin(async {
            let mut cluster = self.cluster.lock().await;
            cluster.nodes.iter_mut().for_each(Server::kill);
            for node in &mut cluster.nodes {
                node.restart().await;
            }
            cluster.ready().await;
            Able::Done(Clients::GoOn)
        })
    }

    fn skewed_client<'a>(
        &'a self,
        _namespace: &'a str,
        _policy: Policy,
        _skew: Skew,
    ) -> Task<'a, Able<Result<AnyBackend>>> {
        Box::pin(async { Able::Cannot("the time of a client is that of its process: see races") })
    }
}

async fn passes(wire: Wire, arguments: &[&str]) {
    let Some(harness) = One::start(wire, arguments).await else { return };
    let report = run_all(&harness).await;
    eprintln!("{report}");
    report.assert_passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_syncs_keeps_the_contract() {
    passes(Wire::Opened, SYNCED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_the_newer_protocol_keeps_the_contract() {
    passes(Wire::Resp3, SYNCED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_any_log_keeps_the_contract() {
    passes(Wire::Opened, &["--appendonly", "no"]).await;
}

/// Cases in which somebody else may change the key between the two times.
const DISTURBED: [&str; 4] = [
    "those_who_wait_get_a_released_key_one_at_a_time",
    "holders_that_stall_past_their_lease_do_no_harm",
    "a_takeover_and_a_late_completion_exclude_each_other",
    "removals_and_completions_exclude_each_other",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_every_call_twice_keeps_the_contract_unless_others_come_in_between() {
    let Some(harness) = One::start(Wire::Twice, SYNCED).await else { return };
    let names = CASES.iter().map(|case| case.name).filter(|name| !DISTURBED.contains(name));
    let report = run_named(&harness, &names.collect::<Vec<_>>()).await;
    eprintln!("{report}");
    report.assert_passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_of_another_crate_keeps_the_contract() {
    passes(Wire::Pooled, SYNCED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_three_nodes_keeps_the_contract() {
    let Some(cluster) = Cluster::start(0, SYNCED).await else { return };
    let urls = cluster.urls();
    let harness = Three { cluster: Mutex::new(cluster), urls };
    let report = run_all(&harness).await;
    eprintln!("{report}");
    report.assert_passed();
}
