//! Keys chosen to crowd the index of a hash without a secret spread evenly in every store.

use crate::config::Config;
use crate::engine::Engine;
use crate::engine::bench::Bench;
use crate::key::{KeyHasher, SECRET_BYTES};
use crate::record::Ignore;

/// Keys chosen, and how many bits of their hash agree under the secret that is known.
const KEYS: usize = 8_000;
const BITS: u32 = 12;

/// The secret that whoever chooses the keys believes in.
const KNOWN: [u8; SECRET_BYTES] = [0x5a; SECRET_BYTES];

/// Keys whose hashes under the known secret begin with the same bits.
fn chosen() -> Vec<[u8; 8]> {
    let hasher = KeyHasher::new(KNOWN);
    let keys = (0_u64..).map(u64::to_le_bytes);
    keys.filter(|key| hasher.hash(key).as_u64() >> (64 - BITS) == 0).take(KEYS).collect()
}

/// How many keys the fullest stripe holds.
fn fullest(engine: &Engine, keys: &[[u8; 8]]) -> u64 {
    for key in keys {
        let found = engine.check_and_set(key, &[], engine.lifetime(), &mut Ignore);
        assert!(!found.unwrap());
    }
    let stripes = 0..engine.index.stripe_count();
    stripes.map(|stripe| engine.index.lock_stripe(stripe).held()).max().unwrap_or(0)
}

#[test]
fn chosen_keys_spread_over_the_stripes_of_a_store_whose_secret_is_not_known() {
    let keys = chosen();
    let many = |config: &mut Config| config.stripes = 64;
    let engine = Bench::with(many).open();
    let stripes = engine.index.stripe_count() as u64;
    let even = KEYS as u64 / stripes;
    let most = fullest(&engine, &keys);
    assert!(most < even + 8 * even.isqrt().max(4), "{most} in one of {stripes} stripes");
    // Under the known secret all of them meet, and are answered rightly all the same.
    let mut bench = Bench::with(many);
    bench.secret = Some(KNOWN);
    let engine = bench.open();
    assert_eq!(fullest(&engine, &keys), KEYS as u64);
    let known = |key: &[u8; 8]| engine.get(key, &mut Ignore).unwrap();
    assert!(keys.iter().all(known) && !known(&u64::MAX.to_le_bytes()));
}

#[test]
fn every_store_has_a_secret_of_its_own_and_keeps_it() {
    let bench = Bench::new();
    let hash = |engine: &Engine| engine.hasher().hash(b"key").as_u64();
    let first = hash(&bench.open());
    assert_eq!(first, hash(&bench.open()));
    assert_ne!(first, hash(&Bench::new().open()));
}
