//! What the protocol costs beside the bare client: time, round trips, the server's time, memory.
//!
//! Starts a `redis-server` of its own without any log. The ways are measured in turn, round after
//! round, and the medians of the rounds are printed. Arguments: rounds, and calls in a round.
#![expect(clippy::print_stdout, reason = "the result goes there")]

use std::error::Error;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use oncelog::backend::{Backend, Begin};
use oncelog::{BeginOptions, CheckOptions};
use oncelog_redis::RedisBackend;
use oncelog_redis::redis::aio::{ConnectionLike, MultiplexedConnection};
use oncelog_redis::redis::{
    self, AsyncConnectionConfig, Client, Cmd, Pipeline, RedisFuture, Value,
};
use tokio::time::{Instant, sleep};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const OUTCOME: &[u8] = b"{\"status\":\"accepted\",\"id\":4711}\n";
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Callers at a time on one connection.
const CALLERS: usize = 64;
/// Items in a batch.
const BATCH: usize = 1_000;

/// One way of recording keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    BareAlone,
    CheckAlone,
    LeaseAlone,
    BareTogether,
    CheckTogether,
    LeaseTogether,
    BareBatch,
    CheckBatch,
}

/// Each with the bare one that it is compared with, and its calls to a key.
const WAYS: [(Way, Way, u64, &str); 8] = [
    (Way::BareAlone, Way::BareAlone, 1, "one caller: SET NX PX"),
    (Way::CheckAlone, Way::BareAlone, 1, "one caller: check_and_set"),
    (Way::LeaseAlone, Way::BareAlone, 2, "one caller: begin, complete"),
    (Way::BareTogether, Way::BareTogether, 1, "64 callers: SET NX PX"),
    (Way::CheckTogether, Way::BareTogether, 1, "64 callers: check_and_set"),
    (Way::LeaseTogether, Way::BareTogether, 2, "64 callers: begin, complete"),
    (Way::BareBatch, Way::BareBatch, 1, "batches of 1000: SET NX PX"),
    (Way::CheckBatch, Way::BareBatch, 1, "batches of 1000: check_and_set_many"),
];

/// A connection that counts the ways to the server and back.
#[derive(Clone)]
struct Counted(MultiplexedConnection, Arc<AtomicU64>);

impl ConnectionLike for Counted {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.req_packed_command(command)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.0.get_db()
    }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Bench {
    bare: Counted,
    backend: RedisBackend<Counted>,
    next: u64,
}

fn name(number: u64) -> String {
    format!("order-{number:012}")
}

fn set(number: u64) -> Cmd {
    let mut command = redis::cmd("SET");
    command.arg(format!("oncelog:4:cost:{}", name(number))).arg(OUTCOME);
    command.arg("NX").arg("PX").arg(DAY.as_secs() * 1000);
    command
}

async fn lease(backend: &RedisBackend<Counted>, number: u64) -> Outcome<()> {
    let key = name(number);
    let Begin::Started(grant) = backend.begin(key.as_bytes(), BeginOptions::new()).await? else {
        return Err("a new key is not to be had".into());
    };
    backend.complete(key.as_bytes(), grant.version, OUTCOME).await?;
    Ok(())
}

async fn check(backend: &RedisBackend<Counted>, number: u64) -> Outcome<()> {
    let key = name(number);
    let found = backend.check_and_set(key.as_bytes(), OUTCOME, CheckOptions::new()).await?;
    if found.is_new() { Ok(()) } else { Err("a new key is a duplicate".into()) }
}

async fn bare(mut connection: Counted, number: u64) -> Outcome<()> {
    set(number).exec_async(&mut connection).await?;
    Ok(())
}

impl Bench {
    /// Records so many keys in this way; the nanoseconds that each took.
    async fn run(&mut self, way: Way, count: usize) -> Outcome<f64> {
        let first = self.next;
        self.next += count as u64;
        let numbers: Vec<u64> = (first..self.next).collect();
        let begin = Instant::now();
        match way {
            Way::BareAlone | Way::CheckAlone | Way::LeaseAlone => {
                for number in &numbers {
                    self.one(way, *number).await?;
                }
            }
            Way::BareTogether | Way::CheckTogether | Way::LeaseTogether => {
                let this = &*self;
                let callers = (0..CALLERS).map(|caller| {
                    let mine = numbers.iter().skip(caller).step_by(CALLERS);
                    async move {
                        for number in mine {
                            this.one(way, *number).await?;
                        }
                        Outcome::Ok(())
                    }
                });
                try_join_all(callers).await?;
            }
            Way::BareBatch => {
                for batch in numbers.chunks(BATCH) {
                    let mut pipeline = Pipeline::with_capacity(batch.len());
                    for number in batch {
                        pipeline.add_command(set(*number));
                    }
                    let done: Vec<Value> = pipeline.query_async(&mut self.bare.clone()).await?;
                    if !done.iter().all(|value| *value == Value::Okay) {
                        return Err("a new key is a duplicate".into());
                    }
                }
            }
            Way::CheckBatch => {
                for batch in numbers.chunks(BATCH) {
                    let keys: Vec<String> = batch.iter().map(|number| name(*number)).collect();
                    let items: Vec<(&[u8], &[u8])> =
                        keys.iter().map(|key| (key.as_bytes(), OUTCOME)).collect();
                    let checks =
                        self.backend.check_and_set_many(&items, CheckOptions::new()).await?;
                    if !checks.iter().all(|check| check.as_ref().is_ok_and(|c| c.is_new())) {
                        return Err("a new key is a duplicate".into());
                    }
                }
            }
        }
        Ok(begin.elapsed().as_nanos() as f64 / count as f64)
    }

    async fn one(&self, way: Way, number: u64) -> Outcome<()> {
        match way {
            Way::BareAlone | Way::BareTogether => bare(self.bare.clone(), number).await,
            Way::LeaseAlone | Way::LeaseTogether => lease(&self.backend, number).await,
            _ => check(&self.backend, number).await,
        }
    }

    /// A number of the server's `INFO`.
    async fn info(&self, field: &str) -> Outcome<f64> {
        let text: String =
            redis::cmd("INFO").arg("everything").query_async(&mut self.bare.0.clone()).await?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(line.ok_or("no such field")?.trim().parse()?)
    }

    /// Seconds that the server's one thread has computed.
    async fn computed(&self) -> Outcome<f64> {
        let user = self.info("used_cpu_user_main_thread").await?;
        Ok(user + self.info("used_cpu_sys_main_thread").await?)
    }

    async fn forget(&self) -> Outcome<()> {
        redis::cmd("FLUSHALL").exec_async(&mut self.bare.0.clone()).await?;
        Ok(())
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[derive(Default)]
struct Measured {
    nanos: Vec<f64>,
    ratios: Vec<f64>,
    computed: f64,
    trips: u64,
    keys: usize,
}

async fn times(bench: &mut Bench, rounds: usize, count: usize) -> Outcome<()> {
    let mut measured: Vec<Measured> = WAYS.iter().map(|_| Measured::default()).collect();
    for _ in 0..rounds {
        let mut round = Vec::new();
        for ((way, base, calls, _), measured) in WAYS.iter().zip(&mut measured) {
            let before = bench.computed().await?;
            bench.bare.1.store(0, Ordering::Relaxed);
            let nanos = bench.run(*way, count).await? / *calls as f64;
            measured.trips += bench.bare.1.load(Ordering::Relaxed);
            measured.computed += bench.computed().await? - before;
            measured.keys += count;
            measured.nanos.push(nanos);
            round.push((*way, nanos));
            let bare = round.iter().find(|(way, _)| way == base).map_or(nanos, |(_, nanos)| *nanos);
            measured.ratios.push(bare / nanos);
        }
        bench.forget().await?;
    }
    println!("{:<38}{:>9}{:>9}{:>12}{:>9}", "", "us/call", "of bare", "server us", "trips");
    println!("{:<38}{:>9}{:>9}{:>12}{:>9}", "", "(median)", "", "per call", "per key");
    for ((_, _, calls, what), measured) in WAYS.iter().zip(&measured) {
        let keys = measured.keys as f64;
        println!(
            "{what:<38}{:>9.2}{:>9.2}{:>12.2}{:>9.3}",
            median(&measured.nanos) / 1000.0,
            median(&measured.ratios),
            measured.computed / keys / *calls as f64 * 1e6,
            measured.trips as f64 / keys,
        );
    }
    Ok(())
}

async fn memory(bench: &mut Bench) -> Outcome<()> {
    const KEYS: usize = 200_000;
    println!(
        "\nbytes of the server's memory a key, {KEYS} keys, outcomes of {} bytes",
        OUTCOME.len()
    );
    for (way, what) in [
        (Way::BareBatch, "SET NX PX"),
        (Way::CheckBatch, "check_and_set"),
        (Way::LeaseTogether, "begin, complete"),
    ] {
        bench.forget().await?;
        let before = bench.info("used_memory_dataset").await?;
        let index = bench.info("used_memory_overhead").await?;
        bench.run(way, KEYS).await?;
        let data = bench.info("used_memory_dataset").await? - before;
        let index = bench.info("used_memory_overhead").await? - index;
        println!("{what:<38}{:>9.1}", (data + index) / KEYS as f64);
    }
    bench.forget().await
}

async fn start() -> Outcome<(Server, Client)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut server = Command::new("redis-server");
    server.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    let server = Server(server.stdout(Stdio::null()).spawn()?);
    let client = Client::open(format!("redis://127.0.0.1:{port}/"))?;
    for _ in 0..200 {
        if client.get_multiplexed_async_connection().await.is_ok() {
            return Ok((server, client));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Err("the server does not answer".into())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let rounds = arguments.next().transpose()?.unwrap_or(15);
    let count = arguments.next().transpose()?.unwrap_or(2_000);
    let (_server, client) = start().await?;
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(DAY));
    let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let bare = Counted(connection, Arc::default());
    let backend = RedisBackend::builder("cost").ttl(DAY).answer_timeout(DAY);
    let backend = backend.connect(bare.clone()).await?;
    let mut bench = Bench { bare, backend, next: 0 };
    for (way, ..) in WAYS {
        bench.run(way, count.min(500)).await?;
    }
    times(&mut bench, rounds, count).await?;
    memory(&mut bench).await
}
