//! The one race in which a version could fall: a whole life of the key between drawing and writing.

use std::time::Duration;

use oncelog::backend::{Backend, Begin, Grant};
use oncelog::{BeginOptions, CheckOptions};

use crate::{namespace, on_server};

/// Keeps the sessions of one connection waiting between drawing a version and looking for the key.
const STALL: &str = "
    CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF current_setting('application_name') = 'slow' THEN
            PERFORM pg_advisory_xact_lock(1);
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER stall BEFORE INSERT ON oncelog.records FOR EACH ROW EXECUTE FUNCTION stall();
";

/// How many sessions are kept waiting.
const STALLED: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";

fn started(begin: Begin) -> Grant {
    match begin {
        Begin::Started(grant) => grant,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_claim_that_was_stalled_through_a_whole_life_of_its_key_gets_a_greater_version() {
    on_server(|server, database| async move {
        let quick = namespace(server, &database).await;
        let client = server.client(&database).await;
        client.batch_execute(STALL).await.unwrap();
        let url = format!("{}&application_name=slow", server.url(&database));
        let opened = oncelog_postgres::Builder::url(&url).unwrap().open().await.unwrap();
        let slow = opened.namespace("orders", oncelog::Policy::default()).await.unwrap();
        // A call that had to wait long draws another version in any case: some rounds are short.
        for round in 0..12 {
            let batch = round % 2 == 1;
            client.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
            let stalled = slow.clone();
            let stalled = tokio::spawn(async move {
                if batch {
                    let items: [(&[u8], &[u8]); 2] = [(b"j", b""), (b"k", b"")];
                    stalled.check_and_set_many(&items, CheckOptions::new()).await.unwrap();
                } else {
                    started(stalled.begin(b"k", BeginOptions::new()).await.unwrap());
                }
            });
            while client.query_one(STALLED, &[]).await.unwrap().get::<_, i64>(0) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let life = started(quick.begin(b"k", BeginOptions::new()).await.unwrap());
            assert!(quick.remove(b"k", None).await.unwrap());
            client.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
            stalled.await.unwrap();
            let meta = quick.peek(b"k").await.unwrap().unwrap();
            assert!(meta.version > life.version, "{meta:?} comes after {life:?}");
            quick.remove(b"k", None).await.unwrap();
        }
    });
}
