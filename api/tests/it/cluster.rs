//! `/api/v1/status/cluster`, `/api/v1/status/gaps` and the page.

use crate::world::World;
use api::ports::Gap;
use model::{Labels, TimestampMs};

#[tokio::test]
async fn the_cluster_is_told_as_documented() {
    let expected = concat!(
        r#"{"status":"success","data":{"clusterId":"0000000000000000000000000000001f","nodes":["#,
        r#"{"id":1,"name":"node-1","state":"alive","webAddress":"10.0.0.1:9090","version":"0.1.0","clockOffsetSeconds":0.0015},"#,
        r#"{"id":2,"name":"node-2","state":"dead","webAddress":"10.0.0.2:9090","version":"0.1.0","clockOffsetSeconds":null}],"#,
        r#""shards":[{"id":0,"leader":null,"term":3,"commitIndex":41,"configVersion":2,"replicas":[]},"#,
        r#"{"id":1,"leader":"node-1","term":3,"commitIndex":41,"configVersion":2,"replicas":["#,
        r#"{"node":"node-1","role":"leader","appliedIndex":41,"stateHash":{"index":40,"hash":"00000000000000000000000000000abc"}},"#,
        r#"{"node":"node-2","role":"voter","appliedIndex":null,"stateHash":null}]}],"#,
        r#""config":{"version":2,"hash":"c0ffee","nodesWithOtherFiles":[],"ignored":[]},"#,
        r#""mayLoseAnotherNode":false,"why":"node-2 is dead"}}"#
    );
    assert_eq!(World::default().get("/api/v1/status/cluster").await.text(), expected);
}

fn with_gaps() -> World {
    let gap = |from, slots| Gap {
        target: Labels::from_pairs([("job", "node"), ("instance", "a:9100")]),
        from: TimestampMs(from),
        to: TimestampMs(from + 2000),
        slots,
        reason: "no leader".into(),
    };
    World { gaps: vec![gap(10_500, 3), gap(60_000, 1)], ..World::default() }
}

#[tokio::test]
async fn gaps_are_told_with_their_reason() {
    let expected = concat!(
        r#"{"status":"success","data":[{"target":{"instance":"a:9100","job":"node"},"from":10.500,"to":12.500,"#,
        r#""slots":3,"reason":"no leader"}]}"#
    );
    assert_eq!(with_gaps().get("/api/v1/status/gaps?start=0&end=30").await.text(), expected);
}

#[tokio::test]
async fn cut_gaps_say_so() {
    let reply = with_gaps().get("/api/v1/status/gaps?limit=1").await;
    assert!(reply.text().ends_with(r#""warnings":["results truncated due to limit"]}"#), "{}", reply.text());
}

#[tokio::test]
async fn the_page_shows_the_state_and_escapes_what_it_shows() {
    let reply = World::default().get("/").await;
    assert_eq!(reply.header("content-type"), "text/html; charset=utf-8");
    assert!(reply.text().contains("May lose another node: <b>no</b>. node-2 is dead"));
    assert!(reply.text().contains("<td>node-2<td>dead"));
}
