//! Recipes and scans at the level `Synced`.
//!
//! No answer rests on what a power loss may take back, whoever has recorded it, and whether it says
//! that something is known or that nothing is.

use std::time::Duration;

use oncelog::recipes::audit::Audit;
use oncelog::recipes::budget::{Attempt, Budgets, Limits};
use oncelog::recipes::checkpoint::{Jobs, Resume};
use oncelog::recipes::debounce::{Admit, Debounce, Window};
use oncelog::recipes::fence::{Confirm, Fence};
use oncelog::recipes::nonce::{self, Nonces};
use oncelog::recipes::schedule::{Fire, Schedule};
use oncelog::recipes::sequence::{Accept, Order, Sequences};
use oncelog::recipes::state::{States, Transition};
use oncelog::recipes::token::{Consume, Tokens};
use oncelog::{Scan, Scope, Store};

use super::{HOUR, SECOND};
use crate::durable::Levels;
use crate::setup::directory;

#[test]
fn a_scan_tells_no_key_whose_state_a_power_loss_could_take_back() {
    let directory = directory();
    let levels = Levels::open(directory.path());
    let all =
        |store: &Store| store.scan(Scan::new()).inspect(|found| assert!(found.is_ok())).count();
    let found = levels.settles(
        "keys",
        || (0..500_u32).for_each(|i| assert!(levels.process.insert(i.to_le_bytes()).unwrap())),
        || all(&levels.synced),
    );
    assert_eq!(found, 500);
    // That a key is not there is an answer too.
    let removed = || assert!(levels.process.remove(7_u32.to_le_bytes()).unwrap());
    assert_eq!(levels.settles("a removal", removed, || all(&levels.synced)), 499);
    let syncs = levels.process.stats().syncs;
    assert_eq!(all(&levels.synced), 499);
    assert_eq!(levels.process.stats().syncs, syncs, "durable keys cost no sync");
    let one = || levels.process.insert("one").unwrap();
    let first = levels.settles("one item", one, || levels.synced.scan(Scan::new()).next());
    assert!(first.unwrap().is_ok());
    // At another level nothing waits.
    assert!(levels.process.insert("more").unwrap());
    assert_eq!(all(&levels.process), 501);
    assert!(levels.process.stats().unsynced_bytes > 0);
}

#[test]
fn an_audit_tells_what_is_on_stable_storage() {
    let directory = directory();
    let levels = Levels::open(directory.path());
    let [process, synced] =
        [&levels.process, &levels.synced].map(|store| Audit::open(store, "orders", HOUR).unwrap());
    let observe = || assert!(process.observe("a", "1").is_first());
    let report = levels.settles("report", observe, || synced.report().unwrap());
    assert_eq!((report.keys, report.repeats), (1, 0));
    let again = || process.observe("a", "2");
    let tally = levels.settles("tally", again, || synced.tally("a").unwrap());
    assert_eq!(tally.unwrap().diverged, 1);
    levels.records("observe", || synced.observe("b", "1"));
}

#[test]
fn repeats_at_synced_wait_for_the_record_they_rest_on() {
    let directory = directory();
    let levels = Levels::open(directory.path());
    let stores = [&levels.process, &levels.synced];

    let [tokens, synced] = stores.map(|store| Tokens::open(store, "links").unwrap());
    let token = levels.records("issue", || synced.issue("subject", HOUR).unwrap());
    let consume = || tokens.consume(&token).unwrap();
    let again = levels.settles("consume", consume, || synced.consume(&token).unwrap());
    assert!(matches!(again, Consume::Already { .. }));

    let [nonces, synced] = stores.map(|store| Nonces::open(store, "calls", HOUR).unwrap());
    let sent = levels.process.now();
    let accept = || nonces.accept("app", "n", sent).unwrap();
    let again = levels.settles("nonce", accept, || synced.accept("app", "n", sent).unwrap());
    assert_eq!(again, nonce::Accept::Duplicate);
    let new = levels.records("a new nonce", || synced.accept("app", "m", sent).unwrap());
    assert_eq!(new, nonce::Accept::New);

    let window = || Window::Fixed(HOUR);
    let [calls, synced] = stores.map(|store| Debounce::open(store, "clicks", window()).unwrap());
    let scope = Scope::new().principal("user");
    let admit = || calls.admit(&scope, "a").unwrap();
    let again = levels.settles("debounce", admit, || synced.admit(&scope, "a").unwrap());
    assert!(matches!(again, Admit::Repeat { .. }));

    let [numbers, synced] =
        stores.map(|store| Sequences::open(store, "s", Order::Strict { first: 1 }).unwrap());
    let accept = || numbers.accept("source", 1, 1).unwrap();
    let again = levels.settles("sequence", accept, || synced.check("source", 1, 1).unwrap());
    assert!(!matches!(again, Accept::New { .. }));
    let next = || numbers.accept("source", 1, 2).unwrap();
    levels.settles("progress", next, || synced.progress("source").unwrap());

    let [states, synced] = stores.map(|store| States::open(store, "orders").unwrap());
    let create = || states.create("a", "paid").unwrap();
    levels.settles("state", create, || synced.get("a").unwrap());
    let Transition::Made(now) = levels.records("create", || synced.create("b", "new").unwrap())
    else {
        panic!("a new key")
    };
    let delete = || assert!(states.delete("b", now).unwrap());
    assert!(levels.settles("a deleted state", delete, || synced.get("b").unwrap()).is_none());

    let [fences, synced] = stores.map(|store| Fence::open(store, "tcc", HOUR).unwrap());
    let tried = || fences.on_try("tx", "branch").unwrap();
    let confirm = levels.settles("fence", tried, || synced.on_confirm("tx", "branch").unwrap());
    assert!(matches!(confirm, Confirm::Proceed));
}

#[test]
fn work_at_synced_is_refused_and_handed_on_by_what_is_on_stable_storage() {
    let directory = directory();
    let levels = Levels::open(directory.path());
    let stores = [&levels.process, &levels.synced];

    let limits = || Limits { attempts: 3, ..Limits::default() };
    let [budgets, synced] = stores.map(|store| Budgets::open(store, "mails", limits()).unwrap());
    let attempt = || budgets.attempt("a").unwrap();
    let second = levels.settles("budget", attempt, || synced.attempt("a").unwrap());
    assert!(!matches!(second, Attempt::Go(_)));

    let [jobs, synced] = stores.map(|store| Jobs::open(store, "imports", HOUR, 24 * HOUR).unwrap());
    let resumed = || jobs.resume("a").unwrap();
    let second = levels.settles("job", resumed, || synced.resume("a").unwrap());
    assert!(!matches!(second, Resume::Started(_)));

    let [runs, synced] =
        stores.map(|store| Schedule::open(store, "nightly", HOUR, 24 * HOUR).unwrap());
    let at = runs.latest(SECOND);
    let fired = || runs.fire("job", at).unwrap();
    let second = levels.settles("schedule", fired, || synced.fire("job", at).unwrap());
    assert!(!matches!(second, Fire::Started(_)));
    let other = || runs.fire("other", at).unwrap();
    let due =
        levels.settles("due", other, || synced.due("other", at, Duration::from_secs(1)).unwrap());
    assert!(!due.contains(&at));
}
