use super::*;
use crate::config::ScrapeConfig;
use crate::exposition::BodyFormat;
use crate::target::{TargetGroup, TargetSet};
use model::{TimestampMs, Value};

const NOW: i64 = 1_000_000;

fn cache(change: impl FnOnce(&mut ScrapeConfig)) -> SeriesCache {
    let mut config = ScrapeConfig::new("j");
    change(&mut config);
    let set = TargetSet::build(&Arc::new(config), &[TargetGroup::of_addresses("0", ["i"])]);
    SeriesCache::new(set.active[0].clone(), 10_000)
}

fn scrape(cache: &mut SeriesCache, body: &str) -> Ingested {
    cache.settle();
    let mut bytes = body.as_bytes().to_vec();
    let timestamp = TimestampMs(NOW);
    cache.ingest(Body { bytes: &mut bytes, format: BodyFormat::PrometheusText, timestamp })
}

/// The cells in short, sorted: `a{x=1}=2`, without the target's labels.
fn cells(cache: &SeriesCache, found: &Ingested) -> Vec<String> {
    let mut all: Vec<String> = found.cells.iter().map(|(slot, value)| show(cache, *slot, value)).collect();
    all.sort();
    all
}

fn show(cache: &SeriesCache, slot: SlotId, value: &Value) -> String {
    let labels = cache.table.get(slot).expect("a slot of the table");
    let own = labels.iter().filter(|(name, _)| !matches!(*name, "__name__" | "job" | "instance"));
    let own: Vec<String> = own.map(|(name, value)| format!("{name}={value}")).collect();
    let Value::Float(value) = value else { panic!("a float") };
    format!("{}{{{}}}={value}", labels.metric_name(), own.join(","))
}

#[test]
fn a_steady_body_keeps_its_slots_and_is_not_parsed_again() {
    let mut cache = cache(|_| {});
    let first = scrape(&mut cache, "# TYPE a gauge\na{x=\"1\"} 1\na{x=\"2\"} 2\n");
    let second = scrape(&mut cache, "# TYPE a gauge\na{x=\"1\"} 3\na{x=\"2\"} 4\n");
    assert_eq!(cells(&cache, &second), ["a{x=1}=3", "a{x=2}=4"]);
    let slots = |found: &Ingested| found.cells.iter().map(|(slot, _)| *slot).collect::<Vec<_>>();
    assert_eq!(slots(&first), slots(&second));
    assert_eq!((first.series_added, second.series_added), (2, 0));
}

#[test]
fn order_and_gaps_change_nothing_but_the_cells() {
    let mut cache = cache(|_| {});
    let _ = scrape(&mut cache, "a 1\nb 2\nc 3\nd 4\n");
    let turned = scrape(&mut cache, "d 1\nc 2\nb 3\n");
    assert_eq!(cells(&cache, &turned), ["b{}=3", "c{}=2", "d{}=1"]);
    let back = scrape(&mut cache, "a 1\nb 2\nc 3\nd 4\n");
    assert_eq!(cells(&cache, &back), ["a{}=1", "b{}=2", "c{}=3", "d{}=4"]);
    assert_eq!(back.series_added, 1);
}

#[test]
fn one_name_that_begins_another_is_not_taken_for_it() {
    let mut cache = cache(|_| {});
    let _ = scrape(&mut cache, "a 1\na_b 2\n");
    let found = scrape(&mut cache, "a_b 3\na {x=\"1\"} 4\na 5\n");
    assert_eq!(cells(&cache, &found), ["a_b{}=3", "a{x=1}=4", "a{}=5"]);
}

#[test]
fn two_spellings_of_one_series_share_a_slot_and_the_first_value_wins() {
    let mut cache = cache(|_| {});
    let found = scrape(&mut cache, "a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 2\na{y=\"2\",x=\"1\"} 3\n");
    assert_eq!(cells(&cache, &found), ["a{x=1,y=2}=1"]);
    assert_eq!((found.scraped, found.added, found.duplicates), (3, 3, 2));
    assert_eq!(found.error, None);
}

#[test]
fn an_error_says_the_line_and_keeps_nothing() {
    let mut cache = cache(|_| {});
    let found = scrape(&mut cache, "a 1\nb{ 2\n");
    assert!(found.error.as_deref().is_some_and(|error| error.starts_with("line 2: expected label name")));
    assert!(found.cells.is_empty());
    assert_eq!(found.scraped, 1);
}

#[test]
fn an_error_behind_known_lines_says_the_line_too() {
    let mut cache = cache(|_| {});
    let _ = scrape(&mut cache, "a 1\nb 2\n");
    let found = scrape(&mut cache, "a 1\nb x\n");
    let error = found.error.expect("an error");
    assert_eq!(error, "line 2: strconv.ParseFloat: parsing \"x\": invalid syntax while parsing: \"b x\"");
}

#[test]
fn over_the_sample_limit_the_scrape_fails_and_everything_is_counted() {
    let mut cache = cache(|c| c.limits.samples = 2);
    let found = scrape(&mut cache, "a 1\nb 2\nc 3\n");
    assert_eq!(found.error.as_deref(), Some("sample limit exceeded"));
    assert_eq!((found.scraped, found.added, found.series_added), (3, 3, 2));
    assert!(found.cells.is_empty());
}

#[test]
fn samples_with_their_own_time_stand_apart() {
    let mut cache = cache(|_| {});
    let found = scrape(&mut cache, "a 1 500\na 2 400\nb 3\nc 4 99999999\n");
    assert_eq!(cells(&cache, &found), ["b{}=3"]);
    let timed: Vec<(i64, bool)> = found.timed.iter().map(|s| (s.timestamp, s.late)).collect();
    assert_eq!(timed, [(500, false), (400, true)]);
    assert_eq!(found.out_of_bounds, 1);
}

#[test]
fn their_own_time_is_ignored_if_it_is_not_honoured() {
    let mut cache = cache(|c| c.honor_timestamps = false);
    let found = scrape(&mut cache, "a 1 500\n");
    assert_eq!(cells(&cache, &found), ["a{}=1"]);
}

#[test]
fn a_series_with_its_own_time_ends_if_that_is_tracked() {
    let mut cache = cache(|c| c.track_timestamps_staleness = true);
    let first = scrape(&mut cache, "a 1 500\nb 1 500\n");
    assert!(first.ended.is_empty());
    let second = scrape(&mut cache, "b 1 600\n");
    assert_eq!(second.ended.len(), 1);
    assert_eq!(cache.table.get(second.ended[0]).unwrap().metric_name(), "a");
}

#[test]
fn a_target_whose_series_always_change_is_forgotten_again_and_again() {
    let mut cache = cache(|_| {});
    for round in 0..100 {
        let body: String = (0..100).map(|i| format!("a{{x=\"{round}-{i}\"}} 1\n")).collect();
        let found = scrape(&mut cache, &body);
        assert_eq!((found.cells.len(), found.series_added), (100, 100));
    }
    assert!(cache.table.len() < 400, "{}", cache.table.len());
    assert!(cache.lines.len() < 1500, "{}", cache.lines.len());
}

#[test]
fn a_target_that_fails_for_ever_with_new_series_stays_small() {
    let mut cache = cache(|_| {});
    for round in 0..200 {
        let body: String = (0..100).map(|i| format!("a{{x=\"{round}-{i}\"}} 1\n")).collect();
        assert!(scrape(&mut cache, &(body + "broken")).error.is_some());
    }
    assert!(cache.table.len() < 400, "{}", cache.table.len());
}

#[test]
fn a_new_table_keeps_what_lives() {
    let mut cache = cache(|_| {});
    let many: String = (0..500).map(|i| format!("a{{x=\"{i}\"}} 1\n")).collect();
    let _ = scrape(&mut cache, &many);
    let few = "a{x=\"1\"} 1\na{x=\"2\"} 2\n";
    let _ = scrape(&mut cache, few);
    let before = cache.table.identity();
    let found = scrape(&mut cache, few);
    assert_ne!(cache.table.identity(), before);
    assert_eq!(cells(&cache, &found), ["a{x=1}=1", "a{x=2}=2"]);
    assert_eq!(found.series_added, 0);
}

#[test]
fn too_many_series_are_an_error_and_no_growth() {
    let mut cache = cache(|_| {});
    let body: String = (0..20_000).map(|i| format!("a{{x=\"{i}\"}} 1\n")).collect();
    assert!(scrape(&mut cache, &body).error.is_some_and(|error| error.contains("more than 10000 series")));
}

#[test]
fn metadata_is_what_the_target_said_of_late() {
    let mut cache = cache(|_| {});
    let body = "# HELP a what \\n it is\n# TYPE a counter\na 1\n# some comment\n";
    let _ = scrape(&mut cache, body);
    let expected = MetricMetadata {
        metric: "a".into(),
        kind: MetricKind::Counter,
        help: "what \n it is".into(),
        unit: String::new(),
    };
    assert_eq!(cache.metadata(), [expected]);
    (0..12).for_each(|_| drop(scrape(&mut cache, "a 1\n")));
    assert_eq!(cache.metadata(), []);
}

#[test]
fn a_bound_is_normalised_by_the_kind_that_a_known_line_said() {
    let mut cache = cache(|_| {});
    let _ = scrape(&mut cache, "# TYPE a histogram\na_bucket{le=\"1\"} 1\n");
    let found = scrape(&mut cache, "# TYPE a histogram\na_bucket{le=\"2\"} 1\na_bucket{le=\"1\"} 1\n");
    assert_eq!(cells(&cache, &found), ["a_bucket{le=1.0}=1", "a_bucket{le=2.0}=1"]);
}

#[test]
fn the_bounds_of_a_gaugehistogram_stay_as_they_are_written() {
    let mut cache = cache(|_| {});
    let text =
        "# TYPE a gaugehistogram\na_bucket{le=\"1\"} 1\n# TYPE b histogram\nb_bucket{le=\"1\"} 1\n# EOF\n";
    let mut bytes = text.as_bytes().to_vec();
    let format = BodyFormat::OpenMetricsText;
    let found = cache.ingest(Body { bytes: &mut bytes, format, timestamp: TimestampMs(NOW) });
    assert_eq!(cells(&cache, &found), ["a_bucket{le=1}=1", "b_bucket{le=1.0}=1"]);
}

#[test]
fn every_line_of_a_real_exporter_gives_the_same_the_second_time() {
    let Some(body) = crate::corpus::read("node_exporter/e2e-output.txt") else { return };
    let mut cache = cache(|_| {});
    let first = scrape(&mut cache, &body);
    let second = scrape(&mut cache, &body);
    assert_eq!(first.error, None);
    assert_eq!(cells(&cache, &first), cells(&cache, &second));
    assert_eq!((first.scraped, second.series_added), (second.scraped, 0));
    println!("{} samples of node_exporter", first.scraped);
}

/// Everything that a body says, whatever its slots.
fn meaning(cache: &SeriesCache, found: &Ingested) -> (Vec<String>, Vec<String>, Option<String>, u64, u64) {
    let timed =
        found.timed.iter().map(|s| format!("{} {} {}", show(cache, s.slot, &s.value), s.timestamp, s.late));
    (cells(cache, found), timed.collect(), found.error.clone(), found.scraped, found.duplicates)
}

/// A line of a body: mostly a sample, sometimes something else, rarely something broken.
fn line() -> impl proptest::strategy::Strategy<Value = String> {
    let sample = "(a|b|ab|a\\{x=\"1\"\\}|a\\{x=\"1\",y=\"2\"\\}|a\\{y=\"2\",x=\"1\"\\}|b_bucket\\{le=\"1\"\\}) ?\
                  ( 1| 2.5| 1e3| 1 5| 2 7| 2 4000| NaN|  3|\t4|\\{z=\"1\"\\} 1)\n";
    let other = "(# TYPE b (histogram|gauge)|# HELP a [bc]|# c|)\n";
    proptest::prop_oneof![30 => sample, 10 => other, 1 => "(a\\{|b x|a 1 x|b 1 99999999999999)\n"]
}

proptest::proptest! {
    #[test]
    fn what_a_body_means_does_not_depend_on_the_bodies_before(
        bodies in proptest::collection::vec(proptest::collection::vec(line(), 0..12), 1..8)
    ) {
        let mut warm = cache(|_| {});
        for body in bodies {
            let body = body.concat();
            let mut cold = cache(|_| {});
            let expected = scrape(&mut cold, &body);
            let found = scrape(&mut warm, &body);
            proptest::prop_assert_eq!(meaning(&warm, &found), meaning(&cold, &expected), "{}", body);
        }
    }
}

#[test]
fn native_histograms_over_their_limit_lose_resolution() {
    // One family `m` of one histogram: 8 observations in 8 buckets side by side at schema 3.
    let body = b"\x1d\x0a\x01m\x18\x04\x22\x16\x3a\x14\x08\x08\x28\x06\x62\x04\x08\x02\x10\x08\
        \x6a\x08\x02\0\0\0\0\0\0\0";
    let scraped = |factor: Option<i32>, limit: u64| {
        let mut cache = cache(|config| {
            config.scrape_native_histograms = true;
            config.limits.native_histogram_schema = factor;
            config.limits.native_histogram_buckets = limit;
        });
        let mut bytes = body.to_vec();
        let found = cache.ingest(Body {
            bytes: &mut bytes,
            format: BodyFormat::Protobuf,
            timestamp: TimestampMs(NOW),
        });
        match (found.error, found.cells.as_slice()) {
            (None, [(_, Value::Histogram(h))]) => Ok((h.schema, h.positive_deltas.len())),
            (error, cells) => Err(format!("{error:?}, {} cells", cells.len())),
        }
    };
    assert_eq!(scraped(None, 0), Ok((3, 8)));
    assert_eq!(scraped(None, 4), Ok((2, 4)));
    assert_eq!(scraped(Some(0), 4), Ok((0, 1)));
}
