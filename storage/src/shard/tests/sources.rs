//! Several sources, ends, gaps, retention, views.

use super::fixture::{Fixture, budget, scrape, select_from, writer};
use crate::shard::{DataCommand, DataResponse, MergedView, MissedSlots, Refusal, Rejection, ShardSettings};
use model::{DurationMs, LabelQuery, Matcher, Queryable, StateMachine, Term, TimestampMs};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const HOUR: i64 = 3_600_000;

#[test]
fn equal_series_of_two_sources_are_one_and_the_lower_source_wins() {
    let mut f = Fixture::new();
    f.scraped(&scrape("a"), 1_000, &[("x", 1.0)]);
    f.written(&writer("b"), 1_000, &[("x", 9.0)]);
    f.written(&writer("b"), 1_500, &[("x", 2.0)]);
    f.scraped(&scrape("a"), 2_000, &[("x", 3.0)]);
    assert_eq!(f.select("x"), "x 1000=1 1500=2 2000=3");
}

#[test]
fn a_stale_marker_ends_only_its_own_sources_part_while_another_is_live() {
    let mut f = Fixture::new();
    let (a, b) = (scrape("a"), scrape("b"));
    f.scraped(&a, 1_000, &[("x", 1.0)]);
    f.scraped(&b, 1_500, &[("x", 2.0)]);
    f.scraped(&a, 2_000, &[("other", 1.0)]);
    f.scraped(&b, 2_500, &[("x", 3.0)]);
    f.scraped(&b, 3_500, &[("other", 1.0)]);
    assert_eq!(f.select("x"), "x 1000=1 1500=2 2500=3 3500=stale");
}

#[test]
fn the_end_of_a_source_writes_markers_for_what_lived() {
    let mut f = Fixture::new();
    let a = scrape("a");
    f.scraped(&a, 1_000, &[("x", 1.0), ("y", 1.0)]);
    f.scraped(&a, 2_000, &[("x", 2.0)]);
    let end = DataCommand::EndSource { term: Some(Term(1)), source: a.clone(), at: TimestampMs(3_000) };
    assert_eq!(f.apply(&end), DataResponse::Applied);
    assert_eq!(f.apply(&end), DataResponse::Applied);
    assert_eq!(f.select("x|y"), "x 1000=1 2000=2 3000=stale\ny 1000=1 2000=stale");
    assert_eq!(f.shard.live_sources(), []);
    f.scraped(&a, 4_000, &[("x", 4.0)]);
    assert_eq!(f.select("x"), "x 1000=1 2000=2 3000=stale 4000=4");
}

/// Found by the random commands: the marker began a new partition, which sealed the window before it, and the state
/// hash did not count that before the next row.
#[test]
fn an_end_that_seals_a_window_counts_in_the_state_hash() {
    let mut f = Fixture::new();
    f.scraped(&scrape("a"), 1_000, &[("x", 1.0)]);
    let end = DataCommand::EndSource { term: None, source: scrape("a"), at: TimestampMs(3 * HOUR) };
    f.apply(&end);
    f.shard.checkpoint().expect("the disk works");
    let hash = f.shard.state_hash();
    f.restart();
    assert_eq!(f.shard.state_hash(), hash);
}

fn missed(f: &mut Fixture, from: i64, to: i64) -> DataResponse {
    let slots = MissedSlots {
        from: TimestampMs(from),
        to: TimestampMs(to),
        interval: DurationMs(1_000),
        reason: "election".into(),
    };
    f.apply(&DataCommand::Missed { term: None, source: scrape("a"), slots })
}

#[test]
fn missed_slots_are_remembered_and_take_no_outcome_any_more() {
    let mut f = Fixture::new();
    f.scraped(&scrape("a"), 1_000, &[("x", 1.0)]);
    missed(&mut f, 1_000, 3_000);
    missed(&mut f, 4_000, 5_000);
    let gaps = f.shard.gaps(TimestampMs(0), TimestampMs(4_500));
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].slots.from, gaps[0].slots.to), (TimestampMs(2_000), TimestampMs(4_000)));
    assert_eq!(gaps[0].slots.count(), 3);
    assert!(matches!(f.scraped(&scrape("a"), 5_000, &[("x", 1.0)]).refused, Some(Refusal::SlotTaken { .. })));
    assert!(matches!(missed(&mut f, 4_000, 5_000), DataResponse::Refused(Refusal::SlotTaken { .. })));
    assert_eq!(f.shard.last_slot(&scrape("a")), Some(TimestampMs(5_000)));
    assert_eq!(f.shard.newest(&scrape("a")), Some(TimestampMs(1_000)));
    assert_eq!(f.shard.newest(&scrape("unknown")), None);
}

/// A checkpoint waits for the disk, which may take its time; everything that answers would wait with it.
#[test]
fn the_state_is_read_while_a_checkpoint_is_written() {
    let mut f = Fixture::new();
    f.scraped(&scrape("a"), 1_000, &[("x", 1.0)]);
    let shard = Arc::new(std::mem::replace(&mut f.shard, Fixture::new().shard));
    let (reading, seen) = (shard.clone(), Arc::new(AtomicBool::new(false)));
    let told = seen.clone();
    model::points::set_hook(Some(Box::new(move |point| {
        if point == "shard.checkpoint.written" {
            let (send, receive) = std::sync::mpsc::channel();
            let shard = reading.clone();
            #[expect(clippy::disallowed_methods, reason = "the checkpoint holds this thread")]
            std::thread::spawn(move || {
                send.send((shard.view().index(), shard.last_slot(&scrape("a")))).expect("the test waits");
            });
            told.store(receive.recv_timeout(Duration::from_secs(30)).is_ok(), Ordering::SeqCst);
        }
    })));
    shard.checkpoint().expect("a checkpoint");
    model::points::set_hook(None);
    assert!(seen.load(Ordering::SeqCst), "a view waited for the checkpoint");
}

#[test]
fn retention_drops_whole_partitions_with_their_series() {
    let mut f = Fixture::new();
    f.scraped(&scrape("a"), HOUR, &[("old", 1.0), ("x", 1.0)]);
    f.scraped(&scrape("b"), HOUR, &[("gone", 1.0)]);
    f.scraped(&scrape("a"), 9 * HOUR, &[("x", 2.0)]);
    f.checkpoint(9 * HOUR);
    let retain = DataCommand::Retain { cutoff: TimestampMs(7 * HOUR) };
    assert_eq!(f.apply(&retain), DataResponse::Applied);
    assert!(matches!(f.apply(&retain), DataResponse::Refused(Refusal::OldCutoff(_))));
    assert_eq!(f.select("gone|x"), format!("x {}=2", 9 * HOUR));
    assert_eq!(f.shard.sources().len(), 1);
    let all = f.all();
    f.restart();
    assert_eq!(f.all(), all);
    f.checkpoint(9 * HOUR);
    f.restart();
    assert_eq!(f.all(), all);
}

fn keep_bytes(f: &mut Fixture, bytes: u64) {
    let settings = crate::shard::ShardSettings {
        version: model::ConfigVersion(1),
        retention_time: DurationMs(0),
        retention_bytes: bytes,
        ..Default::default()
    };
    f.apply(&DataCommand::Settings(settings));
}

#[test]
fn retention_by_size_asks_for_a_cutoff() {
    let mut f = Fixture::new();
    for i in 0..10 {
        f.scraped(&scrape("a"), i * 2 * HOUR, &[("x", 1.0)]);
    }
    keep_bytes(&mut f, 1);
    let cutoff = f.shard.retention_cutoff(TimestampMs(20 * HOUR), &[&f.shard]).expect("too much is kept");
    f.apply(&DataCommand::Retain { cutoff });
    assert_eq!(f.select("x"), format!("x {}=1", 18 * HOUR));
}

#[test]
fn the_newest_partition_stays_and_is_written_to_however_large_it_is() {
    let mut f = Fixture::new();
    f.scraped(&scrape("a"), 17 * HOUR, &[("x", 1.0)]);
    f.scraped(&scrape("a"), 18 * HOUR, &[("x", 2.0)]);
    f.scraped(&scrape("a"), 18 * HOUR + 1, &[("y", 3.0)]);
    f.checkpoint(30 * HOUR);
    keep_bytes(&mut f, 1);
    let time = TimestampMs(18 * HOUR + 2);
    let cutoff = f.shard.retention_cutoff(time, &[&f.shard]).expect("too much is kept");
    f.apply(&DataCommand::Retain { cutoff });
    assert_eq!(f.shard.retention_cutoff(time, &[&f.shard]), None);
    f.scraped(&scrape("a"), 18 * HOUR + 2, &[("x", 4.0)]);
    assert_eq!(f.select("x"), format!("x {}=2 {}=stale {}=4", 18 * HOUR, 18 * HOUR + 1, 18 * HOUR + 2));
}

#[test]
fn one_shard_with_all_samples_has_the_whole_size() {
    let (mut full, empty) = (Fixture::new(), Fixture::new());
    for i in 0..10 {
        full.scraped(&scrape("a"), i * 2 * HOUR, &[("x", 1.0)]);
    }
    full.checkpoint(30 * HOUR);
    let time = TimestampMs(19 * HOUR);
    let bytes = full.shard.stats(1).chunk_bytes;
    keep_bytes(&mut full, bytes);
    assert_eq!(full.shard.retention_cutoff(time, &[&full.shard, &empty.shard]), None);
}

#[test]
fn all_shards_of_a_node_lose_the_same_partitions() {
    let (mut large, mut small) = (Fixture::new(), Fixture::new());
    for i in 0..3 {
        let values: Vec<_> = ["u", "v", "w", "x", "y", "z"].map(|name| (name, i as f64)).to_vec();
        large.scraped(&scrape("a"), i * 2 * HOUR, &values);
        small.scraped(&scrape("a"), i * 2 * HOUR, &[("x", 1.0)]);
    }
    large.checkpoint(30 * HOUR);
    small.checkpoint(30 * HOUR);
    let bytes = large.shard.stats(1).chunk_bytes + small.shard.stats(1).chunk_bytes;
    keep_bytes(&mut large, bytes - 1);
    keep_bytes(&mut small, bytes - 1);
    let (node, time) = ([&large.shard, &small.shard], TimestampMs(5 * HOUR));
    assert_eq!(large.shard.retention_cutoff(time, &node), Some(TimestampMs(2 * HOUR)));
    assert_eq!(small.shard.retention_cutoff(time, &node), Some(TimestampMs(2 * HOUR)));
}

#[test]
fn a_view_shows_the_same_whatever_happens_after_it() {
    let mut f = Fixture::new();
    let a = scrape("a");
    for i in 1..=100 {
        f.scraped(&a, i * 60_000, &[("x", i as f64)]);
    }
    let view = f.shard.view();
    let before = select_from(&view, ".+", i64::MIN, i64::MAX);
    for i in 101..=400 {
        f.scraped(&a, i * 60_000, &[("x", i as f64), ("new", 1.0)]);
    }
    f.checkpoint(400 * 60_000);
    f.apply(&DataCommand::Retain { cutoff: TimestampMs(4 * HOUR) });
    f.checkpoint(401 * 60_000);
    assert_eq!(select_from(&view, ".+", i64::MIN, i64::MAX), before);
    assert!(!f.select("x").contains(" 60000=1 "));
}

#[test]
fn names_and_values_count_only_what_the_range_may_have() {
    let mut f = Fixture::new();
    f.scraped(&scrape("a"), HOUR, &[("x", 1.0), ("y", 1.0)]);
    f.written(&writer("b"), 30 * HOUR, &[("z", 1.0)]);
    let query = |start: i64, end: i64, matchers: Vec<Vec<Matcher>>| LabelQuery {
        matcher_sets: matchers,
        start: TimestampMs(start * HOUR),
        end: TimestampMs(end * HOUR),
        limit: 0,
    };
    let view = f.shard.view();
    let values = |query: &LabelQuery| view.label_values("__name__", query, &budget()).expect("values");
    assert_eq!(values(&query(0, 100, vec![])), ["x", "y", "z"]);
    assert_eq!(values(&query(20, 100, vec![])), ["z"]);
    assert_eq!(values(&query(0, 100, vec![vec![Matcher::equal("__name__", "y")]])), ["y"]);
    assert_eq!(view.label_names(&query(0, 100, vec![]), &budget()).expect("names"), ["__name__", "job"]);
}

#[test]
fn lists_of_series_make_up_the_select_and_give_back_what_they_took() {
    let (mut f, mut g) = (Fixture::new(), Fixture::new());
    for i in 1..=100 {
        f.scraped(&scrape("a"), i * 1_000, &[("v", 1.0), ("x", 2.0), ("y", 3.0)]);
        f.scraped(&scrape("c"), i * 1_000 + 3, &[("v", 4.0), ("z", 5.0)]);
        g.scraped(&scrape("b"), i * 1_000 + 7, &[("u", 6.0), ("x", 7.0), ("zz", 8.0)]);
    }
    let view = MergedView::new(vec![f.shard.view(), g.shard.view()]);
    let request = model::SelectRequest {
        matchers: vec![],
        start: TimestampMs(20_000),
        end: TimestampMs(90_000),
        with_samples: true,
        limit: 0,
    };
    let budget = budget();
    let text = |set: model::SeriesSet<'_>| -> Vec<String> {
        set.map(|series| format!("{:?}", series.expect("a series"))).collect()
    };
    let all = text(view.select(&request, &budget).expect("selects"));
    assert_eq!(all.len(), 6);
    for length in 1..8 {
        let lists = view.select_lists(&request, &budget, length).expect("selects");
        assert_eq!(lists.len() == all.len(), length == 1, "{length}");
        assert!(lists.len() > 1 || length > 3, "{length}");
        assert_eq!(lists.into_iter().flat_map(text).collect::<Vec<_>>(), all, "{length}");
    }
    budget.take(1 << 30).expect("everything was given back");
}

#[test]
fn a_budget_that_is_too_small_ends_the_select() {
    let mut f = Fixture::new();
    for i in 1..=100 {
        f.scraped(&scrape("a"), i * 1_000, &[("x", 1.0)]);
    }
    let small = budget();
    small.take((1 << 30) - 1_000).expect("it is empty");
    let request = model::SelectRequest {
        matchers: vec![],
        start: TimestampMs::MIN,
        end: TimestampMs::MAX,
        with_samples: true,
        limit: 0,
    };
    let view = f.shard.view();
    let results: Vec<_> = view.select(&request, &small).expect("the list fits").collect();
    assert!(matches!(results[0], Err(model::QueryError::TooManyBytes { .. })));
    assert_eq!(f.shard.applied().log_id.map(|id| id.index.0), Some(100));
}

/// Whoever may write names sources, and each is remembered: rows of which nothing was stored made them without end.
#[test]
fn sources_are_bounded_and_what_stores_nothing_makes_none() {
    let mut f = Fixture::new();
    let nameless = vec![(model::Labels::default(), model::Value::Float(1.0))];
    let row = f.row_of(&writer("bad"), model::RowKind::Partial, 1_000, nameless);
    assert_eq!(f.apply_rows(&[row])[0].rejected[&Rejection::BadLabels], 1);
    assert_eq!(f.shard.sources().len(), 0);
    for i in 0..600 {
        let result = f.written(&writer(&i.to_string()), 1_000, &[("x", 1.0)]);
        let rejected = result.rejected.get(&Rejection::TooManySeries).copied().unwrap_or(0);
        assert_eq!((result.applied, rejected), if i < 512 { (1, 0) } else { (0, 1) }, "source {i}");
    }
    assert_eq!(f.shard.sources().len(), 512);
    assert_eq!(f.scraped(&scrape("a"), 1_000, &[("x", 1.0)]).rejected[&Rejection::TooManySeries], 1);
    assert!(matches!(missed(&mut f, 1_000, 3_000), DataResponse::Refused(Refusal::UnknownSource)));
    assert_eq!(f.written(&writer("7"), 2_000, &[("x", 2.0), ("y", 1.0)]).applied, 2);
    f.checkpoint(3_000);
    f.restart();
    assert_eq!(f.written(&writer("600"), 2_000, &[("x", 1.0)]).applied, 0);
}

#[test]
fn a_shard_that_is_full_of_series_takes_no_further_sources() {
    let mut f = Fixture::new();
    let version = model::ConfigVersion(1);
    f.apply(&DataCommand::Settings(ShardSettings { version, series_max: 1, ..ShardSettings::default() }));
    f.written(&writer("a"), 1_000, &[("x", 1.0)]);
    assert_eq!(f.written(&writer("b"), 1_000, &[("x", 1.0)]).rejected[&Rejection::TooManySeries], 1);
    assert_eq!(f.shard.sources().len(), 1);
}
