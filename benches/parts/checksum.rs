//! A record's checksum: CRC-32 beside XXH3, at the sizes of common records.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use xxhash_rust::xxh3::xxh3_64;

/// A key of 16 bytes with an outcome of 32, without and with the fields around them.
const SIZES: [usize; 2] = [48, 64];

pub(crate) fn benches(criterion: &mut Criterion) {
    assert_eq!(crc32fast::hash(b"123456789"), 0xCBF4_3926);
    assert_eq!(xxh3_64(b""), 0x2D06_8005_38D3_94C2);
    let mut group = criterion.benchmark_group("checksum");
    for size in SIZES {
        let mut payload = vec![0; size];
        payload.iter_mut().zip(1..).for_each(|(byte, value)| *byte = value);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("crc32/{size}"), |bencher| {
            bencher.iter(|| crc32fast::hash(black_box(&payload)));
        });
        group.bench_function(format!("xxh3_64/{size}"), |bencher| {
            bencher.iter(|| xxh3_64(black_box(&payload)));
        });
    }
    group.finish();
}
