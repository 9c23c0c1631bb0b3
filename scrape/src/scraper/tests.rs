use super::*;
use crate::config::{Authorization, BasicAuth, Scheme, ScrapeConfig, Secret, TlsConfig, TlsVersion};
use crate::fetch::BodyRoom;
use crate::target::{TargetGroup, TargetSet};
use crate::testing::{
    Gate, TEST_AUTHORITY, TEST_CERT, TEST_KEY, TestNet, ok, ports, ports_behind, ports_with, respond,
    respond_slowly, respond_tls,
};
use model::{Row, RowKind, Value, is_stale_nan};

/// A scraper of the targets `addresses`, every 10 s with a time-out of 1 s.
fn start(net: &Arc<TestNet>, addresses: &[&str], change: impl FnOnce(&mut ScrapeConfig)) -> Running {
    start_with(ports(net.clone()), addresses, change)
}

fn start_with(ports: ScraperPorts, addresses: &[&str], change: impl FnOnce(&mut ScrapeConfig)) -> Running {
    let targets = targets(addresses, change);
    let (scraper, outputs) = Scraper::start(ports, ScraperOptions::default(), Term(7));
    scraper.set_targets(targets.iter().map(assigned).collect());
    Running { scraper, outputs, targets }
}

fn targets(addresses: &[&str], change: impl FnOnce(&mut ScrapeConfig)) -> Vec<Arc<Target>> {
    let mut config = ScrapeConfig::new("j");
    config.scrape_interval = DurationMs(10_000);
    config.scrape_timeout = DurationMs(1_000);
    change(&mut config);
    let group = TargetGroup::of_addresses("0", addresses.iter().copied());
    TargetSet::build(&Arc::new(config), &[group]).active
}

fn assigned(target: &Arc<Target>) -> Assignment {
    Assignment { target: target.clone(), last_slot: None, last_timestamp: None }
}

struct Running {
    scraper: Scraper,
    outputs: mpsc::Receiver<ScraperOutput>,
    targets: Vec<Arc<Target>>,
}

impl Running {
    /// The next outcome.
    async fn next(&mut self) -> Outcome {
        loop {
            match self.outputs.recv().await.expect("the scraper runs") {
                ScraperOutput::Outcome(outcome) => return *outcome,
                ScraperOutput::Missed(_) => {}
            }
        }
    }
}

/// The value of a series of a row, by its name.
fn value(row: &Row, name: &str) -> Option<f64> {
    row.cells.iter().find_map(|(slot, value)| {
        let labels = row.table.get(*slot).expect("a slot of the table");
        match value {
            Value::Float(value) if labels.metric_name() == name => Some(*value),
            _ => None,
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_scrape_is_one_whole_row_with_five_synthetic_series() {
    let net = TestNet::new([("a:1", respond(|_| ok("m 5\nn 6\n")))]);
    let mut running = start(&net, &["a:1"], |_| {});
    let outcome = running.next().await;
    assert_eq!(outcome.last_error, None);
    assert_eq!((outcome.term, outcome.up), (Term(7), true));
    assert_eq!(outcome.timestamp, outcome.slot);
    assert_eq!(outcome.slot.0.rem_euclid(10_000), running.targets[0].offset().0 as i64);
    let row = &outcome.rows[0];
    assert_eq!(row.kind, RowKind::Whole { slot: outcome.slot });
    let names = [
        "m",
        "n",
        "up",
        "scrape_samples_scraped",
        "scrape_samples_post_metric_relabeling",
        "scrape_series_added",
    ];
    let values: Vec<_> = names.iter().map(|name| value(row, name)).collect();
    assert_eq!(values, [Some(5.0), Some(6.0), Some(1.0), Some(2.0), Some(2.0), Some(2.0)]);
    assert!(value(row, "scrape_duration_seconds").is_some());
    assert_eq!(row.cells.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn slots_follow_each_other_over_one_connection() {
    let net = TestNet::new([("a:1", respond(|_| ok("m 5\n")))]);
    let mut running = start(&net, &["a:1"], |_| {});
    let first = running.next().await;
    let second = running.next().await;
    assert_eq!(second.slot.0 - first.slot.0, 10_000);
    assert_eq!(second.series_added, 0);
    assert_eq!(net.connects(), 1);
    assert!(Arc::ptr_eq(&first.rows[0].table, &second.rows[0].table));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_closed_meanwhile_is_made_anew() {
    let net = TestNet::new([("a:1", respond(|_| ok("m 5\n").closing()))]);
    let mut running = start(&net, &["a:1"], |_| {});
    assert!(running.next().await.up);
    assert!(running.next().await.up);
    assert_eq!(net.connects(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_target_nobody_listens_at_is_down_and_its_row_is_synthetic_only() {
    let mut running = start(&TestNet::new([]), &["a:1"], |_| {});
    let outcome = running.next().await;
    let error = outcome.last_error.expect("an error");
    assert!(error.starts_with("Get \"http://a:1/metrics\": dial tcp a:1: "), "{error}");
    assert_eq!(value(&outcome.rows[0], "up"), Some(0.0));
    assert_eq!(outcome.rows[0].cells.len(), 5);
    assert_eq!(running.scraper.status()[0].health, Health::Down);
}

#[tokio::test(start_paused = true)]
async fn a_slow_target_ends_at_its_timeout() {
    let net = TestNet::new([("a:1", respond(|_| ok("m 5\n").after(Duration::from_secs(5))))]);
    let mut running = start(&net, &["a:1"], |_| {});
    let outcome = running.next().await;
    assert_eq!(outcome.last_error.as_deref(), Some("Get \"http://a:1/metrics\": context deadline exceeded"));
    assert!(outcome.duration < Duration::from_millis(1_100), "{:?}", outcome.duration);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_never_ends_ends_at_its_timeout() {
    let net = TestNet::new([("a:1", respond_slowly("m 5\n", Duration::from_millis(100)))]);
    let mut running = start(&net, &["a:1"], |_| {});
    let outcome = running.next().await;
    assert!(outcome.last_error.is_some_and(|error| error.contains("deadline exceeded")));
}

#[tokio::test(start_paused = true)]
async fn one_slow_target_holds_nobody_up() {
    let slow = respond(|_| ok("m 5\n").after(Duration::from_secs(60)));
    let net = TestNet::new([("a:1", slow), ("b:1", respond(|_| ok("m 5\n")))]);
    let mut running = start(&net, &["a:1", "b:1"], |_| {});
    let outcomes = [running.next().await, running.next().await, running.next().await, running.next().await];
    let up = outcomes.iter().filter(|outcome| outcome.up).count();
    assert_eq!(up, 2);
}

#[tokio::test(start_paused = true)]
async fn an_oversized_body_fails_the_scrape() {
    let net = TestNet::new([("a:1", respond(|_| ok(&"m 5\n".repeat(1_000))))]);
    let mut running = start(&net, &["a:1"], |c| {
        c.limits.body_size = crate::config::ByteSize(100);
        c.extra_scrape_metrics = true;
    });
    let outcome = running.next().await;
    assert_eq!(outcome.last_error.as_deref(), Some("body size limit exceeded"));
    assert_eq!(value(&outcome.rows[0], "scrape_body_size_bytes"), Some(-1.0)); // other failures have 0
}

#[tokio::test(start_paused = true)]
async fn a_gzip_bomb_fails_the_scrape() {
    let net = TestNet::new([("a:1", respond(|_| ok(&"m 5\n".repeat(1_000_000)).gzip()))]);
    let mut running = start(&net, &["a:1"], |c| c.limits.body_size = crate::config::ByteSize(1 << 20));
    assert_eq!(running.next().await.last_error.as_deref(), Some("body size limit exceeded"));
}

/// Targets whose endless bodies are given up after 5 minutes.
fn hold_bodies(ports: &ScraperPorts, addresses: &[&str]) -> Running {
    start_with(ports.clone(), addresses, |c| {
        c.scrape_interval = DurationMs(300_000);
        c.scrape_timeout = DurationMs(300_000);
    })
}

#[tokio::test(start_paused = true)]
async fn a_body_that_finds_no_room_on_its_node_waits_for_it_and_its_scrape_ends_at_its_timeout() {
    let piece: &'static str = "# no end\n".repeat(10_000).leak();
    let endless = || respond_slowly(piece, Duration::from_secs(1));
    let net = TestNet::new([("a:1", endless()), ("b:1", endless()), ("c:1", respond(|_| ok("m 5\n")))]);
    let ports = ScraperPorts { bodies: Arc::new(BodyRoom::new(128 << 10)), ..ports(net) };
    let holding = hold_bodies(&ports, &["a:1", "b:1"]);
    tokio::time::sleep(Duration::from_secs(300)).await; // each has its slot within
    let mut waiting = start_with(ports, &["c:1"], |_| {});
    let error = waiting.next().await.last_error.expect("an error");
    assert!(error.contains("while waiting for room"), "{error}");
    drop(holding);
    assert_eq!(waiting.next().await.last_error, None, "there is room again");
}

#[tokio::test(start_paused = true)]
async fn a_packed_body_is_asked_for_and_unpacked() {
    let answer = |request: &str| {
        if request.contains("accept-encoding: gzip") { ok("m 5\n").gzip() } else { ok("not packed") }
    };
    let mut running = start(&TestNet::new([("a:1", respond(answer))]), &["a:1"], |_| {});
    assert_eq!(value(&running.next().await.rows[0], "m"), Some(5.0));
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_followed_and_a_circle_is_not() {
    let round = |request: &str| match request.split(' ').nth(1) {
        Some("/metrics") => ok("").status("302 Found").header("Location: /there"),
        _ => ok("").status("302 Found").header("Location: /metrics"),
    };
    let once = |request: &str| match request.split(' ').nth(1) {
        Some("/metrics") => ok("").status("301 Moved").header("Location: http://c:1/m"),
        _ => ok("m 1\n"),
    };
    let net = TestNet::new([("a:1", respond(round)), ("b:1", respond(once)), ("c:1", respond(once))]);
    let mut running = start(&net, &["a:1"], |_| {});
    let error = running.next().await.last_error.expect("an error");
    assert_eq!(error, "Get \"http://a:1/there\": redirected in a circle");
    let mut running = start(&net, &["b:1"], |_| {});
    assert!(running.next().await.up);
    let mut running = start(&net, &["b:1"], |c| c.follow_redirects = false);
    let error = running.next().await.last_error.expect("an error");
    assert_eq!(error, "server returned HTTP status 301 Moved Permanently");
}

#[tokio::test(start_paused = true)]
async fn ever_new_redirects_end_after_ten() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let deeper = move |_: &str| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        ok("").status("302 Found").header(&format!("Location: /{n}"))
    };
    let mut running = start(&TestNet::new([("a:1", respond(deeper))]), &["a:1"], |_| {});
    assert!(
        running.next().await.last_error.is_some_and(|error| error.ends_with("stopped after 10 redirects"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_status_other_than_200_is_named() {
    let net = TestNet::new([("a:1", respond(|_| ok("").status("404 Not Found")))]);
    let mut running = start(&net, &["a:1"], |_| {});
    let error = running.next().await.last_error.expect("an error");
    assert_eq!(error, "server returned HTTP status 404 Not Found");
}

#[tokio::test(start_paused = true)]
async fn broken_text_names_its_line_and_costs_the_whole_scrape() {
    let net = TestNet::new([("a:1", respond(|_| ok("m 5\nbroken{\n")))]);
    let mut running = start(&net, &["a:1"], |_| {});
    let outcome = running.next().await;
    assert!(outcome.last_error.is_some_and(|error| error.starts_with("line 2: expected label name")));
    assert_eq!(value(&outcome.rows[0], "m"), None);
    assert_eq!(value(&outcome.rows[0], "scrape_samples_scraped"), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn what_speaks_no_http_is_down() {
    let net = TestNet::new([("a:1", respond(|_| ok("").raw("SSH-2.0-OpenSSH_9.2\r\n\r\n")))]);
    let mut running = start(&net, &["a:1"], |_| {});
    assert!(!running.next().await.up);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_content_type_fails_the_scrape() {
    let net = TestNet::new([("a:1", respond(|_| ok("m 5\n").content_type("text/html")))]);
    let mut running = start(&net, &["a:1"], |_| {});
    let error = running.next().await.last_error.expect("an error");
    assert!(error.starts_with("received unsupported Content-Type \"text/html\""), "{error}");
}

#[tokio::test(start_paused = true)]
async fn credentials_go_to_the_target_alone() {
    let answer = |request: &str| {
        let known = request.contains("authorization: Basic dTpw");
        let first = request.contains("host: a:1");
        match (first, known) {
            (true, true) => ok("").status("302 Found").header("Location: http://b:1/m"),
            (false, false) => ok("m 1\n"),
            _ => ok("").status("401 Unauthorized"),
        }
    };
    let net = TestNet::new([("a:1", respond(answer)), ("b:1", respond(answer))]);
    let secret = |text: &str| Secret::Inline(text.to_owned());
    let auth = BasicAuth { username: secret("u"), password: secret("p") };
    let mut running = start(&net, &["a:1"], |c| c.basic_auth = Some(auth));
    assert_eq!(running.next().await.last_error, None);
}

#[tokio::test(start_paused = true)]
async fn a_missing_file_of_a_secret_fails_its_target() {
    let secret = |path: &str| Secret::File(path.to_owned());
    let auth = BasicAuth { username: secret("/nowhere/u"), password: secret("/nowhere/p") };
    let net = TestNet::new([("a:1", respond(|_| ok("m 1\n")))]);
    let mut running = start(&net, &["a:1"], |c| c.basic_auth = Some(auth));
    let error = running.next().await.last_error.expect("an error");
    assert!(error.starts_with("unable to read file /nowhere/u: "), "{error}");
}

#[tokio::test(start_paused = true)]
async fn targets_whose_secret_cannot_be_read_in_time_say_so_and_take_one_thread() {
    let gate = Gate::default();
    let auth = Authorization { kind: "Bearer".into(), credentials: Secret::File("/mnt/token".into()) };
    let mut running = start_with(ports_behind(&gate, []), &["a:1", "b:1"], |c| c.authorization = Some(auth));
    for _scrape in 0..4 {
        let error = running.next().await.last_error.expect("an error");
        assert!(error.starts_with("unable to read file /mnt/token: its read has not ended"), "{error}");
    }
    gate.reached().await;
    assert_eq!(gate.entered(), 1);
    gate.open();
}

#[tokio::test(start_paused = true)]
async fn samples_with_their_own_time_are_partial_rows_in_order() {
    let net = TestNet::new([("a:1", respond(|_| ok("m 5 2000\nn 6 1000\nn 7 500\no 8\n")))]);
    let mut running = start(&net, &["a:1"], |_| {});
    let rows = running.next().await.rows;
    let times: Vec<i64> = rows[1..].iter().map(|row| row.timestamp.0).collect();
    assert_eq!(times, [1000, 2000, 500]);
    assert!(rows[1..].iter().all(|row| row.kind == RowKind::Partial));
    assert_eq!(value(&rows[0], "o"), Some(8.0));
}

#[tokio::test(start_paused = true)]
async fn a_tracked_series_with_its_own_time_gets_its_stale_marker() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let answer = move |_: &str| match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => ok("m 5 2000\n"),
        _ => ok("n 1\n"),
    };
    let net = TestNet::new([("a:1", respond(answer))]);
    let mut running = start(&net, &["a:1"], |c| c.track_timestamps_staleness = true);
    let _ = running.next().await;
    let rows = running.next().await.rows;
    assert_eq!(rows[1].kind, RowKind::Partial);
    assert!(value(&rows[1], "m").is_some_and(is_stale_nan));
}

#[tokio::test(start_paused = true)]
async fn draining_lets_what_is_under_way_come_out() {
    let net = TestNet::new([("a:1", respond(|_| ok("m 5\n").after(Duration::from_millis(500))))]);
    let mut running = start(&net, &["a:1"], |_| {});
    let _ = running.next().await;
    tokio::time::sleep(Duration::from_millis(9_600)).await; // into the next scrape
    running.scraper.drain();
    assert!(running.next().await.up);
    assert!(running.outputs.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn stopping_gives_up_what_is_under_way() {
    let net = TestNet::new([("a:1", respond(|_| ok("m 5\n").after(Duration::from_millis(500))))]);
    let mut running = start(&net, &["a:1"], |_| {});
    let _ = running.next().await;
    tokio::time::sleep(Duration::from_millis(9_600)).await;
    running.scraper.stop();
    assert!(running.outputs.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_target_that_leaves_is_scraped_no_more_and_one_that_stays_keeps_its_memory() {
    let answer = || respond(|_| ok("m 5\n"));
    let net = TestNet::new([("a:1", answer()), ("b:1", answer())]);
    let mut running = start(&net, &["a:1", "b:1"], |_| {});
    let _ = (running.next().await, running.next().await);
    running.scraper.set_targets(targets(&["b:1"], |_| {}).iter().map(assigned).collect());
    tokio::time::sleep(Duration::from_millis(10)).await;
    let outcomes = [running.next().await, running.next().await];
    assert!(outcomes.iter().all(|o| o.source == running.targets[1].source && o.series_added == 0));
    assert_eq!(running.scraper.status().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slot_under_way_as_its_target_changes_still_comes_out() {
    let answer = respond(|_| ok("m 5\n").after(Duration::from_millis(500)));
    let net = TestNet::new([("a:1", answer)]);
    let mut running = start(&net, &["a:1"], |_| {});
    while net.connects() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let changed = targets(&["a:1"], |c| c.scrape_timeout = DurationMs(900));
    running.scraper.set_targets(changed.iter().map(assigned).collect());
    let (first, second) = (running.next().await, running.next().await);
    assert_eq!(first.last_error, None);
    assert_eq!(second.slot, first.slot.plus(DurationMs(10_000)), "none is passed over");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_changes_and_leaves_is_given_up() {
    let net = TestNet::new([("a:1", respond(|_| ok("m 5\n").after(Duration::from_millis(500))))]);
    let mut running = start(&net, &["a:1"], |_| {});
    while net.connects() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let changed = targets(&["a:1"], |c| c.scrape_timeout = DurationMs(900));
    running.scraper.set_targets(changed.iter().map(assigned).collect());
    tokio::time::sleep(Duration::from_millis(10)).await;
    running.scraper.set_targets(Vec::new());
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(running.outputs.try_recv().is_err(), "nobody wants it any more");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_takes_over_says_what_was_missed() {
    let net = TestNet::new([("a:1", respond(|_| ok("m 5\n")))]);
    let mut running = start(&net, &[], |_| {});
    let target = targets(&["a:1"], |_| {}).remove(0);
    let now = ports(net.clone()).clock.now();
    let slot = now.0 - (now.0 - target.offset().0 as i64).rem_euclid(10_000) - 50_000;
    let last_slot = Some(TimestampMs(slot));
    running.scraper.set_targets(vec![Assignment { target, last_slot, last_timestamp: last_slot }]);
    let Some(ScraperOutput::Missed(missed)) = running.outputs.recv().await else { panic!("missed first") };
    assert_eq!(missed.from.0, slot + 10_000);
    assert!(missed.slots >= 4);
    let outcome = running.next().await;
    assert_eq!(outcome.slot, missed.to.plus(DurationMs(10_000)));
}

#[tokio::test(start_paused = true)]
async fn over_the_target_limit_nothing_is_fetched() {
    let net = TestNet::new([("a:1", respond(|_| ok("m 5\n"))), ("b:1", respond(|_| ok("m 5\n")))]);
    let mut running = start(&net, &["a:1", "b:1"], |c| c.limits.targets = 1);
    let error = running.next().await.last_error.expect("an error");
    assert_eq!(error, "target_limit exceeded (number of targets: 2, limit: 1)");
    assert_eq!(net.connects(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_target_of_an_unknown_scheme_is_down_and_not_asked() {
    let net = TestNet::new([("a:1", respond(|_| ok("m 5\n")))]);
    let mut config = ScrapeConfig::new("j");
    config.extra_scrape_metrics = true;
    let mut group = TargetGroup::of_addresses("0", ["a:1"]);
    group.labels.insert("__scheme__".into(), "ftp".into());
    let targets = TargetSet::build(&Arc::new(config), &[group]).active;
    let (scraper, outputs) = Scraper::start(ports(net.clone()), ScraperOptions::default(), Term(7));
    scraper.set_targets(targets.iter().map(assigned).collect());
    let outcome = Running { scraper, outputs, targets }.next().await;
    assert!(outcome.last_error.expect("an error").ends_with("unsupported protocol scheme \"ftp\""));
    assert_eq!(value(&outcome.rows[0], "up"), Some(0.0));
    assert_eq!(value(&outcome.rows[0], "scrape_body_size_bytes"), Some(0.0));
    assert_eq!(net.connects(), 0);
}

#[tokio::test(start_paused = true)]
async fn status_and_metadata_show_the_last_scrape() {
    let net = TestNet::new([("a:1", respond(|_| ok("# TYPE m gauge\nm 5\n")))]);
    let mut running = start(&net, &["a:1"], |_| {});
    let outcome = running.next().await;
    let status = &running.scraper.status()[0];
    assert_eq!((status.health, status.last_slot), (Health::Up, Some(outcome.slot)));
    let metadata = running.scraper.metadata(&outcome.source);
    assert_eq!(metadata[0].kind.as_str(), "gauge");
}

/// Scrapes `address` over TLS; the error, or "up".
async fn over_tls(address: &str, client_auth: bool, tls: TlsConfig) -> String {
    let net = TestNet::new([
        ("a:1", respond_tls(client_auth, |_| ok("m 5\n"))),
        ("127.0.0.1:1", respond_tls(client_auth, |_| ok("m 5\n"))),
        ("b:1", respond_tls(client_auth, |_| ok("m 5\n"))),
    ]);
    let files = [("/tls/ca.pem", TEST_AUTHORITY), ("/tls/cert.pem", TEST_CERT), ("/tls/key.pem", TEST_KEY)];
    let mut running = start_with(ports_with(net, files), &[address], |c| {
        c.scheme = Scheme::Https;
        c.tls = tls;
    });
    running.next().await.last_error.unwrap_or_else(|| "up".to_owned())
}

fn trusting() -> TlsConfig {
    TlsConfig { ca: Some(Secret::File("/tls/ca.pem".into())), ..TlsConfig::default() }
}

#[tokio::test(start_paused = true)]
async fn a_target_behind_tls_must_bear_a_name_that_we_trust() {
    assert_eq!(over_tls("a:1", false, trusting()).await, "up");
    assert_eq!(over_tls("127.0.0.1:1", false, trusting()).await, "up");
    let wrong = over_tls("b:1", false, trusting()).await;
    assert!(wrong.contains("not valid for name \"b\""), "{wrong}");
    let named = TlsConfig { server_name: Some("a".into()), ..trusting() };
    assert_eq!(over_tls("b:1", false, named).await, "up");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_authority_is_not_trusted_unless_asked_for() {
    let unknown = over_tls("a:1", false, TlsConfig::default()).await;
    assert_eq!(unknown, "tls: no authorities found on this system; set tls_config.ca_file");
    let anybody = TlsConfig { insecure_skip_verify: true, ..TlsConfig::default() };
    assert_eq!(over_tls("b:1", false, anybody).await, "up");
}

#[tokio::test(start_paused = true)]
async fn we_show_our_certificate_to_who_asks_for_it() {
    let file = |path: &str| Some(Secret::File(path.to_owned()));
    let ours = TlsConfig { cert: file("/tls/cert.pem"), key: file("/tls/key.pem"), ..trusting() };
    assert_eq!(over_tls("a:1", true, ours).await, "up");
    assert!(over_tls("a:1", true, trusting()).await.starts_with("Get \"https://a:1/metrics\""));
    let missing = TlsConfig { cert: file("/tls/none.pem"), key: file("/tls/key.pem"), ..trusting() };
    assert!(over_tls("a:1", true, missing).await.starts_with("unable to read file /tls/none.pem"));
}

#[tokio::test(start_paused = true)]
async fn old_versions_of_tls_are_refused_by_name() {
    let old = TlsConfig { max_version: Some(TlsVersion::Tls11), ..trusting() };
    assert!(over_tls("a:1", false, old).await.contains("tls_config.max_version"));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_read_from_its_file_without_the_white_space_around_it() {
    let answer = |request: &str| {
        if request.contains("authorization: Bearer abc\r\n") { ok("m 1\n") } else { ok("").status("401 No") }
    };
    let net = TestNet::new([("a:1", respond(answer))]);
    let auth = Authorization { kind: "Bearer".into(), credentials: Secret::File("/token".into()) };
    let ports = ports_with(net, [("/token", b" abc\n")]);
    let mut running = start_with(ports, &["a:1"], |c| c.authorization = Some(auth));
    assert_eq!(running.next().await.last_error, None);
}

#[tokio::test(start_paused = true)]
async fn a_scrape_that_panics_is_a_missed_slot_and_the_next_slot_is_tried() {
    let broken = Arc::new(|_| -> model::BoxFuture<'static, ()> { panic!("on purpose") });
    let mut running = start(&TestNet::new([("a:1", broken)]), &["a:1"], |_| {});
    let mut missed = async || match running.outputs.recv().await {
        Some(ScraperOutput::Missed(missed)) => (missed.from, missed.to, missed.slots, missed.reason),
        other => panic!("{other:?}"),
    };
    let (first, second) = (missed().await, missed().await);
    assert_eq!(first, (first.0, first.0, 1, MissedReason::Panic));
    assert_eq!(second.0, first.0.plus(DurationMs(10_000)));
}

/// Each timestamp is a row, and the rows of one body drove those of all other targets out of the shard's memory.
#[tokio::test(start_paused = true)]
async fn more_timestamps_in_a_body_than_may_be_fail_the_scrape() {
    let body =
        |count: u64| (0..count).map(|i| format!("m{{i=\"{i}\"}} 1 {}\n", 1_000 + i)).collect::<String>();
    for (count, up) in [(4_096, true), (4_097, false)] {
        let net = TestNet::new([("a:1", respond(move |_| ok(&body(count))))]);
        let outcome = start(&net, &["a:1"], |_| {}).next().await;
        assert_eq!(outcome.up, up, "{count}");
        assert_eq!(outcome.rows.len(), if up { 4_097 } else { 1 });
        assert_eq!(value(&outcome.rows[0], "up"), Some(f64::from(u8::from(up))));
        let error = outcome.last_error.unwrap_or_default();
        assert!(up || error.starts_with("4097 distinct timestamps in one body"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_scrape_whose_row_cannot_be_committed_fails_after_all() {
    let net = TestNet::new([("a:1", respond(|_| ok("m 5\nup{a=\"b\"} 7\n")))]);
    let mut running = start(&net, &["a:1"], |_| {});
    let outcome = running.next().await;
    let row = super::failed_row(&outcome.rows[0]);
    assert_eq!((row.kind, row.timestamp, row.cells.len()), (outcome.rows[0].kind, outcome.timestamp, 5));
    let all = ["up", "scrape_samples_scraped", "scrape_series_added", "m"].map(|name| value(&row, name));
    assert_eq!(all, [Some(0.0), Some(2.0), Some(0.0), None]);
    running.scraper.fail(&outcome.source, TimestampMs(outcome.slot.0 + 1), "another".into());
    assert_eq!(running.scraper.status()[0].health, Health::Up);
    running.scraper.fail(&outcome.source, outcome.slot, "too long".into());
    let status = running.scraper.status().remove(0);
    assert_eq!((status.health, status.last_error.as_str()), (Health::Down, "too long"));
}
