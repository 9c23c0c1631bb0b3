//! Rows: order, duplicates, windows, staleness, slots.

use super::fixture::{Fixture, scrape, writer};
use crate::shard::{
    COMMAND_BYTES_MAX, DataCommand, DataResponse, Pass, Refusal, Rejection, RowEncoder, RowResult,
    SegmentBuilder, ShardSettings,
};
use model::{
    ConfigVersion, DurationMs, Histogram, Row, RowKind, STALE_NAN, StateMachine, Term, TimestampMs, Value,
};
use std::sync::Arc;

const HOUR: i64 = 3_600_000;

fn with_window(hours: i64) -> Fixture {
    let mut f = Fixture::new();
    let out_of_order_window = DurationMs((hours * HOUR) as u64);
    let settings =
        ShardSettings { version: ConfigVersion(1), out_of_order_window, ..ShardSettings::default() };
    assert_eq!(f.apply(&DataCommand::Settings(settings)), DataResponse::Applied);
    f
}

#[test]
fn a_scrape_can_be_read_at_once() {
    let mut f = Fixture::new();
    assert_eq!(f.scraped(&scrape("a"), 1_000, &[("x", 1.0), ("y", 2.5)]).applied, 2);
    f.scraped(&scrape("a"), 2_000, &[("x", 3.0), ("y", -0.0)]);
    assert_eq!(f.select("x|y"), "x 1000=1 2000=3\ny 1000=2.5 2000=-0");
    assert_eq!(f.select_in("x", 1_001, 2_000), "x 2000=3");
    assert_eq!(f.select_in("x", 2_001, 9_000), "");
}

#[test]
fn a_series_that_is_missing_in_a_whole_row_ends_with_a_stale_marker() {
    let mut f = Fixture::new();
    let a = scrape("a");
    f.scraped(&a, 1_000, &[("x", 1.0), ("y", 1.0)]);
    f.scraped(&a, 2_000, &[("x", 2.0)]);
    f.scraped(&a, 3_000, &[("x", 3.0)]);
    f.scraped(&a, 4_000, &[("y", 4.0), ("x", 4.0)]);
    assert_eq!(f.select("x"), "x 1000=1 2000=2 3000=3 4000=4");
    assert_eq!(f.select("y"), "y 1000=1 2000=stale 4000=4");
}

#[test]
fn a_series_that_ended_by_its_own_marker_gets_no_second_one() {
    let mut f = Fixture::new();
    let a = scrape("a");
    f.scraped(&a, 1_000, &[("x", 1.0), ("y", 1.0)]);
    f.scraped(&a, 2_000, &[("x", 2.0), ("y", STALE_NAN)]);
    f.scraped(&a, 3_000, &[("x", 3.0)]);
    assert_eq!(f.select("y"), "y 1000=1 2000=stale");
}

#[test]
fn absence_in_a_piece_says_nothing_and_pieces_fill_one_row() {
    let mut f = Fixture::new();
    let w = writer("a");
    f.written(&w, 1_000, &[("x", 1.0)]);
    f.written(&w, 1_000, &[("z", 3.0), ("y", 2.0)]);
    f.written(&w, 2_000, &[("y", 4.0)]);
    assert_eq!(f.select("x|y|z"), "x 1000=1\ny 1000=2 2000=4\nz 1000=3");
    assert_eq!(f.shard.stats(0).open_rows, 2);
}

#[test]
fn the_same_bits_again_are_accepted_and_other_bits_are_a_duplicate() {
    let mut f = Fixture::new();
    let w = writer("a");
    f.written(&w, 1_000, &[("x", 1.0)]);
    f.written(&w, 2_000, &[("x", 2.0)]);
    assert_eq!(f.written(&w, 1_000, &[("x", 1.0)]).applied, 1);
    let other = f.written(&w, 1_000, &[("x", 7.0)]);
    assert_eq!((other.applied, other.rejected[&Rejection::Duplicate]), (0, 1));
    assert!(other.first_rejected.expect("the offender is named").contains(r#"__name__="x""#));
    assert_eq!(f.written(&w, 1_500, &[("x", 1.5)]).rejected[&Rejection::OutOfOrder], 1);
    assert_eq!(f.select("x"), "x 1000=1 2000=2");
}

#[test]
fn sealed_samples_are_compared_too() {
    let mut f = Fixture::new();
    let w = writer("a");
    for i in 1..=200 {
        f.written(&w, i * 1_000, &[("x", i as f64)]);
    }
    assert!(f.shard.stats(0).chunks > 0);
    f.checkpoint(200_000);
    assert_eq!(f.written(&w, 5_000, &[("x", 5.0)]).applied, 1);
    assert_eq!(f.written(&w, 5_000, &[("x", 6.0)]).rejected[&Rejection::Duplicate], 1);
    assert_eq!(f.written(&w, 5_500, &[("x", 6.0)]).rejected[&Rejection::OutOfOrder], 1);
}

#[test]
fn a_series_of_its_own_pace_is_in_order_though_others_are_newer() {
    let mut f = Fixture::new();
    let w = writer("a");
    f.written(&w, 10_000, &[("x", 1.0)]);
    assert_eq!(f.written(&w, 5_000, &[("y", 1.0)]).applied, 1);
    assert_eq!(f.select("y"), "y 5000=1");
}

#[test]
fn a_source_written_less_often_than_every_two_hours_keeps_two_windows_open() {
    let mut f = Fixture::new();
    let w = writer("a");
    for i in 1..=50 {
        f.written(&w, i * 3 * HOUR, &[("x", i as f64)]);
        f.written(&w, i * 3 * HOUR, &[("y", i as f64)]);
    }
    let stats = f.shard.stats(0);
    assert_eq!((stats.open_rows, stats.chunks), (2, 48));
    assert_eq!(f.written(&w, 3 * HOUR, &[("x", 1.0), ("y", 7.0)]).rejected[&Rejection::Duplicate], 1);
    assert_eq!(f.select("x").matches('=').count(), 50);
}

#[test]
fn older_samples_are_accepted_inside_the_window_and_merged_at_read() {
    let mut f = with_window(1);
    let w = writer("a");
    let newest = 10 * HOUR;
    f.written(&w, newest, &[("x", 1.0)]);
    assert_eq!(f.written(&w, newest - HOUR / 2, &[("x", 2.0)]).applied, 1);
    assert_eq!(f.written(&w, newest - HOUR, &[("x", 3.0)]).applied, 1);
    let old = f.written(&w, newest - HOUR - 1, &[("x", 4.0)]);
    assert_eq!(old.rejected[&Rejection::TooOld], 1);
    assert_eq!(f.written(&w, newest - HOUR, &[("x", 5.0)]).rejected[&Rejection::Duplicate], 1);
    assert_eq!(f.select("x"), format!("x {}=3 {}=2 {newest}=1", newest - HOUR, newest - HOUR / 2));
}

#[test]
fn the_future_is_limited_by_the_time_the_entry_carries() {
    let mut f = Fixture::new();
    let w = writer("a");
    let rows = [600_000, 600_001].map(|at| f.row(&w, RowKind::Partial, at, &[("x", 1.0)]));
    let command = f.segment_at(&rows, None, 0);
    let DataResponse::Rows(results) = f.apply(&command) else { panic!("rows were sent") };
    assert_eq!((results[0].applied, results[1].rejected.get(&Rejection::TooFarAhead)), (1, Some(&1)));
}

#[test]
fn a_segment_of_another_term_is_refused_as_a_whole() {
    let mut f = Fixture::new();
    let row = f.row(&scrape("a"), RowKind::Whole { slot: TimestampMs(1_000) }, 1_000, &[("x", 1.0)]);
    let command = f.segment(&[row], Some(7));
    f.term = 8;
    let refusal = Refusal::OtherTerm { carried: Term(7), entry: Term(8) };
    assert_eq!(f.apply(&command), DataResponse::Refused(refusal));
    f.term = 7;
    assert!(matches!(f.apply(&command), DataResponse::Rows(rows) if rows[0].applied == 1));
}

#[test]
fn a_second_outcome_of_a_slot_is_refused() {
    let mut f = Fixture::new();
    let a = scrape("a");
    f.scraped(&a, 5_000, &[("x", 1.0)]);
    let row = f.row(&a, RowKind::Whole { slot: TimestampMs(5_000) }, 5_700, &[("x", 2.0)]);
    let taken = Refusal::SlotTaken { slot: TimestampMs(5_000), last: TimestampMs(5_000) };
    assert_eq!(f.apply_rows(&[row])[0].refused, Some(taken));
    assert_eq!(f.select("x"), "x 5000=1");
}

#[test]
fn a_row_against_a_layout_that_is_gone_is_refused_and_goes_through_when_encoded_again() {
    let mut f = Fixture::new();
    let a = scrape("a");
    let names: Vec<String> = (0..40).map(|i| format!("s{i:02}")).collect();
    let cells: Vec<_> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
    f.scraped(&a, 1_000, &cells);
    let row = f.row(&a, RowKind::Whole { slot: TimestampMs(90_000) }, 90_000, &cells[..3]);
    let before = f.segment(std::slice::from_ref(&row), None);
    for i in 2..=6 {
        f.scraped(&a, i * 1_000, &cells[..3]);
    }
    let DataResponse::Rows(results) = f.apply(&before) else { panic!("rows were sent") };
    assert!(matches!(results[0].refused, Some(Refusal::UnknownLayout { .. })));
    assert_eq!(f.apply_rows(&[row])[0].applied, 3);
    assert_eq!(f.select("s39"), "s39 1000=1 2000=stale");
}

/// Rows of one source at two times, in two segments, while its layout changes between them: had the newer one been
/// encoded against the new layout it would be taken, and the older, encoded again, be out of order for good.
#[test]
fn rows_of_one_pass_are_refused_together() {
    let mut f = Fixture::new();
    let a = writer("a");
    let names: Vec<String> = (0..40).map(|i| format!("s{i:02}")).collect();
    let cells: Vec<_> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
    f.written(&a, 1_000, &cells);
    let hours = 4 * HOUR;
    f.written(&a, hours, &cells[..3]);
    let rows: Vec<_> = [1, 2].map(|i| f.row(&a, RowKind::Partial, hours + i, &cells[..3])).into();
    let mut encoder = RowEncoder::new();
    let mut pass = encoder.begin();
    let segment = |f: &Fixture, pass: &mut Pass<'_>, row: &Row| {
        let mut builder = SegmentBuilder::new(row.timestamp, None);
        builder.push(pass, &f.shard, row, COMMAND_BYTES_MAX).expect("a row fits");
        builder.finish()
    };
    let older = segment(&f, &mut pass, &rows[0]);
    let layout = f.shard.layout(&a);
    f.checkpoint(hours + 4 * HOUR);
    assert_ne!(f.shard.layout(&a), layout, "columns without samples have left it");
    let newer = segment(&f, &mut pass, &rows[1]);
    for command in [older, newer] {
        let DataResponse::Rows(results) = f.apply(&command) else { panic!("rows were sent") };
        assert!(matches!(results[0].refused, Some(Refusal::UnknownLayout { .. })), "{results:?}");
    }
    let mut pass = encoder.begin();
    for command in [&rows[0], &rows[1]].map(|row| segment(&f, &mut pass, row)) {
        let DataResponse::Rows(results) = f.apply(&command) else { panic!("rows were sent") };
        assert_eq!((results[0].applied, &results[0].refused), (3, &None));
    }
}

#[test]
fn rows_encoded_before_a_series_was_applied_find_its_column() {
    let mut f = Fixture::new();
    let a = scrape("a");
    let rows: Vec<_> = (1..=3)
        .map(|i| f.row(&a, RowKind::Whole { slot: TimestampMs(i) }, i, &[("x", i as f64), ("y", 0.0)]))
        .collect();
    let commands: Vec<_> = rows.iter().map(|row| f.segment(std::slice::from_ref(row), None)).collect();
    commands.iter().for_each(|command| drop(f.apply(command)));
    assert_eq!(f.select("x"), "x 1=1 2=2 3=3");
    assert_eq!(f.shard.stats(0).series, 2);
}

#[test]
fn a_steady_row_carries_neither_labels_nor_ids() {
    let mut f = Fixture::new();
    let a = scrape("a");
    let names: Vec<String> = (0..1_000).map(|i| format!("series_with_a_long_name_{i}")).collect();
    let cells: Vec<_> = names.iter().map(|name| (name.as_str(), 7.0)).collect();
    f.scraped(&a, 1_000, &cells);
    let row = f.row(&a, RowKind::Whole { slot: TimestampMs(2_000) }, 2_000, &cells);
    let bytes = f.segment(&[row], Some(1)).encode().len();
    assert!(bytes < 2_100, "{bytes} bytes for 1000 small values");
}

#[test]
fn malformed_entries_are_recorded_and_change_nothing() {
    let mut f = Fixture::new();
    f.scraped(&scrape("a"), 1_000, &[("x", 1.0)]);
    let hash = f.shard.state_hash();
    let row = f.row(&scrape("a"), RowKind::Whole { slot: TimestampMs(2_000) }, 2_000, &[("x", 2.0)]);
    let good = f.segment(&[row], None).encode();
    for cut in 0..good.len() {
        let response = f.apply(&DataCommand::Segment(good.slice(..cut)));
        let refused = match &response {
            DataResponse::Refused(_) => true,
            DataResponse::Rows(rows) => rows.iter().all(|row| row.refused.is_some()),
            DataResponse::Applied => false,
        };
        assert!(refused, "cut at {cut}: {response:?}");
    }
    assert_eq!(f.shard.state_hash(), hash);
}

#[test]
fn histograms_live_beside_floats_through_seal_and_restart() {
    let mut f = Fixture::new();
    let a = scrape("a");
    for i in 1..=70_i64 {
        let histogram = Histogram { count: i as u64, zero_count: i as u64, sum: 1.0, ..Histogram::default() };
        let cells = vec![
            (super::fixture::series("f"), Value::Float(i as f64)),
            (super::fixture::series("h"), Value::Histogram(Arc::new(histogram))),
        ];
        let row = f.row_of(&a, RowKind::Whole { slot: TimestampMs(i * 1_000) }, i * 1_000, cells);
        assert_eq!(f.apply_rows(&[row])[0].applied, 2);
    }
    f.scraped(&a, 71_000, &[("f", 71.0)]);
    let all = f.all();
    assert!(all.contains("h 1000=H1 2000=H2") && all.ends_with("70000=H70 71000=stale"), "{all}");
    f.checkpoint(71_000);
    f.restart();
    assert_eq!(f.all(), all);
}

#[test]
fn limits_reject_what_is_beyond_them_and_keep_the_rest() {
    let mut f = Fixture::new();
    let settings =
        ShardSettings { version: ConfigVersion(1), source_series_max: 2, ..ShardSettings::default() };
    f.apply(&DataCommand::Settings(settings.clone()));
    let result = f.scraped(&scrape("a"), 1_000, &[("x", 1.0), ("y", 1.0), ("z", 1.0)]);
    assert_eq!((result.applied, result.rejected[&Rejection::TooManySeries]), (2, 1));
    let again = f.apply(&DataCommand::Settings(settings));
    assert_eq!(again, DataResponse::Refused(Refusal::OldSettings(ConfigVersion(1))));
}

#[test]
fn a_window_closes_at_64_rows_and_at_the_partition() {
    let mut f = Fixture::new();
    let a = scrape("a");
    for i in 0..64 {
        f.scraped(&a, i * 1_000, &[("x", i as f64)]);
    }
    assert_eq!((f.shard.stats(0).chunks, f.shard.stats(0).open_rows), (1, 0));
    f.scraped(&a, 7_199_000, &[("x", 1.0)]);
    f.scraped(&a, 7_200_000, &[("x", 2.0)]);
    assert_eq!((f.shard.stats(0).chunks, f.shard.stats(0).open_rows), (2, 1));
    assert!(f.select("x").ends_with("62000=62 63000=63 7199000=1 7200000=2"));
}

#[test]
fn a_body_whose_series_change_at_every_scrape_does_not_grow_the_layout() {
    let mut f = Fixture::new();
    let a = scrape("a");
    for i in 1..=100 {
        let names: Vec<String> = (0..20).map(|n| format!("s{i}_{n}")).collect();
        let cells: Vec<_> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
        assert_eq!(f.scraped(&a, i * 1_000, &cells).applied, 20);
    }
    assert!(f.shard.stats(0).active_series <= 120, "{}", f.shard.stats(0).active_series);
    assert_eq!(f.select("s50_7"), "s50_7 50000=1 51000=stale");
    assert_eq!(f.shard.applied().log_id.map(|id| id.index.0), Some(100));
}

/// A federating target: each series has a timestamp of its own.
fn federated(f: &Fixture, at: i64, series: i64) -> Vec<Row> {
    let a = scrape("a");
    let own: Vec<_> = (0..5).map(|i| format!("own{i}")).collect();
    let own: Vec<_> = own.iter().map(|name| (name.as_str(), 1.0)).collect();
    let mut rows = vec![f.row(&a, RowKind::Whole { slot: TimestampMs(at) }, at, &own)];
    for i in 0..series {
        let name = format!("timed{i:03}");
        rows.push(Row {
            table: rows[0].table.clone(),
            ..f.row(&a, RowKind::Partial, at - 10_000 + i * 7, &[])
        });
        let table = &rows[0].table;
        let labels = super::fixture::series(&name);
        let known = table.labels_from(0).iter().position(|l| *l == labels);
        let slot = known.map_or_else(|| table.push(labels), |slot| slot as u32);
        rows.last_mut().expect("just pushed").cells.push((slot, Value::Float(at as f64)));
    }
    rows
}

/// Every four rows the window was sealed, all columns but the few of the whole row were dropped, and the rows behind
/// were refused: a scrape with R timestamps took R/4 entries.
#[test]
fn a_target_with_timestamps_of_its_own_is_applied_at_once_and_keeps_its_layout() {
    let mut f = Fixture::new();
    for scrape in 1..=20 {
        let rows = federated(&f, scrape * 15_000, 200);
        let command = f.segment(&rows, None);
        if scrape > 1 {
            assert!(command.encode().len() < 201 * 40, "labels travel again at scrape {scrape}");
        }
        let DataResponse::Rows(results) = f.apply(&command) else { panic!("rows were sent") };
        assert!(results.iter().all(|result| result.refused.is_none()), "scrape {scrape}: {results:?}");
        assert_eq!(results.iter().map(|result| result.applied).sum::<u32>(), 205);
    }
    assert_eq!(f.select("timed199").matches('=').count(), 20);
    assert_eq!(f.shard.stats(0).active_series, 205);
    // What is not heard of for an hour goes all the same.
    for at in 0..100 {
        f.scraped(&scrape("a"), 400_000 + at * 60_000, &[("own0", 1.0)]);
    }
    assert_eq!(f.shard.stats(0).active_series, 1);
}

#[test]
fn series_that_end_while_others_have_their_own_timestamps_leave_the_layout() {
    let mut f = Fixture::new();
    let a = scrape("a");
    let names: Vec<String> = (0..40).map(|i| format!("s{i:02}")).collect();
    let cells: Vec<_> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
    f.scraped(&a, 1_000, &cells);
    for i in 1..=8 {
        f.scraped(&a, 1_000 + i * 1_000, &cells[..3]);
        let row = f.row(&a, RowKind::Partial, 700 + i * 1_000, &[("timed", 1.0)]);
        assert_eq!(f.apply_rows(&[row])[0].applied, 1);
    }
    assert_eq!(f.shard.stats(0).active_series, 4);
}

/// A row whose labels are longer than a command may be never came in, and neither did one that had come in before
/// once its columns had left the layout.
#[test]
fn a_row_that_is_too_long_with_its_labels_comes_in_behind_them() {
    const BYTES_MAX: usize = 40_000;
    let mut f = Fixture::new();
    let a = scrape("a");
    let filler = "x".repeat(250);
    let names: Vec<String> = (0..500).map(|i| format!("s{i:03}_{filler}")).collect();
    let cells: Vec<_> = names.iter().map(|name| (name.as_str(), 7.5)).collect();
    let scraped = |f: &mut Fixture, at: i64| {
        let row = f.row(&a, RowKind::Whole { slot: TimestampMs(at) }, at, &cells);
        let segments = f.introduce(&row, BYTES_MAX);
        let command = f.segment(std::slice::from_ref(&row), None);
        assert!(command.encode().len() < BYTES_MAX);
        let DataResponse::Rows(results) = f.apply(&command) else { panic!("rows were sent") };
        assert_eq!(results[0].applied, 500);
        segments
    };
    // About 70 series each, until the rest fits in with the values.
    assert_eq!(scraped(&mut f, 15_000), 6);
    assert_eq!(scraped(&mut f, 30_000), 0);
    // Down for a while: the columns leave the layout.
    for i in 3..=70 {
        f.scraped(&a, i * 15_000, &[("up", 0.0)]);
    }
    assert_eq!(f.shard.stats(0).active_series, 1);
    f.shard.checkpoint().expect("the disk works");
    assert_eq!(scraped(&mut f, 2_000_000), 6);
    assert_eq!(f.select(&names[499]), format!("{} 15000=7.5 30000=7.5 45000=stale 2000000=7.5", names[499]));
    let (hash, all) = (f.shard.state_hash(), f.all());
    f.restart();
    assert_eq!((f.shard.state_hash(), f.all()), (hash, all));
}

#[test]
fn introduced_series_keep_their_columns_until_their_values_come_and_go_if_none_do() {
    let mut f = Fixture::new();
    let a = scrape("a");
    let late = f.row(&a, RowKind::Partial, 20_000, &[("late", 1.0), ("later", 2.0)]);
    for i in 1..=3 {
        f.scraped(&a, i * 1_000, &[("up", 0.0)]);
    }
    let result = f.introduce_once(&Row { timestamp: TimestampMs(90_000), ..late });
    assert_eq!(result, RowResult::default());
    let introduced = f.shard.stats(0).active_series;
    assert_eq!(introduced, 3);
    f.checkpoint(100_000);
    f.restart();
    for i in 4..=70 {
        f.scraped(&a, i * 1_000, &[("up", 0.0)]);
    }
    assert_eq!(f.shard.stats(0).active_series, introduced);
    // A first value may be older than what introduced its series.
    let row = f.row(&a, RowKind::Partial, 71_000, &[("late", 1.0)]);
    assert_eq!(f.apply_rows(&[row])[0].applied, 1);
    assert_eq!(f.select_in("late", 70_000, 72_000), "late 71000=1");
    for i in 1..=140 {
        f.scraped(&a, 100_000 + i * 60_000, &[("up", 0.0)]);
    }
    assert_eq!(f.shard.stats(0).active_series, 1);
    let hash = f.shard.state_hash();
    f.restart();
    assert_eq!(f.shard.state_hash(), hash);
}

#[test]
fn introduced_series_that_may_not_be_are_rejected() {
    let mut f = Fixture::new();
    let settings =
        ShardSettings { version: ConfigVersion(1), source_series_max: 2, ..ShardSettings::default() };
    f.apply(&DataCommand::Settings(settings));
    let row = f.row(&writer("a"), RowKind::Partial, 1_000, &[("x", 1.0), ("y", 1.0), ("z", 1.0)]);
    let result = f.introduce_once(&row);
    assert_eq!((result.applied, result.rejected[&Rejection::TooManySeries]), (0, 1));
    assert!(result.first_rejected.expect("it says why").contains("too many series"));
}

#[test]
fn many_old_samples_in_one_segment_are_each_compared_with_what_is_sealed() {
    let mut f = Fixture::new();
    let w = writer("a");
    for i in 1..=200 {
        f.written(&w, i * 1_000, &[("x", i as f64), ("y", -i as f64)]);
    }
    f.checkpoint(4_000_000);
    let rows: Vec<_> = (1..=200)
        .map(|i| {
            let y = if i % 2 == 0 { -i as f64 } else { 0.5 };
            f.row(&w, RowKind::Partial, i * 1_000, &[("x", i as f64), ("y", y)])
        })
        .collect();
    for (i, result) in (1..).zip(f.apply_rows(&rows)) {
        let rejected = result.rejected.get(&Rejection::Duplicate).copied().unwrap_or(0);
        assert_eq!((result.applied, rejected), if i % 2 == 0 { (2, 0) } else { (1, 1) }, "row {i}");
    }
}
