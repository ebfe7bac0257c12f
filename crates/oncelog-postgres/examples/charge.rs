//! A charge and its key in one transaction: committed together, or rolled back together.
//!
//! `cargo run -p oncelog-postgres --example charge -- postgres://user@host/database`
//!
//! The key is begun on its own, so that others know of the work before it is done; it is completed
//! in the transaction of the charge. The first attempt fails after both are written, and leaves
//! neither; the second commits both; a third request is answered what the second has left.

use oncelog::backend::{Backend, Begin, Grant};
use oncelog::{BeginOptions, Fingerprint, Policy};
use oncelog_postgres::{Builder, Namespace};
use tokio_postgres::{Client, NoTls};

type Failure = Box<dyn std::error::Error>;

/// Charges a card in the caller's database; `declined` is an error after everything was written.
async fn charge(
    payments: &Namespace,
    client: &mut Client,
    (key, grant, amount): (&str, &Grant, i32),
    declined: bool,
) -> Result<(), Failure> {
    let transaction = client.transaction().await?;
    transaction.execute("INSERT INTO charges VALUES ($1, $2)", &[&key, &amount]).await?;
    // An error here, such as a lease that is lost, drops the transaction, which rolls it back.
    let receipt = format!("charged {amount}");
    let within = payments.within(&transaction);
    within.complete(key.as_bytes(), grant.version, receipt.as_bytes()).await?;
    if declined {
        return Err("the bank declined".into());
    }
    transaction.commit().await?;
    Ok(())
}

/// Answers a request that may come any number of times.
async fn handle(
    payments: &Namespace,
    client: &mut Client,
    (key, amount): (&str, i32),
    declined: bool,
) -> Result<String, Failure> {
    let request = Fingerprint::of(&amount.to_le_bytes());
    let options = BeginOptions::new().fingerprint(request);
    match payments.begin(key.as_bytes(), options).await? {
        Begin::Started(grant) => {
            let charged = charge(payments, client, (key, &grant, amount), declined).await;
            if let Err(failure) = charged {
                payments.release(key.as_bytes(), grant.version, None).await?;
                return Ok(format!("attempt {} failed: {failure}", grant.attempt));
            }
            Ok(format!("attempt {} succeeded", grant.attempt))
        }
        Begin::Completed(record) => {
            Ok(format!("replayed: {}", String::from_utf8_lossy(record.outcome())))
        }
        other => Ok(format!("not now: {other:?}")),
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).ok_or("give the URL of a database")?;
    let builder = Builder::url(&url)?;
    builder.migrate().await?;
    let payments = builder.open().await?.namespace("payments", Policy::default()).await?;
    let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    let table = "CREATE TABLE IF NOT EXISTS charges (key text, amount integer)";
    client.batch_execute(table).await?;

    let mut out = std::io::stdout();
    for declined in [true, false, false] {
        let answer = handle(&payments, &mut client, ("pay-7", 100), declined).await?;
        let count = client.query_one("SELECT count(*) FROM charges", &[]).await?;
        let count: i64 = count.get(0);
        std::io::Write::write_fmt(&mut out, format_args!("{answer}; {count} charges\n"))?;
    }
    Ok(())
}
