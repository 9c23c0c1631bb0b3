//! Random commands against a naive model, with checkpoints and restarts in between.

use super::fixture::{Fixture, scrape, writer};
use crate::{
    kv::{KvEngine, MemDisk, RocksEngine, RocksOptions},
    shard::{DataCommand, ShardSettings, check},
};
use model::{ConfigVersion, DurationMs, STALE_NAN, STALE_NAN_BITS, SourceKey, StateMachine, TimestampMs};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

const SOURCES: usize = 4;

fn source(i: usize) -> Arc<SourceKey> {
    [scrape("a"), scrape("b"), writer("a"), writer("b")][i].clone()
}

#[derive(Clone, Debug)]
enum Op {
    /// Rows of some series of one source, `step` apart, the first `ahead` after (or behind) its newest.
    Rows {
        source: usize,
        ahead: i64,
        step: i64,
        rows: u8,
        series: u8,
        value: i8,
    },
    End(usize),
    Settings(u64),
    Checkpoint {
        later: i64,
    },
    Pack {
        later: i64,
    },
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let rows = (0..SOURCES, -400_000_i64..1_000_000, 1_i64..400_000, 1_u8..40, any::<u8>(), any::<i8>());
    prop_oneof![
        12 => rows.prop_map(|(source, ahead, step, rows, series, value)| Op::Rows { source, ahead, step, rows, series, value }),
        1 => (0..SOURCES).prop_map(Op::End),
        1 => prop_oneof![Just(0), Just(300_000), Just(20_000_000)].prop_map(Op::Settings),
        2 => prop_oneof![Just(0), Just(8_000_000), Just(90_000_000)].prop_map(|later| Op::Checkpoint { later }),
        2 => prop_oneof![Just(0), Just(90_000_000)].prop_map(|later| Op::Pack { later }),
        2 => Just(Op::Restart),
    ]
}

/// What the shard must hold, the slow way.
#[derive(Default)]
struct Naive {
    series: BTreeMap<(usize, String), BTreeMap<i64, u64>>,
    live: BTreeMap<usize, BTreeSet<String>>,
    slots: BTreeMap<usize, i64>,
    newest: BTreeMap<usize, i64>,
    window: i64,
}

impl Naive {
    fn offer(&mut self, source: usize, newest: Option<i64>, name: &str, at: i64, bits: u64) {
        let samples = self.series.entry((source, name.to_owned())).or_default();
        let last = samples.keys().next_back().copied();
        let in_order = last.is_none_or(|last| at > last);
        let in_window = self.window > 0 && newest.is_some_and(|newest| at >= newest - self.window);
        if !samples.contains_key(&at) && (in_order || in_window) {
            samples.insert(at, bits);
        }
    }

    fn row(&mut self, source: usize, at: i64, cells: &[(String, f64)]) {
        let newest = self.newest.get(&source).copied();
        if source < 2 {
            if self.slots.get(&source).is_some_and(|last| at <= *last) {
                return;
            }
            self.slots.insert(source, at);
        }
        for (name, value) in cells {
            self.offer(source, newest, name, at, value.to_bits());
        }
        if source < 2 {
            let present: BTreeSet<String> = cells.iter().map(|(name, _)| name.clone()).collect();
            let live = cells.iter().filter(|(_, v)| v.to_bits() != STALE_NAN_BITS);
            let before = self.live.insert(source, live.map(|(name, _)| name.clone()).collect());
            for name in before.unwrap_or_default().difference(&present) {
                self.offer(source, newest, name, at, STALE_NAN_BITS);
            }
        }
        self.newest.insert(source, newest.map_or(at, |newest| newest.max(at)));
    }

    fn end(&mut self, source: usize, at: i64) {
        let live = std::mem::take(self.live.entry(source).or_default());
        if live.is_empty() {
            return;
        }
        let at = at.max(self.newest[&source] + 1);
        for name in live {
            self.offer(source, None, &name, at, STALE_NAN_BITS);
        }
        self.newest.insert(source, at);
    }

    fn text(&self) -> String {
        let mut lines = BTreeMap::new();
        for ((_, name), samples) in self.series.iter().filter(|(_, samples)| !samples.is_empty()) {
            let mut line = name.clone();
            for (at, bits) in samples {
                let value = f64::from_bits(*bits);
                line += &match *bits {
                    STALE_NAN_BITS => format!(" {at}=stale"),
                    _ => format!(" {at}={value}"),
                };
            }
            lines.insert(name, line);
        }
        lines.into_values().collect::<Vec<_>>().join("\n")
    }
}

fn cells(source: usize, series: u8, value: i8, row: u8) -> Vec<(String, f64)> {
    (0..8_u8)
        .filter(|bit| series.rotate_left(u32::from(row / 16)) >> bit & 1 == 1)
        .map(|bit| {
            let stale = value == 77 && bit == 3;
            let number = f64::from(value) * 0.1 + f64::from(row) * f64::from(bit);
            (format!("s{source}_{bit}"), if stale { STALE_NAN } else { number })
        })
        .collect()
}

fn run(f: &mut Fixture, naive: &mut Naive, ops: &[Op], restarts: bool) {
    let mut version = 0;
    for op in ops {
        let now = naive.newest.values().copied().max().unwrap_or(0);
        match op {
            Op::Rows { source: i, ahead, step, rows, series, value } => {
                let first = naive.newest.get(i).copied().unwrap_or(50_000_000) + ahead;
                for n in 0..*rows {
                    let at = first + i64::from(n) * step;
                    let cells = cells(*i, *series, *value, n);
                    naive.row(*i, at, &cells);
                    let borrowed: Vec<_> = cells.iter().map(|(name, v)| (name.as_str(), *v)).collect();
                    if *i < 2 {
                        f.scraped(&source(*i), at, &borrowed);
                    } else {
                        f.written(&source(*i), at, &borrowed);
                    }
                }
            }
            Op::End(i) => {
                naive.end(*i, now);
                f.apply(&DataCommand::EndSource { term: None, source: source(*i), at: TimestampMs(now) });
            }
            Op::Settings(window) => {
                version += 1;
                naive.window = *window as i64;
                f.apply(&DataCommand::Settings(ShardSettings {
                    version: ConfigVersion(version),
                    out_of_order_window: DurationMs(*window),
                    ..ShardSettings::default()
                }));
            }
            Op::Checkpoint { later } => f.checkpoint(now + later),
            Op::Pack { later } if restarts => f.pack(now + later),
            Op::Pack { .. } => {}
            Op::Restart if restarts => {
                let (all, hash) = (f.all(), f.shard.state_hash());
                f.restart();
                assert_eq!(f.all(), all);
                assert_eq!(f.shard.state_hash(), hash);
            }
            Op::Restart => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_shard_answers_as_the_naive_model_does(ops in prop::collection::vec(op(), 1..40)) {
        let (mut f, mut naive) = (Fixture::new(), Naive::default());
        run(&mut f, &mut naive, &ops, true);
        prop_assert_eq!(f.all(), naive.text());
        f.shard.checkpoint().unwrap();
        let (dir, engine) = (f.dir.clone(), Arc::clone(&f.engine));
        let hash = f.shard.state_hash();
        drop(f);
        let report = check(&dir, &*engine).unwrap();
        prop_assert!(report.is_sound(), "{:?}", report);
        prop_assert_eq!(report.hash_computed, hash);
    }

    #[test]
    fn restarts_do_not_change_what_a_log_means(ops in prop::collection::vec(op(), 1..30)) {
        let (mut with, mut without) = (Fixture::new(), Fixture::new());
        run(&mut with, &mut Naive::default(), &ops, true);
        run(&mut without, &mut Naive::default(), &ops, false);
        prop_assert_eq!(with.all(), without.all());
        prop_assert_eq!(with.shard.state_hash(), without.shard.state_hash());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn rocksdb_and_its_twin_give_the_same_results(ops in prop::collection::vec(op(), 1..25)) {
        let dir = tempfile::tempdir().unwrap();
        let rocks: Arc<dyn KvEngine> = Arc::new(RocksEngine::new(RocksOptions::default()));
        let mut rocks = Fixture::on(rocks, &dir.path().join("shard"));
        let mut twin = Fixture::on(Arc::new(MemDisk::new()), Path::new("/shard"));
        run(&mut rocks, &mut Naive::default(), &ops, true);
        run(&mut twin, &mut Naive::default(), &ops, true);
        prop_assert_eq!(rocks.all(), twin.all());
        prop_assert_eq!(rocks.shard.recent_hashes(), twin.shard.recent_hashes());
    }
}
