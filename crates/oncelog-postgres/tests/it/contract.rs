//! The suite of the contract, over a server that is killed and started again.

use std::time::Duration;

use oncelog::backend::AnyBackend;
use oncelog::backend::suite::{Able, Clients, Harness, Skew, Task, run_all};
use oncelog::{Policy, Result};
use oncelog_postgres::{Builder, Dial};

use crate::server::{Server, is_installed, runtime};

struct Postgres {
    server: Server,
    prepared: bool,
    listening: bool,
}

impl Postgres {
    fn builder(&self) -> Builder<oncelog_postgres::Lines> {
        let dial = Dial::url(&self.server.url("postgres")).unwrap();
        let lines = oncelog_postgres::Lines::new(dial.clone(), 4);
        let builder = Builder::new(lines).prepared(self.prepared).outcome_bytes_max(100_000);
        if self.listening { builder.listening(dial) } else { builder }
    }
}

impl Harness for Postgres {
    fn client<'a>(&'a self, name: &'a str, policy: Policy) -> Task<'a, Result<AnyBackend>> {
        Box::pin(async move {
            let opened = self.builder().open().await?;
            Ok(AnyBackend::new(opened.namespace(name, policy).await?))
        })
    }

    fn spawn(&self, task: Task<'static, ()>) {
        tokio::spawn(task);
    }

    fn sleep(&self, time: Duration) -> Task<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn restart(&self) -> Task<'_, Able<Clients>> {
        Box::pin(async {
            self.server.kill();
            self.server.start_again().await;
            Able::Done(Clients::GoOn)
        })
    }

    fn skewed_client<'a>(
        &'a self,
        _name: &'a str,
        _policy: Policy,
        _skew: Skew,
    ) -> Task<'a, Able<Result<AnyBackend>>> {
        Box::pin(async { Able::Cannot("a clock is that of a process; `skew` starts some") })
    }

    fn unit(&self) -> Duration {
        Duration::from_millis(200)
    }
}

/// The suite over a server with these settings.
fn keeps_the_contract(settings: &[&str], prepared: bool, listening: bool) {
    if !is_installed() {
        return;
    }
    runtime().block_on(async {
        let server = Server::start(settings).await;
        let harness = Postgres { server, prepared, listening };
        harness.builder().migrate().await.unwrap();
        run_all(&harness).await.assert_passed();
    });
}

#[test]
fn postgres_keeps_the_contract() {
    keeps_the_contract(&[], true, true);
}

#[test]
fn postgres_keeps_the_contract_without_prepared_statements_and_without_being_told() {
    keeps_the_contract(&["synchronous_commit=local"], false, false);
}

#[test]
fn postgres_keeps_the_contract_where_sessions_are_set_to_serializable() {
    keeps_the_contract(&["default_transaction_isolation=serializable"], true, true);
}
