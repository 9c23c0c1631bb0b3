//! `/api/v1/targets`, `/targets/metadata`, `/metadata`, `/scrape_pools`.

use crate::{memory::NOW, world::World};
use api::ports::{DroppedTarget, MetricMetadata, TargetHealth, TargetList, TargetMetadata, TargetStatus};
use model::{DurationMs, Labels, ShardId};

fn world() -> World {
    let labels = |instance| Labels::from_pairs([("job", "node"), ("instance", instance)]);
    let target = |pool: &str, instance, health| TargetStatus {
        discovered_labels: Labels::from_pairs([("__address__", instance)]),
        labels: labels(instance),
        scrape_pool: pool.into(),
        scrape_url: format!("http://{instance}/metrics"),
        global_url: format!("http://{instance}/metrics"),
        health,
        scrape_interval: "15s".into(),
        scrape_timeout: "10s".into(),
        scrape_offset: DurationMs(4_321),
        shard: ShardId(3),
        ..TargetStatus::default()
    };
    let up = TargetStatus {
        last_scrape: Some(NOW),
        last_scrape_duration: 0.07,
        scraped_by: Some("node-2".into()),
        ..target("a", "x:1", TargetHealth::Up)
    };
    let dropped = DroppedTarget {
        discovered_labels: Labels::from_pairs([("__address__", "z:1")]),
        scrape_pool: "a".into(),
    };
    let metadata = |family: &str, help: &str| MetricMetadata {
        family: family.into(),
        kind: "gauge".into(),
        help: help.into(),
        unit: String::new(),
    };
    World {
        targets: TargetList {
            active: vec![target("b", "y:1", TargetHealth::Unknown), up],
            dropped: vec![dropped],
            dropped_counts: [("a".to_owned(), 1), ("b".to_owned(), 0)].into(),
        },
        metadata: vec![
            TargetMetadata {
                target: labels("x:1"),
                metrics: vec![metadata("go_threads", "Number <of> threads.")],
            },
            TargetMetadata {
                target: labels("y:1"),
                metrics: vec![metadata("go_threads", "Other."), metadata("up_time", "")],
            },
        ],
        ..World::default()
    }
}

async fn get(path: &str) -> String {
    world().get(path).await.text().to_owned()
}

#[tokio::test]
async fn targets_come_by_pool_with_who_scrapes_them() {
    let expected = concat!(
        r#"{"status":"success","data":{"activeTargets":[{"discoveredLabels":{"__address__":"x:1"},"#,
        r#""labels":{"instance":"x:1","job":"node"},"scrapePool":"a","scrapeUrl":"http://x:1/metrics","#,
        r#""globalUrl":"http://x:1/metrics","lastError":"","lastScrape":"2015-07-01T20:10:51.781Z","#,
        r#""lastScrapeDuration":0.07,"health":"up","scrapeInterval":"15s","scrapeTimeout":"10s","#,
        r#""scrapeOffset":4.321,"scrapedBy":"node-2","shard":3}],"#,
        r#""droppedTargets":[{"discoveredLabels":{"__address__":"z:1"},"scrapePool":"a"}],"#,
        r#""droppedTargetCounts":{"a":1,"b":0}}}"#
    );
    assert_eq!(get("/api/v1/targets?scrapePool=a").await, expected);
}

#[tokio::test]
async fn targets_can_be_asked_for_by_state() {
    let text = get("/api/v1/targets?state=dropped").await;
    assert!(text.contains(r#""activeTargets":[],"droppedTargets":[{"#), "{text}");
    let text = get("/api/v1/targets?state=ACTIVE").await;
    assert!(text.ends_with(r#""droppedTargets":[],"droppedTargetCounts":null}}"#), "{text}");
    assert!(
        text.contains(r#""lastScrape":"0001-01-01T00:00:00Z","lastScrapeDuration":0,"health":"unknown""#)
    );
    assert!(text.contains(r#""scrapedBy":null"#));
}

#[tokio::test]
async fn metadata_is_gathered_over_targets() {
    let expected = concat!(
        r#"{"status":"success","data":{"go_threads":[{"type":"gauge","help":"Number \u003cof\u003e threads.","unit":""},"#,
        r#"{"type":"gauge","help":"Other.","unit":""}]}}"#
    );
    assert_eq!(get("/api/v1/metadata?metric=go_threads").await, expected);
    assert_eq!(get("/api/v1/metadata?metric=nothing").await, r#"{"status":"success","data":{}}"#);
    let text = get("/api/v1/metadata?limit_per_metric=1&limit=1").await;
    assert!(!text.contains("Other.") && !text.contains("up_time"), "{text}");
}

#[tokio::test]
async fn metadata_limits_must_be_numbers() {
    let error = |text| format!(r#"{{"status":"error","errorType":"bad_data","error":"{text}"}}"#);
    assert_eq!(get("/api/v1/metadata?limit=x").await, error("limit must be a number"));
    assert_eq!(get("/api/v1/metadata?limit_per_metric=x").await, error("limit_per_metric must be a number"));
    assert_eq!(get("/api/v1/targets/metadata?limit=x").await, error("limit must be a number"));
}

#[tokio::test]
async fn target_metadata_names_the_target_and_the_metric_unless_it_was_asked_for() {
    let expected = concat!(
        r#"{"status":"success","data":[{"target":{"instance":"y:1","job":"node"},"metric":"go_threads","#,
        r#""type":"gauge","help":"Other.","unit":""},"#
    );
    let text = get("/api/v1/targets/metadata?match_target=%7Binstance%3D%22y:1%22%7D").await;
    assert!(text.starts_with(expected), "{text}");
    let text = get("/api/v1/targets/metadata?metric=up_time").await;
    assert!(text.contains(r#"[{"target":{"instance":"y:1","job":"node"},"type":"gauge""#), "{text}");
}

#[tokio::test]
async fn a_limit_of_target_metadata_stops_between_targets() {
    let rows = async |limit: &str| {
        let text = get(&format!("/api/v1/targets/metadata?limit={limit}")).await;
        text.matches(r#""target":"#).count()
    };
    assert_eq!((rows("0").await, rows("1").await, rows("2").await, rows("-1").await), (0, 1, 3, 3));
}

#[tokio::test]
async fn scrape_pools_are_sorted() {
    let expected = r#"{"status":"success","data":{"scrapePools":["blackbox","node"]}}"#;
    assert_eq!(get("/api/v1/scrape_pools").await, expected);
    let expected = r#"{"status":"success","data":{"yaml":"job_name: node\n"}}"#;
    assert_eq!(get("/api/v1/scrape_pools/config?scrapePool=node").await, expected);
    assert!(get("/api/v1/scrape_pools/config").await.contains("no scrapePool parameter provided"));
}
