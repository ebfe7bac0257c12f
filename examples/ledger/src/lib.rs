//! What the consumers of the broker examples change: accounts in a database, and who asked for it.
//!
//! Paying is an addition, so a payment that is made twice leaves a wrong balance. The ledger keeps
//! the id of each payment that it has made in the same transaction as the balance, and refuses a
//! repetition. That is what makes the whole exact: no store of marks can do it alone, since a
//! consumer may die when its effect has happened and nobody has been told. What the marks do is to
//! keep nearly every repetition away from here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use rusqlite::{Connection, params};

/// Anything that went wrong.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What a message asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The same in each message that asks for this payment, however often it is sent.
    pub id: String,
    pub account: String,
    pub amount: i64,
}

/// The payment as the body of a message.
impl fmt::Display for Payment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.id, self.account, self.amount)
    }
}

impl FromStr for Payment {
    type Err = Failure;

    fn from_str(body: &str) -> Result<Self, Failure> {
        let [id, account, amount] = body.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("a message is no payment: {body:?}").into());
        };
        Ok(Self { id: id.into(), account: account.into(), amount: amount.parse()? })
    }
}

/// What a producer sends that hears of too few of its sends: `count` payments, some of them again
/// at once, some after a while, and the first ones again at the end.
pub fn sent(count: usize) -> Vec<Payment> {
    let payments: Vec<Payment> = (0..count).map(payment).collect();
    let mut sent = Vec::new();
    for (number, payment) in payments.iter().enumerate() {
        sent.push(payment.clone());
        if number % 3 == 0 {
            sent.push(payment.clone());
        }
        if number % 5 == 0 {
            sent.extend(number.checked_sub(40).map(|earlier| payments[earlier].clone()));
        }
    }
    sent.extend(payments.into_iter().take(20));
    sent
}

fn payment(number: usize) -> Payment {
    let account = ["ada", "bob", "cleo", "dan"][number % 4].into();
    let amount = i64::try_from(1 + number * 7 % 97).unwrap_or(1);
    Payment { id: format!("payment-{number}"), account, amount }
}

/// The accounts.
pub struct Ledger(Connection);

impl Ledger {
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Failure> {
        let database = Connection::open(path)?;
        // Every commit is synced: what is marked as handled was never only on its way to the disk.
        database.execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             CREATE TABLE IF NOT EXISTS asked (id TEXT, token INTEGER);
             CREATE TABLE IF NOT EXISTS paid (id TEXT PRIMARY KEY, token INTEGER);
             CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, payments, balance);",
        )?;
        Ok(Self(database))
    }

    /// Makes the payment; false if it was made before. The token is that of the lease under which
    /// it is asked for, and kept for whoever has to find out later.
    pub fn pay(&mut self, payment: &Payment, token: u64) -> Result<bool, Failure> {
        let Payment { id, account, amount } = payment;
        let token = i64::try_from(token)?;
        let transaction = self.0.transaction()?;
        transaction.execute("INSERT INTO asked VALUES (?, ?)", params![id, token])?;
        let sql = "INSERT INTO paid VALUES (?, ?) ON CONFLICT DO NOTHING";
        let is_first = transaction.execute(sql, params![id, token])? == 1;
        if is_first {
            transaction.execute(
                "INSERT INTO accounts VALUES (?1, 1, ?2) ON CONFLICT (name)
                 DO UPDATE SET payments = payments + 1, balance = balance + ?2",
                params![account, amount],
            )?;
        }
        transaction.commit()?;
        Ok(is_first)
    }

    /// What it took, in words; an error unless each of so many payments was made once, and few were
    /// asked for again.
    pub fn check(&self, count: usize, repeats_max: i64) -> Result<String, Failure> {
        let mut expected = BTreeMap::<String, (i64, i64)>::new();
        for payment in (0..count).map(payment) {
            let (payments, balance) = expected.entry(payment.account).or_default();
            (*payments, *balance) = (*payments + 1, *balance + payment.amount);
        }
        let mut statement = self.0.prepare("SELECT name, payments, balance FROM accounts")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
        let accounts: BTreeMap<String, (i64, i64)> = rows.collect::<Result<_, _>>()?;
        if accounts != expected {
            return Err(format!("the accounts are {accounts:?}, not {expected:?}").into());
        }
        let asked: i64 = self.0.query_row("SELECT count(*) FROM asked", [], |row| row.get(0))?;
        let repeats = asked - i64::try_from(count)?;
        if repeats > repeats_max {
            let what =
                format!("{repeats} repetitions reached the ledger, of {repeats_max} at most");
            return Err(what.into());
        }
        Ok(format!(
            "{count} payments made, each once; the ledger was asked {asked} times and refused \
             {repeats} repetitions"
        ))
    }
}
