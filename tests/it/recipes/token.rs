//! Tokens: one use, told from none, between threads and over crashes.

use std::time::Duration;

use oncelog::recipes::token::{Consume, Tokens};

use crate::lease::open;
use crate::recipes::{HOUR, at_once, count};
use crate::setup::{clock, directory, maintain, small};

#[test]
fn of_callers_who_consume_one_token_at_once_one_is_told_to_act() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let tokens = Tokens::open(&store, "form").unwrap();
    for _ in 0..500 {
        let token = tokens.issue("form 1", HOUR).unwrap();
        let answers = at_once(|_| tokens.consume(&token).unwrap());
        assert_eq!(count(&answers, |answer| *answer == Consume::Now(b"form 1".to_vec())), 1);
        assert_eq!(count(&answers, |answer| matches!(answer, Consume::Already { .. })), 3);
    }
}

#[test]
fn a_used_token_is_told_from_an_unknown_one_until_its_end_and_over_a_crash() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let tokens = Tokens::open(&store, "form").unwrap();
    let [used, unused] = [(); 2].map(|()| tokens.issue("x", HOUR).unwrap());
    clock.advance(Duration::from_secs(60));
    let at = store.now();
    assert_eq!(tokens.consume(&used).unwrap(), Consume::Now(b"x".to_vec()));
    drop((tokens, store));
    clock.advance(HOUR - Duration::from_secs(61));
    let store = open(directory.path(), &clock);
    maintain(&store);
    let tokens = Tokens::open(&store, "form").unwrap();
    assert_eq!(tokens.consume(&used).unwrap(), Consume::Already { at });
    clock.advance(Duration::from_secs(1));
    for token in [&used, &unused] {
        assert_eq!(tokens.consume(token).unwrap(), Consume::Unknown);
    }
}

#[test]
fn a_token_is_of_its_name_and_never_given_out_twice() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let (one, two) = (Tokens::open(&store, "1").unwrap(), Tokens::open(&store, "2").unwrap());
    let mut all: Vec<String> = (0..1_000).map(|_| one.issue("", HOUR).unwrap()).collect();
    let token = all[0].clone();
    assert_eq!((token.len(), two.consume(&token).unwrap()), (32, Consume::Unknown));
    for bad in ["", "short", &format!("{token}0"), &token.to_uppercase()] {
        let unlike = bad != token;
        assert_eq!(one.consume(bad).unwrap() == Consume::Unknown, unlike, "{bad}");
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 1_000);
    assert_eq!(format!("{:?}", one.consume(&all[7]).unwrap_or(Consume::Unknown)).len(), 12);
}
