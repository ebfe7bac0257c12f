//! A record's header: writing it, and reading it with its check.

use std::hint::black_box;

use criterion::Criterion;

use crate::format::record::{Common, Header, Kind, Marks};
use crate::key::{KeyHash, KeyHasher, SECRET_BYTES};
use crate::time::Timestamp;
use crate::version::Version;

const COMMON: Common =
    Common { seed: 7, version: 1 << 32, created: 1_700_000_000_000, lifetime: 86_400_000 };
const OFFSET: u64 = 4160;
const KEY: [u8; 16] = [3; 16];
const OUTCOME: [u8; 32] = [5; 32];

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    let hasher = KeyHasher::new([9; SECRET_BYTES]);
    let hash = hasher.hash(&KEY);
    let digest = hash.digest(&OUTCOME);
    group.bench_function("hash_key", |bencher| {
        bencher.iter(|| hasher.hash(black_box(&KEY)));
    });
    group.bench_function("digest", |bencher| {
        bencher.iter(|| KeyHash::digest(black_box(hash), black_box(&OUTCOME)));
    });
    for (name, lifetime) in [("compact", COMMON.lifetime), ("wide", 17)] {
        let header = header(lifetime).fit(&COMMON);
        let words = header.encode(&COMMON, OFFSET, digest);
        assert_eq!(Header::decode(&words, &COMMON, OFFSET), Some(header));
        assert!(Header::payload_agrees(&words, &COMMON, OFFSET, digest));
        assert!(!Header::payload_agrees(&words, &COMMON, OFFSET, digest ^ 1));
        group.bench_function(format!("encode/{name}"), |bencher| {
            bencher.iter(|| black_box(&header).encode(&COMMON, OFFSET, black_box(digest)));
        });
        group.bench_function(format!("decode/{name}"), |bencher| {
            bencher.iter(|| Header::decode(black_box(&words), &COMMON, OFFSET));
        });
        group.bench_function(format!("payload_agrees/{name}"), |bencher| {
            bencher.iter(|| Header::payload_agrees(black_box(&words), &COMMON, OFFSET, digest));
        });
    }
    group.finish();
}

fn header(lifetime: u64) -> Header {
    let created = Timestamp::from_millis(COMMON.created + 1_000);
    let expires = Timestamp::from_millis(COMMON.created + 1_000 + lifetime);
    let lengths = (KEY.len() as u32, OUTCOME.len() as u32);
    let version = Version::from_u64(COMMON.version + 5);
    Header::new(Kind::Completed, lengths, version, created, expires).marked(Marks::NONE)
}
