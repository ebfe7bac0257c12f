//! What the protocol costs: each verb against a bare statement by the same client.
//!
//! `cargo run --release -p oncelog-postgres --example measure -- postgres://user@host/database`
//!
//! Bare is a table of key and outcome, and `INSERT ... ON CONFLICT DO NOTHING`, prepared. Each
//! round measures all of them one after another, and the medians over the rounds are shown, with
//! their ratio: the bare time over the verb's. Durability is the server's, the same for all.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use oncelog::backend::{Backend, Begin};
use oncelog::{BeginOptions, CheckOptions, Error, Policy};
use oncelog_postgres::{Builder, Dial, Namespace, Shared};
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls, Statement};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const TABLE: &str = "DROP TABLE IF EXISTS bare;
    CREATE TABLE bare (key bytea PRIMARY KEY, outcome bytea)";
const INSERT: &str = "INSERT INTO bare VALUES ($1, $2) ON CONFLICT DO NOTHING";
const INSERT_MANY: &str =
    "INSERT INTO bare SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT DO NOTHING";
const OUTCOME: &[u8] = &[7; 32];

/// Measured in each round.
const CALLS: usize = 400;
const BATCH: usize = 1000;
const BATCHES: usize = 4;
const FLIGHT: usize = 64;

/// Keys that nobody has used, 16 bytes each, spread over the index.
struct Fresh(u64);

impl Fresh {
    fn key(&mut self) -> [u8; 16] {
        self.0 += 1;
        let mixed = u128::from(self.0).wrapping_mul(0x2545_f491_4f6c_dd1d_9e37_79b9_7f4a_7c15);
        mixed.to_le_bytes()
    }

    fn keys(&mut self, count: usize) -> Vec<[u8; 16]> {
        (0..count).map(|_| self.key()).collect()
    }
}

struct Bench {
    client: Arc<Client>,
    insert: Statement,
    insert_many: Statement,
    /// Over one line of its own, with prepared statements.
    single: Namespace,
    /// Over one client for all, for many calls in flight.
    flying: Namespace<Shared>,
    fresh: Fresh,
}

/// The time of each call, in microseconds.
fn each(from: Instant, calls: usize) -> f64 {
    from.elapsed().as_secs_f64() * 1e6 / calls as f64
}

impl Bench {
    async fn new(url: &str) -> Result<Self, Failure> {
        let builder = Builder::dial(Dial::url(url)?, 1);
        builder.migrate().await?;
        let policy = Policy { lease: Duration::from_secs(60), ..Policy::default() };
        let single = builder.open().await?.namespace("measure", policy).await?;
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute(TABLE).await?;
        let insert = client.prepare(INSERT).await?;
        let insert_many = client.prepare(INSERT_MANY).await?;
        let (other, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        let client = Arc::new(client);
        let flying = Builder::new(Shared::new(other)).open().await?;
        let flying = flying.namespace("measure", policy).await?;
        // Of another run, keys are not used again.
        let fresh = Fresh(u64::from(std::process::id()) << 32);
        Ok(Self { client, insert, insert_many, single, flying, fresh })
    }

    /// Bare, check of a new and of a known key, begin, complete.
    async fn one_by_one(&mut self) -> Result<Vec<f64>, Failure> {
        let mut times = Vec::new();
        let keys = self.fresh.keys(CALLS);
        let from = Instant::now();
        for key in &keys {
            self.client.execute(&self.insert, &[&&key[..], &OUTCOME]).await?;
        }
        times.push(each(from, CALLS));
        for _ in 0..2 {
            let from = Instant::now();
            for key in &keys {
                let _ = self.single.check_and_set(key, OUTCOME, CheckOptions::new()).await?;
            }
            times.push(each(from, CALLS));
        }
        let keys = self.fresh.keys(CALLS);
        let mut versions = Vec::with_capacity(CALLS);
        let from = Instant::now();
        for key in &keys {
            if let Begin::Started(grant) = self.single.begin(key, BeginOptions::new()).await? {
                versions.push(grant.version);
            }
        }
        times.push(each(from, CALLS));
        let from = Instant::now();
        for (key, version) in keys.iter().zip(&versions) {
            self.single.complete(key, *version, OUTCOME).await?;
        }
        times.push(each(from, CALLS));
        Ok(times)
    }

    /// Bare, check of new and of known keys, bare of known ones; each item's time.
    async fn batched(&mut self) -> Result<Vec<f64>, Failure> {
        let mut times = vec![0.0; 4];
        for _ in 0..BATCHES {
            let keys = self.fresh.keys(BATCH);
            let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
            let outcomes = vec![OUTCOME; BATCH];
            let from = Instant::now();
            self.client.execute(&self.insert_many, &[&keys, &outcomes]).await?;
            times[0] += each(from, BATCH * BATCHES);
            let items: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (*key, OUTCOME)).collect();
            for time in &mut times[1..3] {
                let from = Instant::now();
                self.single.check_and_set_many(&items, CheckOptions::new()).await?;
                *time += each(from, BATCH * BATCHES);
            }
            let from = Instant::now();
            self.client.execute(&self.insert_many, &[&keys, &outcomes]).await?;
            times[3] += each(from, BATCH * BATCHES);
        }
        Ok(times)
    }

    /// Bare, check of a new key, begin, complete; this many at a time over one connection.
    async fn in_flight(&mut self) -> Result<Vec<f64>, Failure> {
        let mut times = Vec::new();
        let keys = self.fresh.keys(CALLS);
        let (client, insert) = (self.client.clone(), self.insert.clone());
        times.push(
            flight(keys.clone(), move |key| {
                let (client, insert) = (client.clone(), insert.clone());
                async move {
                    client.execute(&insert, &[&&key[..], &OUTCOME]).await.map_err(|_| Error::Closed)
                }
            })
            .await?
            .0,
        );
        let orders = self.flying.clone();
        let checked = flight(keys, move |key| {
            let orders = orders.clone();
            async move { orders.check_and_set(&key, OUTCOME, CheckOptions::new()).await }
        });
        times.push(checked.await?.0);
        let keys = self.fresh.keys(CALLS);
        let orders = self.flying.clone();
        let begun = flight(keys, move |key| {
            let orders = orders.clone();
            async move { Ok((key, orders.begin(&key, BeginOptions::new()).await?)) }
        });
        let (time, begun) = begun.await?;
        times.push(time);
        let held = begun.into_iter().filter_map(|(key, begin)| match begin {
            Begin::Started(grant) => Some((key, grant.version)),
            _ => None,
        });
        let orders = self.flying.clone();
        let completed = flight(held.collect(), move |(key, version)| {
            let orders = orders.clone();
            async move { orders.complete(&key, version, OUTCOME).await }
        });
        times.push(completed.await?.0);
        Ok(times)
    }
}

/// Makes calls, so many at a time, and answers the time of each and what they answered.
async fn flight<T, R, F>(
    items: Vec<T>,
    call: impl Fn(T) -> F + Send + Sync + 'static,
) -> Result<(f64, Vec<R>), Failure>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Future<Output = oncelog::Result<R>> + Send + 'static,
{
    let (count, mut answers) = (items.len(), Vec::with_capacity(items.len()));
    let from = Instant::now();
    let mut items = items.into_iter();
    let mut flying = tokio::task::JoinSet::new();
    for item in items.by_ref().take(FLIGHT) {
        flying.spawn(call(item));
    }
    while let Some(answer) = flying.join_next().await {
        answers.push(answer??);
        if let Some(item) = items.next() {
            flying.spawn(call(item));
        }
    }
    Ok((each(from, count), answers))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("give the URL of a database")?;
    let rounds = arguments.next().map_or(Ok(15), |rounds| rounds.parse::<usize>())?;
    let mut bench = Bench::new(&url).await?;
    let names: [&[&str]; 3] = [
        &["bare insert", "check, new", "check, known", "begin", "complete"],
        &["bare insert", "check, new", "check, known", "bare insert, known"],
        &["bare insert", "check, new", "begin", "complete"],
    ];
    let titles = ["one call at a time", "batches of 1000, each item", "64 calls in flight"];
    let mut rows = [vec![], vec![], vec![]];
    for _ in 0..rounds {
        rows[0].push(bench.one_by_one().await?);
        rows[1].push(bench.batched().await?);
        rows[2].push(bench.in_flight().await?);
    }
    let mut out = std::io::stdout();
    for ((title, names), rows) in titles.iter().zip(names).zip(rows) {
        writeln!(out, "\n{title:32} {:>10} {:>8}", "us", "ratio")?;
        let column =
            |at: usize| median(rows.iter().filter_map(|row| row.get(at).copied()).collect());
        let bare = column(0);
        for (at, name) in names.iter().enumerate() {
            writeln!(out, "{name:32} {:>10.1} {:>8.2}", column(at), bare / column(at))?;
        }
    }
    Ok(())
}
