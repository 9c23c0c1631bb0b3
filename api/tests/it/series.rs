//! `/api/v1/series`, `/api/v1/labels`, `/api/v1/label/NAME/values`, `/federate`.

use crate::{
    memory::{Memory, NOW},
    world::World,
};
use api::Options;
use model::{Consistency, FloatHistogram, Labels, LogIndex, ShardId, Span, ViewIndexes};

fn world() -> World {
    let at = NOW.0;
    World::with(&[("__name__", "up"), ("instance", "a:1"), ("job", "x")], &[(1000, 1.0), (at - 1000, 1.0)])
        .and(&[("__name__", "up"), ("instance", "b:1"), ("job", "y")], &[(at - 2000, 0.0)])
        .and(&[("__name__", "a.b"), ("quote", "\"<\n")], &[(at, 2.5)])
        .and(&[("__name__", "gone"), ("job", "x")], &[(at - 1000, model::STALE_NAN)])
        .and(&[("__name__", "old"), ("job", "x")], &[(1000, 1.0)])
}

async fn get(path: &str) -> String {
    world().get(path).await.text().to_owned()
}

#[tokio::test]
async fn label_names_are_sorted() {
    let expected = r#"{"status":"success","data":["__name__","instance","job","quote"]}"#;
    assert_eq!(get("/api/v1/labels").await, expected);
    assert_eq!(get("/api/v1/labels?start=99999999999").await, r#"{"status":"success","data":[]}"#);
    let expected = r#"{"status":"success","data":["__name__","instance"],"warnings":["results truncated due to limit"]}"#;
    assert_eq!(get("/api/v1/labels?limit=2").await, expected);
}

#[tokio::test]
async fn label_names_can_be_those_of_a_selection() {
    let expected = r#"{"status":"success","data":["__name__","instance","job"]}"#;
    assert_eq!(get("/api/v1/labels?match[]=up").await, expected);
    let world = world().open();
    assert_eq!(world.post_form("/api/v1/labels", "match[]=up").await.text(), expected);
}

#[tokio::test]
async fn label_values_are_sorted() {
    assert_eq!(get("/api/v1/label/job/values").await, r#"{"status":"success","data":["x","y"]}"#);
    assert_eq!(get("/api/v1/label/nothing/values").await, r#"{"status":"success","data":[]}"#);
    let expected = r#"{"status":"success","data":["a.b","gone","old","up"]}"#;
    assert_eq!(get("/api/v1/label/__name__/values").await, expected);
    let expected = r#"{"status":"success","data":["x","y"]}"#;
    assert_eq!(get("/api/v1/label/U__job/values").await, expected);
}

#[tokio::test]
async fn series_of_several_selectors_come_once_and_sorted() {
    let expected = concat!(
        r#"{"status":"success","data":[{"__name__":"old","job":"x"},"#,
        r#"{"__name__":"up","instance":"a:1","job":"x"},{"__name__":"up","instance":"b:1","job":"y"}]}"#
    );
    assert_eq!(get("/api/v1/series?match[]=up&match[]=old&match[]=%7Bjob%3D%22y%22%7D").await, expected);
    let both = world().open().post_form("/api/v1/series?match[]=up", "match[]=old").await;
    assert_eq!(both.text(), expected);
}

#[tokio::test]
async fn label_values_in_series_are_escaped_as_json_demands_and_no_more() {
    let expected = r#"{"status":"success","data":[{"__name__":"a.b","quote":"\"<\n"}]}"#;
    assert_eq!(get("/api/v1/series?match[]=%7B%22a.b%22%7D").await, expected);
}

#[tokio::test]
async fn cut_series_say_so() {
    let text = get("/api/v1/series?match[]=up&limit=1").await;
    let expected = concat!(
        r#"{"status":"success","data":[{"__name__":"up","instance":"a:1","job":"x"}],"#,
        r#""warnings":["results truncated due to limit"]}"#
    );
    assert_eq!(text, expected);
    assert!(!get("/api/v1/series?match[]=up&limit=2").await.contains("warnings"));
}

#[tokio::test]
async fn bad_parameters_are_refused_in_prometheus_words() {
    let error = |text: &str| format!(r#"{{"status":"error","errorType":"bad_data","error":"{text}"}}"#);
    assert_eq!(get("/api/v1/series").await, error("no match[] parameter provided"));
    let empty = "match[] must contain at least one non-empty matcher";
    assert_eq!(get("/api/v1/labels?match[]=%7B__name__%3D~%22.*%22%7D").await, error(empty));
    let text = r#"invalid parameter \"limit\": limit must be non-negative"#;
    assert_eq!(get("/api/v1/labels?limit=-1").await, error(text));
    let text = r#"invalid parameter \"start\": invalid time value for 'start': cannot parse \"x\" to a valid timestamp"#;
    assert_eq!(get("/api/v1/series?match[]=up&start=x").await, error(text));
}

#[tokio::test]
async fn a_listing_larger_than_a_node_should_give_is_refused() {
    let options = Options { list_max: 2, ..Options::default() };
    let reply = World { options, ..world() }.get("/api/v1/labels").await;
    assert_eq!(reply.status.as_u16(), 422);
    assert!(reply.text().contains("more than 2 entries"));
}

#[tokio::test]
async fn without_a_quorum_a_default_read_is_503_and_a_stale_one_warns() {
    let world = World { quorum: false, ..world() }.open();
    let reply = world.get("/api/v1/labels").await;
    assert_eq!(reply.status.as_u16(), 503);
    let expected = r#"{"status":"error","errorType":"unavailable","error":"shard 1 has no leader"}"#;
    assert_eq!(reply.text(), expected);
    for reply in [
        world.get("/api/v1/labels?consistency=stale").await,
        world.get_with("/api/v1/labels", &[("x-vestal-consistency", "stale")]).await,
    ] {
        assert!(reply.text().ends_with(r#""warnings":["data may be 3s old"]}"#), "{}", reply.text());
    }
}

#[tokio::test]
async fn a_view_is_named_and_can_be_asked_for() {
    let world = world().open();
    let reply = world.get_with("/api/v1/labels", &[("x-vestal-view", "1:90,2:50")]).await;
    assert_eq!(reply.header("x-vestal-view"), "1:100,2:57");
    let indexes = [(ShardId(1), LogIndex(90)), (ShardId(2), LogIndex(50))];
    assert_eq!(*world.views.asked.lock().unwrap(), [Consistency::AtLeast(ViewIndexes(indexes.into()))]);
    assert_eq!(world.get_with("/api/v1/labels", &[("x-vestal-view", "x")]).await.status.as_u16(), 400);
    assert_eq!(world.get("/api/v1/labels?consistency=eventual").await.status.as_u16(), 400);
}

const FEDERATE_ALL: &str = "/federate?match[]=%7B__name__%3D~%22.%2B%22%7D";

#[tokio::test]
async fn federation_escapes_names_for_readers_that_do_not_know_utf_8() {
    let reply = world().get(FEDERATE_ALL).await;
    assert_eq!(
        reply.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    );
    let first = "# TYPE a_b untyped\na_b{quote=\"\\\"<\\n\",instance=\"\"} 2.5 1435781451781\n";
    assert!(reply.text().starts_with(first), "{}", reply.text());
}

#[tokio::test]
async fn federation_gives_everything_to_who_asks_for_everything() {
    let count = async |selector: &str| {
        let reply = world().get(&format!("/federate?match[]={selector}")).await;
        (reply.status.as_u16(), reply.text().lines().filter(|line| !line.starts_with('#')).count())
    };
    assert_eq!(count("%7B__name__%3D~%22.*%22%7D").await, (200, 3));
    assert_eq!(count("%7Bjob%3D~%22.*%22%7D").await, (200, 3));
    assert_eq!(count("%7B%7D").await, (200, 3));
    assert_eq!(world().get("/api/v1/series?match[]=%7B%7D").await.status.as_u16(), 400);
}

#[tokio::test]
async fn a_prometheus_that_federates_with_its_defaults_gets_names_as_they_are() {
    let accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                  application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;\
                  escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let reply = world().open().get_with(FEDERATE_ALL, &[("accept", accept)]).await;
    assert!(reply.header("content-type").ends_with("version=0.0.4; charset=utf-8; escaping=allow-utf-8"));
    assert!(reply.text().starts_with("# TYPE \"a.b\" untyped\n{\"a.b\","), "{}", reply.text());
}

/// Fields of a protobuf message: numbers with their varints, eight bytes or bytes.
fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let length = match key & 7 {
            0 => {
                found.push((key >> 3, varint(&mut message).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            _ => varint(&mut message) as usize,
        };
        let (value, rest) = message.split_at(length);
        found.push((key >> 3, value.to_vec()));
        message = rest;
    }
    found
}

fn field(message: &[(u64, Vec<u8>)], number: u64) -> &[u8] {
    &message.iter().find(|(n, _)| *n == number).unwrap().1
}

#[tokio::test]
async fn federation_gives_native_histograms_to_who_reads_protobuf() {
    let histogram = FloatHistogram {
        schema: -4,
        count: 7.0,
        sum: 2.5,
        zero_threshold: 0.001,
        zero_count: 1.0,
        positive_spans: vec![Span { offset: -1, length: 2 }],
        positive_buckets: vec![2.0, 4.0],
        ..FloatHistogram::default()
    };
    let memory = Memory::default().with_histogram("h", NOW.0, histogram);
    let world = World { memory, ..World::default() }.open();
    assert_eq!(world.get(FEDERATE_ALL).await.text(), "", "text cannot say it");
    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let reply =
        world.get_with(FEDERATE_ALL, &[("accept", &format!("text/plain;q=0.5,{accept};q=0.7"))]).await;
    assert!(reply.header("content-type").starts_with("application/vnd.google.protobuf; proto="));
    assert_eq!(reply.body[0] as usize, reply.body.len() - 1, "one family behind its length");
    let family = fields(&reply.body[1..]);
    assert_eq!((field(&family, 1), field(&family, 3)[0]), (&b"h"[..], 4));
    let metric = fields(field(&family, 4));
    assert_eq!(field(&metric, 6), NOW.0.to_le_bytes());
    let native = fields(field(&metric, 7));
    assert_eq!(field(&native, 4), 7_f64.to_le_bytes());
    assert_eq!(field(&native, 2), 2.5_f64.to_le_bytes());
    assert_eq!(field(&native, 5)[0], 7, "-4 as zigzag");
    assert_eq!(field(&native, 12), [1 << 3, 1, 2 << 3, 2], "offset -1, two buckets");
    let counts: Vec<_> =
        native.iter().filter(|(number, _)| *number == 14).map(|(_, value)| &value[..]).collect();
    assert_eq!(counts, [2_f64.to_le_bytes(), 4_f64.to_le_bytes()]);
}

#[tokio::test]
async fn federation_gives_last_samples_with_timestamps_and_an_instance() {
    let accept = [("accept", "text/plain;version=0.0.4;escaping=allow-utf-8;q=0.5")];
    let reply = world().open().get_with(FEDERATE_ALL, &accept).await;
    assert_eq!(
        reply.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8"
    );
    let expected = concat!(
        "# TYPE \"a.b\" untyped\n",
        "{\"a.b\",quote=\"\\\"<\\n\",instance=\"\"} 2.5 1435781451781\n",
        "# TYPE up untyped\n",
        "up{instance=\"a:1\",job=\"x\"} 1 1435781450781\n",
        "up{instance=\"b:1\",job=\"y\"} 0 1435781449781\n",
    );
    assert_eq!(reply.text(), expected);
}

#[tokio::test]
async fn federation_adds_external_labels_where_they_are_missing() {
    let external_labels = Labels::from_pairs([("job", "z"), ("zone", "e")]);
    let reply = World { external_labels, ..world() }.get("/federate?match[]=%7Bjob%3D%22y%22%7D").await;
    let line = "up{instance=\"b:1\",job=\"y\",zone=\"e\"} 0 1435781449781\n";
    assert_eq!(reply.text(), format!("# TYPE up untyped\n{line}"));
}
