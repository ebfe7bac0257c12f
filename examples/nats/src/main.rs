//! Consumes a stream of NATS JetStream with oncelog: each message takes effect once, over kills.
//!
//! The server is told of each message, and delivers what it was not told of again, behind newer
//! ones. So messages are known by the id that their producer gives them, and acknowledged once they
//! are marked, never before. (A position, as for a partition of Kafka, is for what comes in order:
//! an ordered consumer that starts at the position, and needs no acknowledgement.)
//!
//! What is promised: a message is marked after its effect, so none is lost; while it is marked or
//! held, nobody else has it. A consumer that is killed between an effect and the commit has that
//! effect asked for again, and there the ledger refuses the id. Effects that can neither refuse a
//! repetition nor bear it may happen twice in that one case, whatever the consumer does.
//!
//! `run.sh` starts all that is needed, kills the consumer several times, and counts.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{Config, Stream};
use async_nats::jetstream::{self, AckKind, Context};
use futures_lite::StreamExt;
use ledger::{Failure, Ledger, Payment};
use oncelog::recipes::consumer::{Group, Message, Turn};
use oncelog::{Durability, Store};
use tokio::task::block_in_place;

const STREAM: &str = "payments";
/// How many messages are taken at a time. A service takes more: the effects of one batch fit into
/// the length of a lease.
const BATCH_MAX: usize = 16;
/// How long the messages of a consumer that was killed stay with it.
const LEASE: Duration = Duration::from_secs(2);
/// Longer than anything is delivered again.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// The example ends when so many waits of half a second have found nothing; a service never does.
const IDLE_MAX: usize = 10;

async fn consume(store: &str, ledger: &str, server: &str) -> Result<(), Failure> {
    let mut ledger = Ledger::open(ledger)?;
    // What the broker is told is on the disk.
    let store = Store::builder().durability(Durability::Synced).open(store)?;
    let group = Group::open(&store, "billing", LEASE, RETENTION)?;
    let config = pull::Config {
        durable_name: Some("billing".to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: LEASE,
        ..pull::Config::default()
    };
    let (_, stream) = connect(server).await?;
    let consumer: PullConsumer = stream.get_or_create_consumer("billing", config).await?;
    let mut idle = 0;
    while idle < IDLE_MAX {
        let messages = take(&consumer).await?;
        if messages.is_empty() {
            idle += 1;
            continue;
        }
        idle = 0;
        let payments: Vec<Payment> = messages
            .iter()
            .map(|message| std::str::from_utf8(&message.payload)?.parse())
            .collect::<Result<_, Failure>>()?;
        // The store and the ledger wait for the disk.
        let marked = block_in_place(|| handle(&group, &payments, &mut ledger))?;
        for (message, marked) in messages.iter().zip(marked) {
            // What is not marked is somebody else's by now, and comes again.
            let answer = if marked { AckKind::Ack } else { AckKind::Nak(Some(LEASE)) };
            message.ack_with(answer).await?;
        }
    }
    Ok(())
}

/// What there is by now, or in the next half second.
async fn take(consumer: &PullConsumer) -> Result<Vec<jetstream::Message>, Failure> {
    let batch = consumer.batch().max_messages(BATCH_MAX).expires(Duration::from_millis(500));
    batch.messages().await?.try_collect().await
}

/// Handles messages; which of them are marked, so that the broker may be told.
fn handle(group: &Group, payments: &[Payment], ledger: &mut Ledger) -> Result<Vec<bool>, Failure> {
    println!("delivered: {}", payments.len());
    let mut batch = group.claim(STREAM, payments.iter().map(|payment| Message::of(&payment.id)))?;
    // Those of a consumer that was killed come free when its leases are over.
    batch.wait(LEASE * 2)?;
    for (index, payment) in payments.iter().enumerate() {
        if let Turn::Handle(lease) = batch.turn(index) {
            let (attempt, token) = (lease.attempt(), lease.version().as_u64());
            let said = if ledger.pay(payment, token)? { "paid" } else { "was paid before" };
            println!("effect: {}, attempt {attempt}: {said}", payment.id);
            batch.handled(index, "")?;
        }
    }
    batch.commit()?;
    println!("marked");
    Ok((0..batch.len()).map(|index| batch.is_marked(index)).collect())
}

async fn connect(server: &str) -> Result<(Context, Stream), Failure> {
    let context = jetstream::new(async_nats::connect(server).await?);
    let config = Config { name: STREAM.to_owned(), ..Config::default() };
    let stream = context.get_or_create_stream(config).await?;
    Ok((context, stream))
}

/// Sends the payments, some of them more than once. The server itself drops a repetition within two
/// minutes if it is told an id with it; it is not, so that all of them arrive.
async fn produce(server: &str, count: usize) -> Result<(), Failure> {
    let (context, _) = connect(server).await?;
    let sent = ledger::sent(count);
    let mut stored = Vec::new();
    for payment in &sent {
        stored.push(context.publish(STREAM, payment.to_string().into()).await?);
    }
    for stored in stored {
        stored.await?;
    }
    println!("sent: {}", sent.len());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["produce", server, count] => produce(server, count.parse()?).await,
        ["consume", store, ledger, server] => consume(store, ledger, server).await,
        ["check", ledger, count, repeats_max] => {
            let said = Ledger::open(ledger)?.check(count.parse()?, repeats_max.parse()?)?;
            println!("{said}");
            Ok(())
        }
        _ => Err("produce SERVER COUNT | consume STORE LEDGER SERVER | check LEDGER COUNT REPEATS"
            .into()),
    }
}
