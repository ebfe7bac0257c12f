//! The statements, one a verb, and who asks them: a pool's connection or a caller's transaction.

use std::future::Future;
use std::sync::LazyLock;

use oncelog::Result;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

/// A statement, with the types of its parameters.
#[derive(Debug)]
pub(crate) struct Verb {
    pub(crate) text: &'static str,
    pub(crate) types: Vec<Type>,
}

/// The values of a statement's parameters, in their order.
pub(crate) type Values<'a> = [&'a (dyn ToSql + Sync)];

/// Asks the server one statement, and waits for its rows.
pub(crate) trait Ask: Sync {
    fn ask(
        &self,
        verb: &'static Verb,
        values: &Values<'_>,
    ) -> impl Future<Output = Result<Vec<Row>>> + Send;
}

macro_rules! verbs {
    ($($name:ident: $text:expr, [$($type:ident),*];)*) => {
        $(
            pub(crate) static $name: LazyLock<Verb> =
                LazyLock::new(|| Verb { text: $text, types: vec![$(Type::$type),*] });
        )*
    };
}

verbs! {
    CHECK: "SELECT * FROM oncelog.check_and_set($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        [INT4, INT8, BYTEA, BYTEA, INT4, BYTEA, INT8, INT8, INT8, BOOL, INT8];
    CHECK_MANY: "SELECT * FROM \
        oncelog.check_and_set_many($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        [INT4, INT8, BYTEA_ARRAY, BYTEA_ARRAY, INT4_ARRAY, BYTEA_ARRAY, INT8, INT8, INT8, BOOL,
            INT8, BOOL];
    BEGIN: "SELECT * FROM oncelog.begin($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        [INT4, INT8, BYTEA, BYTEA, INT8, INT8, INT2, INT8, INT8, INT8, BOOL, INT8];
    FINISH: "SELECT * FROM oncelog.finish($1, $2, $3, $4, $5, $6, $7, $8)",
        [INT4, BYTEA, INT8, INT2, INT8, BYTEA, INT4, BYTEA];
    RESOLVE: "SELECT * FROM oncelog.resolve($1, $2, $3, $4, $5)",
        [INT4, BYTEA, BYTEA, INT4, BYTEA];
    REMOVE: "SELECT * FROM oncelog.remove($1, $2, $3)", [INT4, BYTEA, INT8];
    LOOK: "SELECT 1::smallint, m.now, r.version, r.kind, r.attempts, r.first_seen, r.updated, \
        r.deadline, r.expires, r.flags, r.fingerprint, g.gone, \
        coalesce(r.outcome_bytes, length(r.outcome)), \
        CASE WHEN $3 AND NOT g.gone THEN r.outcome END, r.digest \
        FROM oncelog.records r CROSS JOIN LATERAL (SELECT oncelog.now_ms()) AS m (now) \
        CROSS JOIN LATERAL (SELECT r.outcome IS NULL \
            OR coalesce(r.updated + r.outcome_ms <= m.now, false)) AS g (gone) \
        WHERE r.space = $1 AND r.key = $2",
        [INT4, BYTEA, BOOL];
    AWAIT: "SELECT oncelog.await($1, $2, $3, $4)", [INT4, BYTEA, TEXT, INT8];
    NAMESPACE: "SELECT * FROM oncelog.namespace($1)", [BYTEA];
    NOW: "SELECT oncelog.now_ms()", [];
    SWEEP: "SELECT oncelog.sweep($1)", [INT4];
}
