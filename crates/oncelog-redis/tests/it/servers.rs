//! Servers for one test: started on free ports, killed at its end.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use oncelog_redis::redis::aio::MultiplexedConnection;
use oncelog_redis::redis::cluster_async::ClusterConnection;
use oncelog_redis::redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue};
use oncelog_redis::{Builder, RedisBackend};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One server.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    dir: TempDir,
    arguments: Vec<String>,
}

/// The server's program; `None`, said aloud, where there is none.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("ONCELOG_REDIS_SERVER").map(PathBuf::from);
    let program = named.unwrap_or_else(|| PathBuf::from("redis-server"));
    let found = Command::new(&program).arg("--version").stdout(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return Some(program);
    }
    eprintln!("skipped: {} is missing (Debian: redis-server)", program.display());
    None
}

/// A port that nobody listens on, low enough for the one of the cluster's bus.
pub(crate) fn free_port() -> u16 {
    loop {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let port = TcpListener::bind(any).unwrap().local_addr().unwrap().port();
        if port < 55_000 {
            return port;
        }
    }
}

impl Server {
    /// A server without any log, with further arguments.
    pub(crate) async fn start(arguments: &[&str]) -> Option<Self> {
        let program = program()?;
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut words = vec![program.display().to_string()];
        let given = [
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            &dir.path().display().to_string(),
            "--repl-diskless-sync-delay",
            "0",
        ];
        words.extend(given.map(str::to_owned));
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        let child = spawn(&words, &dir);
        let server = Self { child, port, dir, arguments: words };
        server.ready().await;
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn client(&self) -> Client {
        Client::open(self.url()).unwrap()
    }

    /// A connection that has all the time it may need.
    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        connection(&self.client()).await
    }

    /// Has the server run a command.
    pub(crate) async fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut connection = self.connection().await;
        command(words).query_async(&mut connection).await.unwrap()
    }

    /// A backend over one connection.
    pub(crate) async fn backend(&self, namespace: &str) -> RedisBackend<MultiplexedConnection> {
        self.backend_of(RedisBackend::builder(namespace)).await
    }

    pub(crate) async fn backend_of(&self, builder: Builder) -> RedisBackend<MultiplexedConnection> {
        builder.answer_timeout(PATIENCE).connect(self.connection().await).await.unwrap()
    }

    /// Waits until it answers.
    pub(crate) async fn ready(&self) {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Ok(mut connection) = self.client().get_multiplexed_async_connection().await {
                let pong = command(&["PING"]).query_async::<String>(&mut connection).await;
                match pong {
                    Ok(_) => return,
                    // It is there, and wants to know who asks.
                    Err(error) if error.code() == Some("NOAUTH") => return,
                    Err(_) => {}
                }
            }
            assert!(Instant::now() < end, "the server does not answer: {}", self.said());
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("said")).unwrap_or_default()
    }

    /// True if it is there again after it was killed, with what it had answered.
    pub(crate) fn keeps(&self) -> bool {
        self.arguments.iter().any(|argument| argument == "always")
    }

    /// Ends it as a power switch would end the process.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, with what it has left behind.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(&self.arguments, &self.dir);
        self.ready().await;
    }

    /// Stops it, or lets it go on.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let done = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(words: &[String], dir: &TempDir) -> Child {
    let said = File::create(dir.path().join("said")).unwrap();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    command.stdout(said.try_clone().unwrap()).stderr(said).spawn().unwrap()
}

/// A connection that has all the time it may need.
pub(crate) async fn connection(client: &Client) -> MultiplexedConnection {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

pub(crate) fn command(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command
}

/// Three nodes of a cluster, and perhaps a replica of each.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Server>,
}

impl Cluster {
    pub(crate) async fn start(replicas: usize, arguments: &[&str]) -> Option<Self> {
        let mut nodes = Vec::new();
        for _ in 0..3 * (1 + replicas) {
            let bus = free_port().to_string();
            let mut all = vec!["--cluster-enabled", "yes", "--cluster-port", &bus];
            all.extend([
                "--cluster-node-timeout",
                "3000",
                "--cluster-replica-validity-factor",
                "0",
            ]);
            all.extend(arguments);
            nodes.push(Server::start(&all).await?);
        }
        let count = replicas.to_string();
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]);
        create.args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)));
        create.args(["--cluster-replicas", &count, "--cluster-yes"]).stdin(Stdio::null());
        let created = create.output().unwrap();
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        let cluster = Self { nodes };
        cluster.ready().await;
        Some(cluster)
    }

    /// Waits until every node says that all slots are served.
    pub(crate) async fn ready(&self) {
        let end = Instant::now() + PATIENCE;
        for node in &self.nodes {
            while !node.run::<String>(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok") {
                assert!(Instant::now() < end, "the cluster does not come up");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Server::url).collect()
    }

    pub(crate) async fn backend_of(
        &self,
        builder: Builder,
    ) -> oncelog::Result<RedisBackend<ClusterConnection>> {
        let urls = self.urls();
        builder.open_cluster(&urls.iter().map(String::as_str).collect::<Vec<_>>()).await
    }
}
