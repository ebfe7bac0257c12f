//! Consumes a queue of RabbitMQ with oncelog: each message takes effect once, over kills.
//!
//! A queue has no offsets: its broker is told of each message. So messages are known by the id that
//! their producer gives them, and acknowledged once they are marked, never before. What the broker
//! delivers again, as it was not told or the consumer was killed, is found marked and acknowledged
//! without an effect.
//!
//! What is promised: a message is marked after its effect, so none is lost; while it is marked or
//! held, nobody else has it. A consumer that is killed between an effect and the commit has that
//! effect asked for again, and there the ledger refuses the id. Effects that can neither refuse a
//! repetition nor bear it may happen twice in that one case, whatever the consumer does.
//!
//! `run.sh` starts all that is needed, kills the consumer several times, and counts.

use std::time::Duration;

use futures_lite::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use ledger::{Failure, Ledger, Payment};
use oncelog::recipes::consumer::{Group, Message, Turn};
use oncelog::{Durability, Store};
use tokio::task::block_in_place;
use tokio::time::timeout;

const QUEUE: &str = "payments";
/// How many messages are taken at a time. A service takes more: the effects of one batch fit into
/// the length of a lease.
const BATCH_MAX: u16 = 16;
/// How long the messages of a consumer that was killed stay with it.
const LEASE: Duration = Duration::from_secs(2);
/// Longer than anything is delivered again.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// The example ends when so many waits of 50 ms have found nothing; a service never does.
const IDLE_MAX: usize = 100;

async fn consume(store: &str, ledger: &str, server: &str) -> Result<(), Failure> {
    let mut ledger = Ledger::open(ledger)?;
    // What the broker is told is on the disk.
    let store = Store::builder().durability(Durability::Synced).open(store)?;
    let group = Group::open(&store, "billing", LEASE, RETENTION)?;
    let (_connection, channel) = connect(server).await?;
    channel.basic_qos(BATCH_MAX, BasicQosOptions::default()).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut queue =
        channel.basic_consume(QUEUE.into(), "billing".into(), options, arguments).await?;
    let mut idle = 0;
    while idle < IDLE_MAX {
        let deliveries = take(&mut queue).await?;
        if deliveries.is_empty() {
            idle += 1;
            continue;
        }
        idle = 0;
        let payments: Vec<Payment> = deliveries
            .iter()
            .map(|delivery| std::str::from_utf8(&delivery.data)?.parse())
            .collect::<Result<_, Failure>>()?;
        // The store and the ledger wait for the disk.
        let marked = block_in_place(|| handle(&group, &payments, &mut ledger))?;
        for (delivery, marked) in deliveries.iter().zip(marked) {
            if marked {
                delivery.ack(BasicAckOptions::default()).await?;
            } else {
                // Somebody else's by now: the queue has it back.
                let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
                delivery.nack(options).await?;
            }
        }
    }
    Ok(())
}

/// What there is by now.
async fn take(queue: &mut Consumer) -> Result<Vec<lapin::message::Delivery>, Failure> {
    let mut deliveries = Vec::new();
    while deliveries.len() < usize::from(BATCH_MAX) {
        match timeout(Duration::from_millis(50), queue.next()).await {
            Ok(delivery) => deliveries.push(delivery.ok_or("the broker has ended the queue")??),
            Err(_) => break,
        }
    }
    Ok(deliveries)
}

/// Handles messages; which of them are marked, so that the broker may be told.
fn handle(group: &Group, payments: &[Payment], ledger: &mut Ledger) -> Result<Vec<bool>, Failure> {
    println!("delivered: {}", payments.len());
    let mut batch = group.claim(QUEUE, payments.iter().map(|payment| Message::of(&payment.id)))?;
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

/// A connection and a channel on which the queue is.
async fn connect(server: &str) -> Result<(Connection, Channel), Failure> {
    let connection = Connection::connect(server, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(QUEUE.into(), options, FieldTable::default()).await?;
    Ok((connection, channel))
}

/// Sends the payments, some of them more than once.
async fn produce(server: &str, count: usize) -> Result<(), Failure> {
    let (connection, channel) = connect(server).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let sent = ledger::sent(count);
    let mut confirmations = Vec::new();
    for payment in &sent {
        let properties = BasicProperties::default()
            .with_message_id(payment.id.as_str().into())
            .with_delivery_mode(2);
        let (options, body) = (BasicPublishOptions::default(), payment.to_string());
        let confirmation = channel
            .basic_publish("".into(), QUEUE.into(), options, body.as_bytes(), properties)
            .await?;
        confirmations.push(confirmation);
    }
    for confirmation in confirmations {
        confirmation.await?;
    }
    println!("sent: {}", sent.len());
    connection.close(200, "done".into()).await?;
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
