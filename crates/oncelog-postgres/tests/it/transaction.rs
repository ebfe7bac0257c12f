//! The verbs within a transaction of the caller's: with the business rows, or not at all.

use std::time::Duration;

use oncelog::backend::{Backend, Begin, Grant};
use oncelog::{BeginOptions, CheckOptions, Error, Policy, Status};
use oncelog_postgres::Namespace;
use tokio_postgres::{Client, IsolationLevel};

use crate::{namespace, on_server, open};

const CHARGES: &str = "CREATE TABLE charges (id text, amount integer)";
const CHARGE: &str = "INSERT INTO charges VALUES ('pay-7', 100)";

async fn begun(backend: &impl Backend, key: &[u8]) -> Grant {
    match backend.begin(key, BeginOptions::new()).await.unwrap() {
        Begin::Started(grant) => grant,
        other => panic!("{other:?}"),
    }
}

async fn charges(client: &Client) -> i64 {
    client.query_one("SELECT count(*) FROM charges", &[]).await.unwrap().get(0)
}

#[test]
fn a_completion_is_committed_with_the_charge_or_rolled_back_with_it() {
    on_server(|server, database| async move {
        let payments = namespace(server, &database).await;
        let mut client = server.client(&database).await;
        client.batch_execute(CHARGES).await.unwrap();
        let grant = begun(&payments, b"pay-7").await;

        let transaction = client.transaction().await.unwrap();
        transaction.execute(CHARGE, &[]).await.unwrap();
        let within = payments.within(&transaction);
        within.complete(b"pay-7", grant.version, b"charged").await.unwrap();
        let inside = within.get(b"pay-7").await.unwrap().unwrap();
        assert_eq!(inside.outcome(), b"charged");
        assert!(payments.get(b"pay-7").await.unwrap().is_none(), "seen before the commit");
        transaction.rollback().await.unwrap();
        assert_eq!(charges(&client).await, 0);
        let meta = payments.peek(b"pay-7").await.unwrap().unwrap();
        assert_eq!((meta.status, meta.version), (Status::InProgress, grant.version));

        let transaction = client.transaction().await.unwrap();
        transaction.execute(CHARGE, &[]).await.unwrap();
        let within = payments.within(&transaction);
        within.complete(b"pay-7", grant.version, b"charged").await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(charges(&client).await, 1);
        let record = payments.get(b"pay-7").await.unwrap().unwrap();
        assert_eq!(record.outcome(), b"charged");
    });
}

#[test]
fn a_late_holder_cannot_commit_its_rows() {
    on_server(|server, database| async move {
        let payments = namespace(server, &database).await;
        let mut client = server.client(&database).await;
        client.batch_execute(CHARGES).await.unwrap();
        let short = BeginOptions::new().lease(Duration::from_millis(1));
        let Begin::Started(late) = payments.begin(b"k", short).await.unwrap() else { panic!() };
        tokio::time::sleep(Duration::from_millis(20)).await;
        let transaction = client.transaction().await.unwrap();
        transaction.execute(CHARGE, &[]).await.unwrap();
        let other = begun(&payments, b"k").await;
        let lost = payments.within(&transaction).complete(b"k", late.version, b"x").await;
        assert!(matches!(lost, Err(Error::LeaseLost)), "{lost:?}");
        // It is the caller's to roll back; the transaction itself goes on.
        transaction.rollback().await.unwrap();
        payments.complete(b"k", other.version, b"y").await.unwrap();
        assert_eq!(charges(&client).await, 0);
    });
}

#[test]
fn a_key_checked_in_a_transaction_is_new_to_one_of_two() {
    on_server(|server, database| async move {
        let orders = namespace(server, &database).await;
        for commit in [true, false] {
            let key = [u8::from(commit)];
            let mut client = server.client(&database).await;
            let transaction = client.transaction().await.unwrap();
            let within = orders.within(&transaction);
            assert!(within.check_and_set(&key, b"a", CheckOptions::new()).await.unwrap().is_new());
            let (other, at) = (orders.clone(), key);
            let waiting =
                tokio::spawn(
                    async move { other.check_and_set(&at, b"b", CheckOptions::new()).await },
                );
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(!waiting.is_finished(), "answered before it was decided");
            if commit {
                transaction.commit().await.unwrap();
            } else {
                transaction.rollback().await.unwrap();
            }
            assert_eq!(waiting.await.unwrap().unwrap().is_duplicate(), commit);
        }
    });
}

#[test]
fn a_lease_lasts_its_time_from_when_it_is_given_however_long_the_call_had_to_wait() {
    on_server(|server, database| async move {
        let orders = namespace(server, &database).await;
        let mut client = server.client(&database).await;
        let transaction = client.transaction().await.unwrap();
        begun(&orders.within(&transaction), b"k").await;
        let other = orders.clone();
        let waiting = tokio::spawn(async move {
            let options = BeginOptions::new().lease(Duration::from_millis(300));
            other.begin(b"k", options).await
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        transaction.rollback().await.unwrap();
        let Begin::Started(grant) = waiting.await.unwrap().unwrap() else { panic!() };
        let meta = orders.peek(b"k").await.unwrap().unwrap();
        assert_eq!(meta.status, Status::InProgress, "{grant:?}, {meta:?}");
        assert_eq!((meta.version, meta.deadline), (grant.version, Some(grant.deadline)));
        let lasts = grant.deadline.as_millis() - meta.updated.as_millis();
        assert_eq!(lasts, 300);
    });
}

#[test]
fn what_ends_is_decided_by_the_time_of_the_call_and_not_of_the_transaction() {
    on_server(|server, database| async move {
        let orders = namespace(server, &database).await;
        let mut client = server.client(&database).await;
        let options = CheckOptions::new().retention(Duration::from_millis(150));
        assert!(orders.check_and_set(b"k", b"a", options).await.unwrap().is_new());
        let transaction = client.transaction().await.unwrap();
        let within = orders.within(&transaction);
        let check = within.check_and_set(b"k", b"b", CheckOptions::new()).await.unwrap();
        assert!(check.is_duplicate());
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(within.peek(b"k").await.unwrap().is_none());
        assert!(within.check_and_set(b"k", b"b", CheckOptions::new()).await.unwrap().is_new());
        transaction.commit().await.unwrap();
        assert_eq!(orders.get(b"k").await.unwrap().unwrap().outcome(), b"b");
    });
}

/// Changes a key behind the back of a transaction that has looked at the database already.
async fn overtaken(level: IsolationLevel, orders: &Namespace, client: &mut Client) {
    let grant = begun(orders, b"k").await;
    let transaction = client.build_transaction().isolation_level(level).start().await.unwrap();
    let within = orders.within(&transaction);
    within.peek(b"k").await.unwrap();
    let _ = orders.check_and_set(b"new", b"theirs", CheckOptions::new()).await.unwrap();
    orders.complete(b"k", grant.version, b"theirs").await.unwrap();
    let checked = within.check_and_set(b"new", b"mine", CheckOptions::new()).await;
    assert!(matches!(checked, Err(Error::Aborted { .. })), "{checked:?}");
    let after = within.peek(b"k").await;
    assert!(matches!(after, Err(Error::Aborted { .. })), "{after:?}: it can only be rolled back");
    transaction.rollback().await.unwrap();

    let transaction = client.build_transaction().isolation_level(level).start().await.unwrap();
    let within = orders.within(&transaction);
    within.peek(b"k").await.unwrap();
    assert!(orders.remove(b"k", None).await.unwrap());
    let removed = within.remove(b"k", None).await;
    let error = removed.unwrap_err();
    assert!(matches!(error, Error::Aborted { .. }) && error.is_retryable(), "{error:?}");
    assert!(!error.is_indeterminate());
    transaction.rollback().await.unwrap();
    assert_eq!(orders.get(b"new").await.unwrap().unwrap().outcome(), b"theirs");
    orders.remove(b"new", None).await.unwrap();
}

#[test]
fn a_transaction_that_another_overtakes_is_told_so_and_decides_nothing() {
    on_server(|server, database| async move {
        let orders = namespace(server, &database).await;
        let mut client = server.client(&database).await;
        for level in [IsolationLevel::RepeatableRead, IsolationLevel::Serializable] {
            overtaken(level, &orders, &mut client).await;
        }
    });
}

#[test]
fn keys_of_a_transaction_can_be_handled_as_a_batch_and_its_versions_rise() {
    on_server(|server, database| async move {
        let orders = namespace(server, &database).await;
        let mut client = server.client(&database).await;
        let transaction = client.transaction().await.unwrap();
        let within = orders.within(&transaction);
        let items: [(&[u8], &[u8]); 3] = [(b"b", b"1"), (b"a", b"2"), (b"b", b"3")];
        let answers = within.check_and_set_many(&items, CheckOptions::new()).await.unwrap();
        let new: Vec<bool> = answers.into_iter().map(|check| check.unwrap().is_new()).collect();
        assert_eq!(new, [true, true, false]);
        transaction.rollback().await.unwrap();
        assert!(orders.peek(b"a").await.unwrap().is_none());
        let first = begun(&orders, b"a").await;
        let transaction = client.transaction().await.unwrap();
        let within = orders.within(&transaction);
        assert!(within.remove(b"a", Some(first.version)).await.unwrap());
        let second = begun(&within, b"a").await;
        within.release(b"a", second.version, None).await.unwrap();
        let third = begun(&within, b"a").await;
        assert!(first.version < second.version && second.version < third.version);
        transaction.commit().await.unwrap();
        let lost = orders.complete(b"a", first.version, b"").await;
        assert!(matches!(lost, Err(Error::LeaseLost)), "{lost:?}");
        orders.complete(b"a", third.version, b"").await.unwrap();
    });
}

#[test]
fn those_who_wait_are_told_of_a_completion_when_it_is_committed() {
    on_server(|server, database| async move {
        let postgres = open(server, &database).await;
        let orders = postgres.namespace("orders", Policy::default()).await.unwrap();
        let mut client = server.client(&database).await;
        let grant = begun(&orders, b"k").await;
        let other = orders.clone();
        let waiting = tokio::spawn(async move { other.wait(b"k", Duration::from_secs(20)).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        let transaction = client.transaction().await.unwrap();
        orders.within(&transaction).complete(b"k", grant.version, b"x").await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!waiting.is_finished(), "told of what was not committed");
        transaction.commit().await.unwrap();
        let meta = waiting.await.unwrap().unwrap().unwrap();
        assert_eq!(meta.status, Status::Completed);
    });
}
