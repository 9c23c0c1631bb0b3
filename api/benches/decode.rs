//! Decoding a remote-write request of 2000 series of node_exporter's shape with one sample each.

#![expect(clippy::unwrap_used, missing_docs, reason = "a bench")]

#[allow(dead_code)]
#[path = "../tests/support/message.rs"]
mod message;

use api::write::{DecodeLimits, LabelCache, decode};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const SERIES: usize = 2000;

fn body() -> Vec<u8> {
    let one = |i: usize| {
        let cpu = (i % 64).to_string();
        let mode = ["idle", "user", "system", "iowait", "irq"][i % 5];
        let instance = format!("node-{:03}.example.internal:9100", i / 320);
        let labels = [
            ("__name__", "node_cpu_seconds_total"),
            ("cluster", "production-eu-1"),
            ("cpu", cpu.as_str()),
            ("datacenter", "fra1"),
            ("instance", instance.as_str()),
            ("job", "node"),
            ("mode", mode),
            ("rack", "r17"),
        ];
        message::series(&labels, &[(1_700_000_000_000, i as f64 * 1.5)])
    };
    message::request(&(0..SERIES).map(one).collect::<Vec<_>>())
}

fn benches(criterion: &mut Criterion) {
    let message = body();
    let packed = message::snappy(&message);
    let limits = DecodeLimits::default();
    let mut group = criterion.benchmark_group("remote_write");
    group.throughput(Throughput::Elements(SERIES as u64));
    let cache = LabelCache::new(1 << 18, 128 << 20);
    group.bench_function("decode known series", |b| b.iter(|| decode(&message, &cache, &limits)));
    group.bench_function("decompress and decode known series", |b| {
        b.iter(|| {
            let message = api::decompress(api::Codec::SnappyBlock, &packed, 32 << 20).unwrap();
            decode(&message, &cache, &limits)
        });
    });
    group.bench_function("decode new series", |b| {
        b.iter_with_setup(|| LabelCache::new(4096, 4 << 20), |cache| decode(&message, &cache, &limits));
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
