//! Exposition parsing, measured: a steady body against the memory of its target, and the bare parser.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scrape::bench::SteadyTarget;
use scrape::exposition::{Dialect, TextParser};
use std::hint::black_box;

/// A body like that of a server with many labelled counters: `samples` samples with HELP and TYPE for every tenth.
fn body(samples: usize, round: usize) -> String {
    let mut body = String::new();
    for i in 0..samples {
        if i % 10 == 0 {
            body.push_str(&format!("# HELP http_requests_{i}_total How many requests came in.\n"));
            body.push_str(&format!("# TYPE http_requests_{i}_total counter\n"));
        }
        let family = i - i % 10;
        body.push_str(&format!(
            "http_requests_{family}_total{{method=\"GET\",handler=\"/api/v1/query\",code=\"{}\"}} {}\n",
            200 + i % 10,
            i * 1_000 + round * 7
        ));
    }
    body
}

fn steady(c: &mut Criterion) {
    let mut group = c.benchmark_group("steady");
    let synthetic = [body(1_000, 1), body(1_000, 2)];
    let mut all = vec![("synthetic", synthetic.map(String::into_bytes))];
    let path =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/prometheus/data/node_exporter/e2e-output.txt");
    match std::fs::read(path) {
        Ok(real) => all.push(("node_exporter", [real.clone(), real])),
        Err(_) => println!("SKIPPED: the node_exporter body is not here"),
    }
    for (name, bodies) in all {
        let mut target = SteadyTarget::new();
        let samples = target.scrape(&bodies[0]);
        group.throughput(Throughput::Elements(samples as u64));
        let mut round = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                round += 1;
                black_box(target.scrape(&bodies[round % 2]))
            });
        });
        group.bench_function(format!("{name}, parser alone"), |b| {
            b.iter(|| {
                let mut parser = TextParser::new(&bodies[0], Dialect::Prometheus);
                let mut entries = 0;
                while let Ok(Some(entry)) = parser.next() {
                    black_box(entry);
                    entries += 1;
                }
                entries
            });
        });
        group.bench_function(format!("{name}, first scrape"), |b| {
            b.iter(|| SteadyTarget::new().scrape(black_box(&bodies[0])));
        });
    }
    group.finish();
}

/// The macro of criterion makes a public function without words.
mod group {
    use super::{criterion_group, steady};
    criterion_group!(benches, steady);
}

criterion_main!(group::benches);
