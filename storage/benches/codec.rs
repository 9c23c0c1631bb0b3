//! Size and speed of the codecs on generated series like those that exporters have.
//!
//! `cargo bench -p storage --bench codec` prints bytes per sample first, then nanoseconds per block; a group's
//! throughput line is in samples.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use storage::codec::{
    block::{Encoder, decode, decode_timestamps},
    values::{decode_values, encode_values},
};

/// A small generator of its own, so that every run measures the same numbers.
struct Lcg(u64);

impl Lcg {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, bound: u64) -> f64 {
        (self.next() % bound) as f64
    }

    /// About normal, mean 0, deviation 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.below(1 << 20) / f64::from(1 << 20)).sum::<f64>() - 6.0
    }
}

/// Share of the mix in percent, and the kind's name.
const KINDS: [(usize, &str); 10] = [
    (15, "int_counter"),
    (8, "cpu_counter_2dec"),
    (8, "mem_gauge"),
    (4, "float_gauge_3dec"),
    (4, "ratio_full"),
    (5, "sum_full"),
    (25, "constant"),
    (22, "hist_bucket"),
    (5, "step_sparse"),
    (4, "small_int_gauge"),
];

fn series(kind: &str, seed: u64, len: usize) -> Vec<f64> {
    let mut rng = Lcg(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xabcd);
    rng.next();
    let scale = 10_f64.powf(rng.below(300) / 100.0);
    let idle = rng.below(10) < 4.0;
    let mut value = (rng.below(1 << 20) * scale).round();
    let start = value;
    (0..len)
        .map(|_| match kind {
            "int_counter" => {
                value += (scale * (10.0 + 3.0 * rng.normal())).max(0.0).round();
                value
            }
            "cpu_counter_2dec" => {
                value += (rng.below(1500) * (scale / 1000.0)).round();
                value / 100.0
            }
            "mem_gauge" => {
                value += (rng.normal() * scale).round() * 4096.0;
                value.abs()
            }
            "float_gauge_3dec" => ((40.0 + scale / 10.0 + rng.normal()) * 1000.0).round() / 1000.0,
            "ratio_full" => 0.5 + rng.normal() / 12.1,
            "sum_full" => {
                value += (scale * (1.0 + 0.3 * rng.normal())).abs() / 7.0;
                value
            }
            "constant" => start,
            "hist_bucket" => {
                value += if idle { f64::from(rng.below(100) < 3.0) } else { rng.below(12) };
                value
            }
            "step_sparse" => {
                if rng.below(200) < 1.0 {
                    value = rng.below(100);
                }
                value
            }
            _ => rng.below(20),
        })
        .collect()
}

fn blocks(kind: &str, len: usize) -> Vec<Vec<f64>> {
    (0..30)
        .flat_map(|i| series(kind, i, 5760).chunks_exact(len).map(<[f64]>::to_vec).collect::<Vec<_>>())
        .collect()
}

fn bytes_per_sample(blocks: &[Vec<f64>]) -> f64 {
    let mut encoder = Encoder::default();
    let mut out = Vec::new();
    blocks.iter().for_each(|block| encoder.encode(block, &mut out));
    out.len() as f64 / blocks.iter().map(Vec::len).sum::<usize>() as f64
}

fn bench_blocks(criterion: &mut Criterion) {
    for len in [64, 120, 480, 1920] {
        let mix: f64 = KINDS
            .iter()
            .map(|(share, kind)| {
                let bytes = bytes_per_sample(&blocks(kind, len));
                println!("block of {len:4}: {kind:18} {bytes:.3} bytes/sample");
                bytes * *share as f64 / 100.0
            })
            .sum();
        println!("block of {len:4}: mix                {mix:.3} bytes/sample");
        let blocks: Vec<Vec<f64>> =
            KINDS.iter().flat_map(|(share, kind)| blocks(kind, len).into_iter().take(*share)).collect();
        let samples = (blocks.len() * len) as u64;
        let mut group = criterion.benchmark_group("block");
        group.throughput(Throughput::Elements(samples));
        let mut encoder = Encoder::default();
        let mut out = Vec::with_capacity(samples as usize * 9);
        group.bench_function(BenchmarkId::new("encode mix", len), |b| {
            b.iter(|| {
                out.clear();
                blocks.iter().for_each(|block| encoder.encode(black_box(block), &mut out));
                out.len()
            });
        });
        let encoded: Vec<Vec<u8>> = blocks
            .iter()
            .map(|block| {
                let mut out = Vec::new();
                encoder.encode(block, &mut out);
                out
            })
            .collect();
        let mut floats = Vec::with_capacity(len);
        group.bench_function(BenchmarkId::new("decode mix", len), |b| {
            b.iter(|| {
                for bytes in &encoded {
                    floats.clear();
                    decode(black_box(bytes), len, &mut floats).expect("a block");
                }
                floats.len()
            });
        });
        group.finish();
    }
}

fn bench_timestamps(criterion: &mut Criterion) {
    let mut rng = Lcg(7);
    for (name, jitter) in [("regular", 1), ("jitter 0-5 ms", 6)] {
        let timestamps: Vec<i64> =
            (0..480).map(|i| 1_760_000_000_000 + i * 15_000 + rng.below(jitter) as i64).collect();
        let mut out = Vec::new();
        let mut encoder = Encoder::default();
        encoder.encode_timestamps(&timestamps, &mut out);
        println!("timestamps, {name}: {:.3} bytes each", out.len() as f64 / 480.0);
        let mut back = Vec::new();
        criterion.bench_function(&format!("timestamps/decode 480 {name}"), |b| {
            b.iter(|| {
                back.clear();
                decode_timestamps(black_box(&out), 480, &mut back).expect("timestamps");
            });
        });
    }
}

fn bench_values(criterion: &mut Criterion) {
    let row: Vec<f64> = KINDS
        .iter()
        .flat_map(|(share, kind)| {
            (0..*share as u64 * 10).map(|seed| series(kind, seed, 50)[49]).collect::<Vec<_>>()
        })
        .collect();
    let mut bytes = Vec::new();
    encode_values(&row, &mut bytes);
    println!("segment row of {}: {:.3} bytes/sample", row.len(), bytes.len() as f64 / row.len() as f64);
    let mut group = criterion.benchmark_group("values");
    group.throughput(Throughput::Elements(row.len() as u64));
    group.bench_function("encode", |b| {
        b.iter_batched_ref(
            || Vec::with_capacity(row.len() * 9 + 8),
            |out| encode_values(black_box(&row), out),
            BatchSize::SmallInput,
        );
    });
    let mut back = Vec::with_capacity(row.len());
    group.bench_function("decode", |b| {
        b.iter(|| {
            back.clear();
            decode_values(&mut black_box(&bytes[..]), row.len(), &mut back).expect("a row");
        });
    });
    group.finish();
}

criterion_group!(
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(std::time::Duration::from_millis(200))
        .measurement_time(std::time::Duration::from_millis(600));
    targets = bench_blocks, bench_timestamps, bench_values
);
criterion_main!(benches);
