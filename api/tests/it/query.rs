//! `/api/v1/query`, `/api/v1/query_range`, and what looks at a query's text only.

use crate::{
    memory::{Memory, NEVER, NOW},
    world::{Asked, World},
};
use api::Options;
use model::{FloatHistogram, Span};
use std::{io::Read, sync::atomic::Ordering};

/// `up` of two instances around [`NOW`], and a counter.
fn world() -> World {
    let at = NOW.0;
    let counter: Vec<(i64, f64)> = (0..10).map(|i| (at - 90_000 + i * 10_000, i as f64)).collect();
    World::with(&[("__name__", "up"), ("instance", "a:1"), ("job", "x")], &[(at - 5000, 1.0)])
        .and(&[("__name__", "up"), ("instance", "b:1"), ("job", "<y>")], &[(at - 5000, 0.0)])
        .and(&[("__name__", "requests_total")], &counter)
        .and(&[("__name__", "temperature")], &[(at - 20_000, 20.0), (at - 10_000, 21.5)])
        .and(&[("__name__", "odd"), ("k", "nan")], &[(at, f64::NAN)])
        .and(&[("__name__", "odd"), ("k", "inf")], &[(at, f64::NEG_INFINITY)])
        .and(&[("__name__", "odd"), ("k", "big")], &[(at, 1e21)])
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

async fn query(text: &str) -> String {
    let path = format!("/api/v1/query?query={}", encoded(text));
    world().get(&path).await.text().to_owned()
}

fn data(data: &str) -> String {
    format!(r#"{{"status":"success","data":{data}}}"#)
}

fn error(kind: &str, text: &str) -> String {
    format!(r#"{{"status":"error","errorType":"{kind}","error":"{text}"}}"#)
}

fn bad(text: &str) -> String {
    error("bad_data", text)
}

#[tokio::test]
async fn an_instant_vector_is_a_vector() {
    let expected = concat!(
        r#"{"resultType":"vector","result":["#,
        r#"{"metric":{"__name__":"up","instance":"a:1","job":"x"},"value":[1435781451.781,"1"]},"#,
        r#"{"metric":{"__name__":"up","instance":"b:1","job":"<y>"},"value":[1435781451.781,"0"]}]}"#
    );
    assert_eq!(query("up").await, data(expected));
}

#[tokio::test]
async fn nothing_is_an_empty_list() {
    assert_eq!(query("nothing").await, data(r#"{"resultType":"vector","result":[]}"#));
}

#[tokio::test]
async fn scalars_and_strings_are_pairs() {
    assert_eq!(query("1.5").await, data(r#"{"resultType":"scalar","result":[1435781451.781,"1.5"]}"#));
    assert_eq!(query("1e-7").await, data(r#"{"resultType":"scalar","result":[1435781451.781,"0.0000001"]}"#));
    let expected = r#"{"resultType":"string","result":[1435781451.781,"a\u003cb"]}"#;
    assert_eq!(query("\"a<b\"").await, data(expected));
}

#[tokio::test]
async fn a_range_selector_is_a_matrix_of_raw_samples() {
    let expected = concat!(
        r#"{"resultType":"matrix","result":[{"metric":{"__name__":"requests_total"},"#,
        r#""values":[[1435781441.781,"8"],[1435781451.781,"9"]]}]}"#
    );
    assert_eq!(query("requests_total[15s]").await, data(expected));
}

#[tokio::test]
async fn values_that_json_has_no_number_for_are_texts() {
    let text = query("odd").await;
    for value in [r#"[1435781451.781,"1e+21"]"#, r#"[1435781451.781,"-Inf"]"#, r#"[1435781451.781,"NaN"]"#] {
        assert!(text.contains(value), "{text}");
    }
}

#[tokio::test]
async fn the_time_of_an_instant_query_can_be_given_in_every_form() {
    let world = world().open();
    let ask = async |time: &str| {
        world.get(&format!("/api/v1/query?query=time()&time={}", encoded(time))).await.text().to_owned()
    };
    let expected = data(r#"{"resultType":"scalar","result":[123.400,"123.4"]}"#);
    assert_eq!(ask("123.4").await, expected);
    assert_eq!(ask("1970-01-01T02:02:03.4+02:00").await, expected);
    let text = r#"invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\" to a valid timestamp"#;
    assert_eq!(ask("x").await, bad(text));
}

#[tokio::test]
async fn a_range_query_is_a_matrix_on_its_grid() {
    let path = "/api/v1/query_range?query=requests_total&start=1435781441.781&end=1435781451.781&step=5";
    let expected = concat!(
        r#"{"resultType":"matrix","result":[{"metric":{"__name__":"requests_total"},"#,
        r#""values":[[1435781441.781,"8"],[1435781446.781,"8"],[1435781451.781,"9"]]}]}"#
    );
    assert_eq!(world().get(path).await.text(), data(expected));
}

#[tokio::test]
async fn a_range_query_of_a_scalar_is_one_series_without_labels() {
    let path = "/api/v1/query_range?query=time()&start=0&end=2&step=1s";
    let expected = r#"{"resultType":"matrix","result":[{"metric":{},"values":[[0,"0"],[1,"1"],[2,"2"]]}]}"#;
    assert_eq!(world().get(path).await.text(), data(expected));
}

#[tokio::test]
async fn range_queries_that_make_no_sense_are_refused_in_prometheus_words() {
    let world = world().open();
    let ask =
        async |rest: &str| world.get(&format!("/api/v1/query_range?query=up&{rest}")).await.text().to_owned();
    let text = r#"invalid parameter \"start\": cannot parse \"\" to a valid timestamp"#;
    assert_eq!(ask("end=2&step=1").await, bad(text));
    let text = r#"invalid parameter \"end\": end timestamp must not be before start time"#;
    assert_eq!(ask("start=2&end=1&step=1").await, bad(text));
    let text = r#"invalid parameter \"step\": cannot parse \"x\" to a valid duration"#;
    assert_eq!(ask("start=1&end=2&step=x").await, bad(text));
    let text = r#"invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer"#;
    assert_eq!(ask("start=1&end=2&step=0").await, bad(text));
    let text = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)";
    assert_eq!(ask("start=0&end=11001&step=1").await, bad(text));
    assert!(ask("start=0&end=11000&step=1").await.starts_with(r#"{"status":"success""#));
}

#[tokio::test]
async fn a_range_query_of_a_range_is_refused() {
    let reply = world().get("/api/v1/query_range?query=up[5m]&start=0&end=2&step=1").await;
    let text = r#"invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector"#;
    assert_eq!((reply.status.as_u16(), reply.text()), (400, bad(text).as_str()));
}

#[tokio::test]
async fn a_text_that_is_no_query_is_refused_with_its_place() {
    let text = r#"invalid parameter \"query\": 1:4: parse error: unexpected end of input"#;
    assert_eq!(query("up{").await, bad(&text.replace("end of input", "end of input inside braces")));
    let reply = world().get("/api/v1/query").await;
    assert_eq!(reply.status.as_u16(), 400);
    let text = r#"invalid parameter \"query\": unknown position: parse error: no expression found in input"#;
    assert_eq!(reply.text(), bad(text));
}

#[tokio::test]
async fn a_query_that_fails_on_its_data_is_422() {
    let reply = world().get(&format!("/api/v1/query?query={}", encoded("up * on() up"))).await;
    assert_eq!(reply.status.as_u16(), 422);
    assert!(
        reply
            .text()
            .starts_with(r#"{"status":"error","errorType":"execution","error":"found duplicate series"#)
    );
}

#[tokio::test]
async fn forms_are_as_good_as_urls_and_the_body_wins() {
    let world = world().open();
    let expected = data(r#"{"resultType":"scalar","result":[7,"2"]}"#);
    assert_eq!(world.post_form("/api/v1/query", "query=2&time=7").await.text(), expected);
    assert_eq!(world.post_form("/api/v1/query?query=1&time=7", "query=2").await.text(), expected);
}

#[tokio::test]
async fn a_form_that_is_too_large_is_refused() {
    let options = Options { form_bytes_max: 100, ..Options::default() };
    let world = World { options, ..World::default() }.open();
    let reply = world.post_form("/api/v1/query", &"x".repeat(101)).await;
    assert_eq!(reply.status.as_u16(), 413);
}

#[tokio::test]
async fn a_limit_cuts_series_and_says_so() {
    let world = world().open();
    let expected = concat!(
        r#"{"status":"success","data":{"resultType":"vector","result":["#,
        r#"{"metric":{"__name__":"up","instance":"a:1","job":"x"},"value":[1435781451.781,"1"]}]},"#,
        r#""warnings":["results truncated due to limit"]}"#
    );
    assert_eq!(world.get("/api/v1/query?query=up&limit=1").await.text(), expected);
    let text = r#"invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax"#;
    assert_eq!(world.get("/api/v1/query?query=up&limit=x").await.text(), bad(text));
}

#[tokio::test]
async fn statistics_come_when_asked_for() {
    let world = world().open();
    let reply = world.get("/api/v1/query?query=up&stats=all").await;
    let reply: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let samples = &reply["data"]["stats"]["samples"];
    assert_eq!(samples["totalQueryableSamples"], 2);
    let timings = reply["data"]["stats"]["timings"].as_object().unwrap();
    let names: Vec<&str> = timings.keys().map(String::as_str).collect();
    let expected = [
        "evalTotalTime",
        "execQueueTime",
        "execTotalTime",
        "innerEvalTime",
        "queryPreparationTime",
        "resultSortTime",
    ];
    assert_eq!(names, expected);
    let text = world.get("/api/v1/query?query=up&stats=1").await.text().to_owned();
    assert!(text.contains(r#""warnings":["value \"1\" for parameter \"stats\" is deprecated"#), "{text}");
}

#[tokio::test]
async fn the_lookback_can_be_shortened() {
    let world = world().open();
    let reply = world.get("/api/v1/query?query=up&lookback_delta=1s").await;
    assert_eq!(reply.text(), data(r#"{"resultType":"vector","result":[]}"#));
    let reply = world.get("/api/v1/query?query=up&lookback_delta=x").await;
    let text = r#"error parsing lookback delta duration: cannot parse \"x\" to a valid duration"#;
    assert_eq!(reply.text(), bad(text));
}

#[tokio::test(start_paused = true)]
async fn a_query_that_finds_no_place_in_time_is_503() {
    let options = Options { query_concurrency_max: 1, ..Options::default() };
    let world = World { options, ..world() }.open();
    let stuck = world.get_with("/api/v1/query?query=up", &[("x-vestal-view", NEVER)]);
    let waiting = world.get("/api/v1/query?query=up&timeout=1");
    let reply = tokio::select! {
        biased;
        reply = stuck => reply,
        reply = waiting => reply,
    };
    assert_eq!(
        (reply.status.as_u16(), reply.text()),
        (503, error("timeout", "query timed out in query queue").as_str())
    );
}

#[tokio::test]
async fn a_query_without_time_left_is_503() {
    let reply = world().get("/api/v1/query?query=up&timeout=-1").await;
    let text = "query timed out in expression evaluation";
    assert_eq!((reply.status.as_u16(), reply.text()), (503, error("timeout", text).as_str()));
    let reply = world().get("/api/v1/query?query=up&timeout=x").await;
    assert_eq!(reply.text(), bad(r#"invalid parameter \"timeout\": cannot parse \"x\" to a valid duration"#));
}

#[tokio::test]
async fn a_histogram_is_its_count_sum_and_filled_buckets() {
    let histogram = FloatHistogram {
        zero_threshold: 0.25,
        zero_count: 3.0,
        count: 21.0,
        sum: 34.5,
        positive_spans: vec![Span { offset: 0, length: 3 }],
        positive_buckets: vec![12.0, 0.0, 6.0],
        ..FloatHistogram::default()
    };
    let world =
        World { memory: Memory::default().with_histogram("latency", NOW.0, histogram), ..World::default() };
    let expected = concat!(
        r#"{"resultType":"vector","result":[{"metric":{"__name__":"latency"},"histogram":[1435781451.781,"#,
        r#"{"count":"21","sum":"34.5","buckets":[[3,"-0.25","0.25","3"],[0,"0.5","1","12"],[0,"2","4","6"]]}]}]}"#
    );
    assert_eq!(world.get("/api/v1/query?query=latency").await.text(), data(expected));
}

#[tokio::test]
async fn a_query_over_too_many_samples_is_422() {
    let options = Options { query_samples_max: 5, ..Options::default() };
    let reply = World { options, ..world() }.get("/api/v1/query?query=requests_total[5m]").await;
    let text = "query processing would load too many samples into memory in query execution";
    assert_eq!((reply.status.as_u16(), reply.text()), (422, error("execution", text).as_str()));
}

#[tokio::test]
async fn infos_stand_apart_from_warnings() {
    let text = query("rate(temperature[1m])").await;
    let info = "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \\\"temperature\\\" (1:6)";
    assert!(text.ends_with(&format!(r#","infos":["{info}"]}}"#)), "{text}");
    assert!(!text.contains("warnings"), "{text}");
}

#[tokio::test]
async fn warnings_say_where_they_arose() {
    let text = query("quantile(2, up)").await;
    let warning = "PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)";
    assert!(text.ends_with(&format!(r#","warnings":["{warning}"]}}"#)), "{text}");
}

#[tokio::test]
async fn a_large_answer_is_whole_plain_and_packed() {
    let long = "x".repeat(2000);
    let series = |world: World, i: usize| {
        let (i, long) = (i.to_string(), long.as_str());
        world.and(&[("__name__", "wide"), ("i", i.as_str()), ("long", long)], &[(NOW.0, 1.0)])
    };
    let world = (0..200).fold(World::default(), series).open();
    let plain = world.get("/api/v1/query?query=wide").await;
    assert_eq!(plain.header("content-length"), plain.body.len().to_string());
    let answer: serde_json::Value = serde_json::from_slice(&plain.body).unwrap();
    assert_eq!(answer["data"]["result"].as_array().unwrap().len(), 200);
    let packed = world.get_with("/api/v1/query?query=wide", &[("accept-encoding", "gzip")]).await;
    assert_eq!(packed.header("content-length"), packed.body.len().to_string());
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
}

#[tokio::test]
async fn an_answer_larger_than_its_budget_is_422() {
    let long = "x".repeat(200_000);
    let options = Options { query_bytes_max: 100_000, ..Options::default() };
    let world = World { options, ..World::default() };
    let world = world.and(&[("__name__", "wide"), ("long", &long)], &[(NOW.0, 1.0)]);
    let reply = world.get("/api/v1/query?query=wide").await;
    assert_eq!(reply.status.as_u16(), 422);
    assert!(reply.text().contains("query needs more than 100000 bytes of memory"), "{}", reply.text());
}

#[tokio::test]
async fn without_a_quorum_a_default_query_is_503_with_the_reason() {
    let world = World { quorum: false, ..world() }.open();
    let reply = world.get("/api/v1/query?query=up").await;
    assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (503, "1"));
    assert_eq!(reply.text(), error("unavailable", "shard 1 has no leader"));
    assert_eq!(world.get("/api/v1/query?query=up{").await.status.as_u16(), 400);
    let reply = world.get("/api/v1/query?query=1&time=7&consistency=stale").await;
    let expected = concat!(
        r#"{"status":"success","data":{"resultType":"scalar","result":[7,"1"]},"#,
        r#""warnings":["data may be 3s old"]}"#
    );
    assert_eq!(reply.text(), expected);
}

#[tokio::test]
async fn queries_are_counted_and_name_their_view() {
    let world: Asked = world().open();
    let reply = world.get("/api/v1/query?query=up").await;
    assert_eq!(reply.header("x-vestal-view"), "1:100,2:57");
    assert_eq!(world.counters.queries.load(Ordering::Relaxed), 1);
}

/// A world whose views are at first of a memory with another value of `up`.
fn behind() -> World {
    let old = Memory::default().with(&[("__name__", "up")], &[(NOW.0, 1.0)]);
    let world = World { behind: Some(old), ..World::default() };
    world.and(&[("__name__", "up")], &[(NOW.0, 2.0)])
}

#[tokio::test]
async fn a_query_that_began_on_a_view_that_is_not_enough_is_answered_from_another() {
    let world: Asked = behind().open();
    // The first is evaluated while its view is in question; the other one, which has no weight, waits for it.
    for query in ["sum(up)", "sum(max_over_time(up[1s:1ms]))"] {
        let before = world.counters.queries.load(Ordering::Relaxed);
        let reply = world.get(&format!("/api/v1/query?query={query}")).await;
        assert!(reply.text().contains(r#""2"]"#), "{}", reply.text());
        assert_eq!(reply.header("x-vestal-view"), "1:100,2:57");
        assert_eq!(world.counters.queries.load(Ordering::Relaxed), before + 1, "it counts once");
    }
}

#[tokio::test]
async fn a_query_is_not_answered_from_a_view_of_which_nobody_knows_whether_it_is_enough() {
    let world = World { quorum: false, ..behind() }.open();
    let reply = world.get("/api/v1/query?query=up").await;
    assert_eq!(reply.status.as_u16(), 503);
    assert_eq!(reply.text(), error("unavailable", "shard 1 has no leader"));
    assert_eq!(world.counters.queries.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_query_is_formatted() {
    let world = world().open();
    let path = format!("/api/v1/format_query?query={}", encoded("sum   by(a)(foo # c\n)"));
    assert_eq!(world.get(&path).await.text(), data(r#""sum by (a) (foo)""#));
    assert_eq!(world.get("/api/v1/format_query?query=up{").await.status.as_u16(), 400);
}

#[tokio::test]
async fn a_query_is_parsed_to_a_tree() {
    let reply = world().get("/api/v1/parse_query?query=-1").await;
    assert_eq!(reply.text(), data(r#"{"type":"numberLiteral","val":"-1"}"#));
}

#[tokio::test]
async fn exemplars_are_none() {
    let world = world().open();
    assert_eq!(world.get("/api/v1/query_exemplars?query=up").await.text(), data("[]"));
    assert_eq!(world.get("/api/v1/query_exemplars?query=1").await.status.as_u16(), 204);
}
