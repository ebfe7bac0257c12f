//! Keys from content: what makes two contents one, and what must not.

use std::collections::BTreeSet;

use oncelog::Ttl;
use oncelog::recipes::digest::{DIGEST_BYTES, Digest, Digests};

use crate::lease::open;
use crate::recipes::at_once;
use crate::setup::{clock, directory, small};

/// A request as it comes: two texts of one meaning, and a time that says nothing.
struct Order {
    customer: &'static str,
    amount: u64,
    sent: u64,
}

fn key(digests: &Digests, order: &Order) -> Digest {
    assert!(order.sent != 0, "looked at, and left out");
    let amount = order.amount.to_string();
    digests.begin("orders").field("customer", order.customer).field("amount", amount).finish()
}

#[test]
fn contents_that_differ_in_what_is_left_out_alone_have_one_key() {
    let digests = Digests::with_secret([7; 32]);
    let order = Order { customer: "ann", amount: 100, sent: 1 };
    assert_eq!(key(&digests, &order), key(&digests, &Order { sent: 2, ..order }));
    assert_ne!(key(&digests, &order), key(&digests, &Order { amount: 101, ..order }));
    assert_ne!(key(&digests, &order), key(&digests, &Order { customer: "bob", ..order }));
}

#[test]
fn no_two_ways_to_cut_a_content_into_parts_have_one_key() {
    let digests = Digests::with_secret([7; 32]);
    let begin = |purpose: &str| digests.begin(purpose);
    let body = |purpose: &str, bytes: &str| begin(purpose).body().update(bytes).finish();
    let keys = [
        begin("p").finish(),
        begin("").field("p", "").finish(),
        begin("p").field("ab", "c").finish(),
        begin("p").field("a", "bc").finish(),
        begin("p").field("", "abc").finish(),
        begin("pa").field("b", "c").finish(),
        begin("p").field("a", "b").field("c", "").finish(),
        begin("p").field("c", "").field("a", "b").finish(),
        body("p", ""),
        body("p", "abc"),
        body("pa", "bc"),
        begin("p").field("a", "b").body().update("c").finish(),
        Digests::with_secret([8; 32]).begin("p").finish(),
    ];
    let distinct: BTreeSet<[u8; DIGEST_BYTES]> = keys.iter().map(|key| *key.as_bytes()).collect();
    let short: BTreeSet<[u8; 16]> = keys.iter().map(Digest::short).collect();
    assert_eq!((distinct.len(), short.len()), (keys.len(), keys.len()));
}

#[test]
fn a_body_has_one_key_wherever_it_is_cut() {
    let digests = Digests::with_secret([7; 32]);
    let body: Vec<u8> = (0..5_000_u32).map(|byte| byte.to_le_bytes()[0]).collect();
    let whole = digests.begin("p").body().update(&body).finish();
    for cut in [0, 1, 63, 64, 1_023, 1_024, 4_999, 5_000] {
        let (front, back) = body.split_at(cut);
        assert_eq!(digests.begin("p").body().update(front).update(back).finish(), whole);
    }
}

#[test]
fn a_stores_secret_is_made_once_and_stays() {
    let (first, second, clock) = (directory(), directory(), clock());
    let store = small().clock(clock.clone()).ttl(Ttl::After(crate::recipes::SECOND));
    let store = store.open(first.path()).unwrap();
    let make = |_| Digests::open(&store, "d").unwrap().begin("p").finish();
    let keys = at_once(make);
    assert!(keys.iter().all(|key| *key == keys[0]));
    drop(store);
    clock.advance(1_000 * crate::recipes::HOUR);
    let store = open(first.path(), &clock);
    assert_eq!(Digests::open(&store, "d").unwrap().begin("p").finish(), keys[0]);
    assert_ne!(Digests::open(&store, "e").unwrap().begin("p").finish(), keys[0]);
    let other = open(second.path(), &clock);
    assert_ne!(Digests::open(&other, "d").unwrap().begin("p").finish(), keys[0]);
}
