//! The outbox in the caller's transaction: a message leaves if and only if the order was committed.
//!
//! `cargo run -p oncelog-postgres --example outbox -- postgres://user@host/database`
//!
//! An order, its key and the message about it are written in one transaction. A relay reads what is
//! to be sent and sends it; it may be killed after sending and before noting that, and sends the
//! message again then. Whoever gets it drops the second one, by the same verb: so the effect of
//! each message happens once, though it may be delivered more often.

use std::io::Write;

use oncelog::backend::Backend;
use oncelog::{CheckOptions, Policy};
use oncelog_postgres::{Builder, Namespace};
use tokio_postgres::{Client, NoTls};

type Failure = Box<dyn std::error::Error>;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS orders (id text PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS outbox (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, message text NOT NULL);
";

/// Takes an order that may be sent any number of times; false if it was known.
async fn take(requests: &Namespace, client: &mut Client, order: &str) -> Result<bool, Failure> {
    let transaction = client.transaction().await?;
    let within = requests.within(&transaction);
    let check = within.check_and_set(order.as_bytes(), b"taken", CheckOptions::new()).await?;
    if check.is_new() {
        transaction.execute("INSERT INTO orders VALUES ($1)", &[&order]).await?;
        let message = format!("ship {order}");
        transaction.execute("INSERT INTO outbox (message) VALUES ($1)", &[&message]).await?;
    }
    transaction.commit().await?;
    Ok(check.is_new())
}

/// Sends what is in the outbox; `killed` ends it between sending and noting that it has.
async fn relay(
    shipments: &Namespace,
    client: &mut Client,
    shipped: &mut Vec<String>,
    killed: bool,
) -> Result<(), Failure> {
    let transaction = client.transaction().await?;
    let next = "DELETE FROM outbox WHERE number IN (
            SELECT number FROM outbox ORDER BY number FOR UPDATE SKIP LOCKED LIMIT 100)
        RETURNING number, message";
    for row in transaction.query(next, &[]).await? {
        let number: i64 = row.get(0);
        receive(shipments, shipped, number, row.get(1)).await?;
    }
    if killed {
        transaction.rollback().await?;
    } else {
        transaction.commit().await?;
    }
    Ok(())
}

/// The other side, which may get a message more than once.
async fn receive(
    shipments: &Namespace,
    shipped: &mut Vec<String>,
    number: i64,
    message: String,
) -> Result<(), Failure> {
    let check = shipments.check_and_set(&number.to_le_bytes(), b"", CheckOptions::new()).await?;
    if check.is_new() {
        shipped.push(message);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).ok_or("give the URL of a database")?;
    let builder = Builder::url(&url)?;
    builder.migrate().await?;
    let opened = builder.open().await?;
    let requests = opened.namespace("requests", Policy::default()).await?;
    let shipments = opened.namespace("shipments", Policy::default()).await?;
    let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(TABLES).await?;

    let mut out = std::io::stdout();
    for order in ["order-1", "order-2", "order-1"] {
        let new = take(&requests, &mut client, order).await?;
        writeln!(out, "{order}: {}", if new { "taken" } else { "known" })?;
    }
    let mut shipped = Vec::new();
    relay(&shipments, &mut client, &mut shipped, true).await?;
    relay(&shipments, &mut client, &mut shipped, false).await?;
    writeln!(out, "shipped: {shipped:?}")?;
    Ok(())
}
