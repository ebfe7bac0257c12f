//! Servers for one test: started on free ports, killed at its end.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use oncelog_redis::redis::aio::MultiplexedConnection;
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
        Self::start_through(&[], arguments).await
    }

    /// As [`Server::start`], by way of another program.
    pub(crate) async fn start_through(through: &[&str], arguments: &[&str]) -> Option<Self> {
        let program = program()?;
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut words: Vec<String> = through.iter().map(|word| (*word).to_owned()).collect();
        words.push(program.display().to_string());
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
