//! Recipes of several kinds in one store, under one name and with one key.

use oncelog::recipes::{audit::Audit, debounce, fence, nonce, sequence, state, token};
use oncelog::{Scope, Store};

use crate::lease::open;
use crate::recipes::HOUR;
use crate::setup::{clock, directory};

#[test]
fn recipes_of_several_kinds_under_one_name_and_the_callers_own_keys_never_meet() {
    let (directory, clock) = (directory(), clock());
    let store: Store = open(directory.path(), &clock);
    let plain = store.namespace("n", oncelog::Policy::default()).unwrap();
    assert!(plain.insert("k").unwrap() && store.insert("k").unwrap());
    let states = state::States::open(&store, "n").unwrap();
    assert!(states.create("k", "\u{1}").unwrap().is_made());
    let sequences = sequence::Sequences::open(&store, "n", sequence::Order::Window(64)).unwrap();
    let new = sequence::Accept::New { skipped: 0 };
    assert_eq!(sequences.accept("k", 0, 1).unwrap(), new);
    let fence = fence::Fence::open(&store, "n", HOUR).unwrap();
    assert_eq!(fence.on_try("k", "k").unwrap(), fence::Try::Proceed);
    let nonces = nonce::Nonces::open(&store, "n", HOUR).unwrap();
    assert_eq!(nonces.accept("k", "k", store.now()).unwrap(), nonce::Accept::New);
    let window = debounce::Window::Fixed(HOUR);
    let clicks = debounce::Debounce::open(&store, "n", window).unwrap();
    let scope = Scope::new().principal("k");
    assert_eq!(clicks.admit(&scope, "k").unwrap(), debounce::Admit::First);
    let audit = Audit::open(&store, "n", HOUR).unwrap();
    assert!(audit.observe("k", "").is_first());
    let tokens = token::Tokens::open(&store, "n").unwrap();
    let token = tokens.issue("", HOUR).unwrap();
    assert!(states.get(&token).unwrap().is_none());
    let other = state::States::open(&store, "another name").unwrap();
    assert!(other.get("k").unwrap().is_none());
    assert_eq!(audit.report().unwrap().keys, 1);
}
