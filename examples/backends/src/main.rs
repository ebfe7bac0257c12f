//! A service that charges orders, over whichever backend its first argument names.
//!
//! `oncelog-backends BACKEND NAME ORDER BANK` is an instance called NAME that is asked to charge
//! ORDER; the charge is a line in the file BANK. BACKEND is `embedded:DIR`, a URL of Redis, or one
//! of PostgreSQL; nothing else differs. Of any number of instances at a time one charges, the
//! others wait for it and answer what it has answered; if it dies, one of them takes over when its
//! lease has run out. `run.sh` beside this shows that over all three.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use oncelog::backend::{AnyBackend, run};
use oncelog::{BeginOptions, Error, Fingerprint, Policy, Store};
use oncelog_postgres::Builder;
use oncelog_redis::RedisBackend;

type Failure = Box<dyn std::error::Error>;

/// How long charging takes.
const WORK: Duration = Duration::from_millis(800);
/// How long an order stays in progress after its instance has died.
const LEASE: Duration = Duration::from_secs(3);
/// How often an instance looks whether the one before has ended, where only one can be open.
const PAUSE: Duration = Duration::from_millis(50);

/// The keys of the service, wherever they are kept.
async fn open(backend: &str) -> Result<AnyBackend, Failure> {
    let policy = Policy { lease: LEASE, require_fingerprint: true, ..Policy::default() };
    if let Some(directory) = backend.strip_prefix("embedded:") {
        let store = open_when_free(directory).await?;
        return Ok(AnyBackend::new(store.namespace("orders", policy)?));
    }
    if backend.starts_with("redis") {
        let orders = RedisBackend::builder("orders").policy(policy).open(backend).await?;
        return Ok(AnyBackend::new(orders));
    }
    if backend.starts_with("postgres") {
        let builder = Builder::url(backend)?;
        builder.migrate().await?;
        let orders = builder.open().await?.namespace("orders", policy).await?;
        return Ok(AnyBackend::new(orders));
    }
    Err(format!("{backend}: give embedded:DIR, or a URL of redis or postgres").into())
}

/// A store is open in one process: a second instance on the machine waits for the first to end.
async fn open_when_free(directory: &str) -> Result<Store, Error> {
    loop {
        match Store::open(directory) {
            Err(Error::AlreadyOpen { .. }) => tokio::time::sleep(PAUSE).await,
            opened => return opened,
        }
    }
}

/// The effect that is to happen once. A bank would take the token and refuse smaller ones.
async fn charge(bank: &str, order: &str, token: u64) -> std::io::Result<String> {
    tokio::time::sleep(WORK).await;
    let mut bank = OpenOptions::new().create(true).append(true).open(bank)?;
    writeln!(bank, "{order} {token}")?;
    Ok(format!("receipt {token}"))
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("oncelog-backends: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backend, name, order, bank] = &arguments[..] else {
        return Err("usage: oncelog-backends BACKEND NAME ORDER BANK".into());
    };
    let orders = open(backend).await?;
    let request = BeginOptions::new().fingerprint(Fingerprint::of(order.as_bytes()));
    let answer = run(&orders, order, request, async |lease| {
        let token = lease.version().as_u64();
        println!("{name}: charging {order}, attempt {}", lease.attempt());
        charge(bank, order, token).await
    });
    let answer = answer.await?;
    let how = if answer.worked() { "charged" } else { "charged before" };
    println!("{name}: {how}: {}", String::from_utf8_lossy(answer.outcome()));
    Ok(())
}
