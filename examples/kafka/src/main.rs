//! Consumes a topic of Kafka with oncelog: each message takes effect once, over kills.
//!
//! The position of each partition is kept in the store, beside the marks of the messages, and moves
//! in the same atomic step. After a restart it says where to poll from; the broker is told it too,
//! for those who watch the lag, and is not asked for it. Messages are known by the id that their
//! producer gives them, so that one that is sent twice, to whichever partition, is one.
//!
//! What is promised: a message is marked after its effect, so none is lost; while it is marked or
//! held, nobody else has it. A consumer that is killed between an effect and the commit has that
//! effect asked for again, and there the ledger refuses the id. Effects that can neither refuse a
//! repetition nor bear it may happen twice in that one case, whatever the consumer does.
//!
//! `run.sh` starts all that is needed, kills the consumer several times, and counts.

use std::collections::BTreeMap;
use std::time::Duration;

use ledger::{Failure, Ledger, Payment};
use oncelog::recipes::consumer::{Group, Message, Partition, Turn};
use oncelog::{Durability, Store};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const TOPIC: &str = "payments";
const PARTITIONS: i32 = 3;
/// How many messages are taken at a time. A service takes more: the effects of one poll fit into
/// the length of a lease.
const POLL_MAX: usize = 16;
/// How long the messages of a consumer that was killed stay with it.
const LEASE: Duration = Duration::from_secs(2);
/// Longer than anything is delivered again.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// The example ends when so many polls of 50 ms have found nothing; a service never does.
const IDLE_MAX: usize = 100;

/// Consumes all partitions, from `rewind` messages before the position of each: a broker whose own
/// offset lags delivers those again.
fn consume(store: &str, ledger: &str, servers: &str, rewind: u64) -> Result<(), Failure> {
    let mut ledger = Ledger::open(ledger)?;
    // What the broker is told is on the disk.
    let store = Store::builder().durability(Durability::Synced).open(store)?;
    let group = Group::open(&store, "billing", LEASE, RETENTION)?;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "billing")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .create()?;
    let mut partitions = BTreeMap::new();
    let mut assignment = TopicPartitionList::new();
    for number in 0..PARTITIONS {
        let partition = group.partition(TOPIC, u32::try_from(number)?);
        let from = partition.position()?.unwrap_or(0).saturating_sub(rewind);
        assignment.add_partition_offset(TOPIC, number, Offset::Offset(i64::try_from(from)?))?;
        partitions.insert(number, (partition, from));
    }
    consumer.assign(&assignment)?;
    let mut idle = 0;
    while idle < IDLE_MAX {
        let polled = poll(&consumer)?;
        idle = if polled.is_empty() { idle + 1 } else { 0 };
        for (number, messages) in polled {
            let Some((partition, from)) = partitions.get_mut(&number) else { continue };
            let next = handle(partition, *from, &messages, &mut ledger)?;
            // Everything before the position is marked: the broker may be told.
            let mut told = TopicPartitionList::new();
            told.add_partition_offset(TOPIC, number, Offset::Offset(i64::try_from(next)?))?;
            consumer.commit(&told, CommitMode::Async)?;
            let end = messages.last().map_or(*from, |(offset, _)| offset + 1);
            *from = next.min(end);
            if *from < end {
                // Something was not handled: it is polled again.
                let offset = Offset::Offset(i64::try_from(*from)?);
                consumer.seek(TOPIC, number, offset, Duration::from_secs(5))?;
            }
        }
    }
    Ok(())
}

/// What there is by now, by partition.
fn poll(consumer: &BaseConsumer) -> Result<BTreeMap<i32, Vec<(u64, Payment)>>, Failure> {
    let mut polled = BTreeMap::<i32, Vec<_>>::new();
    for _ in 0..POLL_MAX {
        let Some(message) = consumer.poll(Duration::from_millis(50)) else { break };
        let message = message?;
        let body = message.payload_view::<str>().ok_or("a message without a body")??;
        let entry = (u64::try_from(message.offset())?, body.parse()?);
        polled.entry(message.partition()).or_default().push(entry);
    }
    Ok(polled)
}

/// Handles what was polled of one partition from an offset on; where it is to be polled from next.
fn handle(
    partition: &Partition,
    from: u64,
    polled: &[(u64, Payment)],
    ledger: &mut Ledger,
) -> Result<u64, Failure> {
    println!("delivered: {}", polled.len());
    let messages = polled.iter().map(|(offset, payment)| Message::at(*offset).id(&payment.id));
    let mut batch = partition.claim(from, messages)?;
    // Those of a consumer that was killed come free when its leases are over.
    batch.wait(LEASE * 2)?;
    for (index, (offset, payment)) in polled.iter().enumerate() {
        if let Turn::Handle(lease) = batch.turn(index) {
            let (attempt, token) = (lease.attempt(), lease.version().as_u64());
            let said = if ledger.pay(payment, token)? { "paid" } else { "was paid before" };
            println!("effect: {} at offset {offset}, attempt {attempt}: {said}", payment.id);
            batch.handled(index, "")?;
        }
    }
    let committed = batch.commit()?;
    println!("marked");
    Ok(committed.next.unwrap_or(from))
}

/// Holds a cluster of one broker, sends the payments to it, and says where it is.
fn broker(count: usize) -> Result<(), Failure> {
    let cluster = MockCluster::new(1)?;
    cluster.create_topic(TOPIC, PARTITIONS, 1)?;
    let servers = cluster.bootstrap_servers();
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &servers).create()?;
    let sent = ledger::sent(count);
    for (partition, payment) in (0..PARTITIONS).cycle().zip(&sent) {
        let body = payment.to_string();
        let mut record = BaseRecord::to(TOPIC).partition(partition).key(&payment.id).payload(&body);
        while let Err((error, unsent)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            producer.poll(Duration::from_millis(10));
            record = unsent;
        }
    }
    producer.flush(Duration::from_secs(30))?;
    println!("sent: {}", sent.len());
    println!("ready: {servers}");
    loop {
        // Until it is killed.
        std::thread::park();
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["broker", count] => broker(count.parse()?),
        ["consume", store, ledger, servers] => consume(store, ledger, servers, 10),
        ["check", ledger, count, repeats_max] => {
            let said = Ledger::open(ledger)?.check(count.parse()?, repeats_max.parse()?)?;
            println!("{said}");
            Ok(())
        }
        _ => Err("broker COUNT | consume STORE LEDGER SERVERS | check LEDGER COUNT REPEATS".into()),
    }
}
