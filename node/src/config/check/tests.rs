use super::*;

fn refused(text: &str) -> String {
    parse("p.yml", text, Unsupported::Refuse).expect_err("the configuration is wrong").to_string()
}

fn job(rest: &str) -> String {
    format!("scrape_configs:\n- job_name: a\n{rest}")
}

#[test]
fn an_error_names_file_line_and_field() {
    assert_eq!(
        refused(&job("  scrape_interval: 5q\n")),
        "p.yml:3: scrape_configs[0].scrape_interval: not a valid duration string: \"5q\"; write it like 15s or 1h30m"
    );
}

#[test]
fn an_unknown_key_is_an_error_that_names_it() {
    assert_eq!(refused("globa:\n  x: 1\n"), "p.yml:1: globa: unknown field; remove it or correct its name");
}

#[test]
fn what_is_not_supported_yet_is_refused_by_name_unless_it_is_empty() {
    assert_eq!(
        refused("rule_files:\n- a.yml\n"),
        "p.yml:2: rule_files: not supported yet; remove it, or start with --config.ignore-unsupported"
    );
    let config = parse("p.yml", "rule_files: []\nalerting:\n  alertmanagers: []\n", Unsupported::Refuse);
    assert_eq!(config.expect("empty parts are no parts").ignored, Vec::<String>::new());
}

#[test]
fn what_is_not_supported_yet_can_be_ignored_and_is_listed() {
    let config = parse("p.yml", "rule_files: [a.yml]\n", Unsupported::Ignore).expect("ignored");
    assert_eq!(config.ignored, ["rule_files"]);
}

#[test]
fn a_section_takes_from_global_what_it_does_not_say_itself() {
    let text = format!("global: {{scrape_interval: 5s, sample_limit: 7}}\n{}", job("  sample_limit: 9\n"));
    let config = parse("p.yml", &text, Unsupported::Refuse).expect("good");
    assert_eq!(config.scrape_configs[0].scrape_interval, DurationMs(5_000));
    assert_eq!(config.scrape_configs[0].scrape_timeout, DurationMs(5_000));
    assert_eq!(config.scrape_configs[0].limits.samples, 9);
}

#[test]
fn two_jobs_of_one_name_are_refused() {
    let text = "scrape_configs:\n- job_name: a\n- job_name: a\n";
    assert_eq!(
        refused(text),
        "p.yml:3: scrape_configs[1].job_name: found multiple scrape configs with job name \"a\"; rename one"
    );
}

#[test]
fn a_label_value_that_looks_like_a_number_stays_as_it_is_written() {
    let text = job("  static_configs:\n  - targets: ['a:1']\n    labels: {version: 1.10}\n");
    let config = parse("p.yml", &text, Unsupported::Refuse).expect("good");
    assert_eq!(config.scrape_configs[0].static_configs[0].labels["version"], "1.10");
}

#[test]
fn the_empty_file_is_a_configuration_without_jobs() {
    assert!(parse("p.yml", "", Unsupported::Refuse).expect("good").scrape_configs.is_empty());
}

fn accepted(text: &str) -> Config {
    parse("p.yml", text, Unsupported::Refuse).expect("the configuration is good")
}

fn one_job(rest: &str) -> ScrapeConfig {
    accepted(&job(rest)).scrape_configs.remove(0)
}

#[test]
fn the_example_of_prometheus_is_accepted_as_it_comes() {
    let text = r#"
global:
  scrape_interval: 15s # Set the scrape interval to every 15 seconds. Default is every 1 minute.
  evaluation_interval: 15s
alerting:
  alertmanagers:
    - static_configs:
        - targets:
          # - alertmanager:9093
rule_files:
  # - "first_rules.yml"
scrape_configs:
  - job_name: "prometheus"
    static_configs:
      - targets: ["localhost:9090"]
        labels:
          app: "prometheus"
"#;
    assert_eq!(accepted(text).ignored, Vec::<String>::new());
    let named = "alerting:\n  alertmanagers:\n  - static_configs:\n    - targets: ['a:9093']\n";
    assert!(refused(named).starts_with("p.yml:2: alerting: not supported yet"));
}

#[test]
fn the_targets_of_a_probe_may_be_urls_because_relabelling_makes_addresses_of_them() {
    let targets = "  static_configs:\n  - targets: ['https://example.com/x']\n";
    assert!(refused(&job(targets)).contains("\"https://example.com/x\" is not a valid hostname"));
    let probe = one_job(&format!(
        "{targets}  metrics_path: /probe\n  relabel_configs:\n  - {{source_labels: [__address__], target_label: \
         __param_target}}\n  - {{target_label: __address__, replacement: 'blackbox:9115'}}\n"
    ));
    let groups = probe.static_configs.clone();
    let set = scrape::TargetSet::build(&std::sync::Arc::new(probe), &groups);
    let urls: Vec<_> = set.active.iter().map(|target| target.url.to_string()).collect();
    assert_eq!(urls, ["http://blackbox:9115/probe?target=https%3A%2F%2Fexample.com%2Fx"]);
}

#[test]
fn who_wants_native_histograms_asks_for_protobuf_first_unless_protocols_are_listed() {
    let first = |text: &str| accepted(text).scrape_configs[0].scrape_protocols[0];
    let native = job("  scrape_native_histograms: true\n");
    assert_eq!(first(&native), ScrapeProtocol::PrometheusProto);
    assert_eq!(first(&job("")), ScrapeProtocol::OpenMetricsText1_0_0);
    let all = "global: {scrape_native_histograms: true}\n";
    assert_eq!(first(&format!("{all}{}", job(""))), ScrapeProtocol::PrometheusProto);
    let off = job("  scrape_native_histograms: false\n");
    assert_eq!(first(&format!("{all}{off}")), ScrapeProtocol::OpenMetricsText1_0_0);
    let listed = "global: {scrape_protocols: [PrometheusText0.0.4]}\n";
    assert_eq!(first(&format!("{listed}{native}")), ScrapeProtocol::PrometheusText0_0_4);
}

#[test]
fn how_fine_native_histograms_are_kept_follows_from_factor_and_limit() {
    let kept = |text: &str| {
        let limits = one_job(text).limits;
        (limits.native_histogram_schema, limits.native_histogram_buckets)
    };
    let both = "  native_histogram_min_bucket_factor: 1.1\n  native_histogram_bucket_limit: 160\n";
    assert_eq!(kept(both), (Some(2), 160));
    assert_eq!(kept(""), (None, 0));
}

#[test]
fn a_key_with_nothing_behind_it_is_empty_and_not_the_default() {
    let rule = "  relabel_configs:\n  - {target_label: a, separator: , replacement: }\n";
    let spec = one_job(rule).relabel_configs[0].to_spec();
    assert_eq!((spec.separator.as_deref(), spec.replacement.as_deref()), (Some(""), Some("")));
    let spec = one_job("  relabel_configs:\n  - {target_label: a}\n").relabel_configs[0].to_spec();
    assert_eq!((spec.separator.as_deref(), spec.replacement.as_deref()), (Some(";"), Some("$1")));
    let bare = one_job("  honor_timestamps:\n  enable_compression:\n  follow_redirects:\n  metrics_path:\n");
    assert!(!bare.honor_timestamps && !bare.enable_compression && !bare.follow_redirects);
    assert_eq!(bare.metrics_path, "");
    assert!(refused(&job("  scheme:\n")).contains(".scheme: \"\" is no scheme"));
    let empty_action = job("  relabel_configs:\n  - {target_label: a, action: }\n");
    assert!(refused(&empty_action).contains("relabel action cannot be empty"));
}

#[test]
fn a_zero_says_nothing_and_leaves_the_global_value() {
    let global = "global: {scrape_interval: 30s, scrape_timeout: 7s, sample_limit: 5, label_limit: 6, target_limit: \
                  7, body_size_limit: 1MB, keep_dropped_targets: 8, evaluation_interval: 0s}\n";
    let zeros = job(
        "  scrape_interval: 0s\n  scrape_timeout: 0s\n  sample_limit: 0\n  label_limit: 0\n  target_limit: 0\n  \
         body_size_limit: 0\n  keep_dropped_targets: 0\n",
    );
    let config = accepted(&format!("{global}{zeros}"));
    assert_eq!(config.evaluation_interval, DurationMs(60_000));
    let job = &config.scrape_configs[0];
    assert_eq!((job.scrape_interval, job.scrape_timeout), (DurationMs(30_000), DurationMs(7_000)));
    assert_eq!((job.limits.samples, job.limits.labels, job.limits.targets), (5, 6, 7));
    assert_eq!((job.limits.body_size.0, job.keep_dropped_targets), (1 << 20, 8));
    let zero_global = accepted("global: {scrape_interval: 0s}\nscrape_configs: [{job_name: a}]\n");
    assert_eq!(zero_global.scrape_configs[0].scrape_interval, DurationMs(60_000));
}

#[test]
fn the_global_timeout_is_measured_against_the_global_interval_even_if_that_is_the_default() {
    let text =
        refused("global: {scrape_timeout: 2m}\nscrape_configs: [{job_name: a, scrape_interval: 5m}]\n");
    assert!(text.contains("global scrape timeout greater than scrape interval"));
    let short =
        accepted("global: {scrape_interval: 5s}\nscrape_configs: [{job_name: a, scrape_interval: 1m}]\n");
    assert_eq!(short.scrape_configs[0].scrape_timeout, DurationMs(5_000));
}

#[test]
fn one_anchor_may_serve_any_number_of_jobs() {
    let mut text =
        "scrape_configs:\n- {job_name: a, static_configs: [{targets: ['a:1'], labels: &l {dc: x}}]}\n"
            .to_owned();
    for i in 0..300 {
        text += &format!("- {{job_name: 'j{i}', static_configs: [{{targets: ['a:1'], labels: *l}}]}}\n");
    }
    assert_eq!(accepted(&text).scrape_configs[300].static_configs[0].labels["dc"], "x");
}

#[test]
fn external_labels_have_no_environment_because_each_node_would_have_another() {
    let labels = |value: &str| format!("global:\n  external_labels: {{a: '{value}'}}\n");
    let value = |text: &str| accepted(&labels(text)).external_labels.get("a").map(str::to_owned);
    assert_eq!(value("5$$ or $ 5, $").as_deref(), Some("5$ or $ 5, $"));
    assert_eq!(
        refused(&labels("x-${HOST}-y")),
        "p.yml:2: global.external_labels.a: environment variable ${HOST}: not supported yet; write its value, or $$ for \
         a dollar sign, or start with --config.ignore-unsupported"
    );
    assert!(refused(&labels("$HOST.x")).contains("environment variable $HOST:"));
    assert!(refused(&labels("${HOST")).contains("environment variable ${HOST:"));
    assert!(refused(&labels("$1x")).contains("environment variable $1:"));
    let ignored = parse("p.yml", &labels("$HOST"), Unsupported::Ignore).expect("ignored");
    assert_eq!(ignored.external_labels.get("a"), Some("$HOST"));
    assert_eq!(ignored.ignored, ["global.external_labels.a: environment variable $HOST"]);
}

#[test]
fn a_job_with_a_validation_of_its_own_takes_no_escaping_from_global() {
    let global = "global: {metric_name_escaping_scheme: allow-utf-8}\n";
    let legacy = accepted(&format!("{global}{}", job("  metric_name_validation_scheme: legacy\n")));
    assert_eq!(legacy.scrape_configs[0].name_escaping, NameEscaping::Underscores);
    let dots = "global: {metric_name_escaping_scheme: dots}\n";
    assert_eq!(accepted(&format!("{dots}{}", job(""))).scrape_configs[0].name_escaping, NameEscaping::Dots);
    let own = accepted(&format!("{dots}{}", job("  metric_name_validation_scheme: utf8\n")));
    assert_eq!(own.scrape_configs[0].name_escaping, NameEscaping::AllowUtf8);
    let both = "global: {metric_name_validation_scheme: legacy, metric_name_escaping_scheme: allow-utf-8}\n";
    assert!(refused(&format!("{both}{}", job(""))).contains("validation scheme is not set to UTF8"));
}

#[test]
fn files_of_targets_are_named_with_no_sign_of_a_pattern_but_the_star() {
    let files = |name: &str| job(&format!("  file_sd_configs:\n  - files: ['{name}']\n"));
    assert_eq!(accepted(&files("t/*.JSON")).file_sd_patterns(), ["t/*.JSON"]);
    assert!(refused(&files("t?.yml")).contains("path name \"t?.yml\" has '?'"));
    assert!(refused(&files("t[12].yml")).contains("has '['"));
    assert!(refused(&files("t.txt")).contains("is not valid for file discovery"));
}

#[test]
fn a_label_with_nothing_behind_it_is_the_empty_text() {
    let job = one_job("  static_configs:\n  - targets: ['a:1']\n    labels: {dc: , version: 1.10}\n");
    assert_eq!(job.static_configs[0].labels["dc"], "");
    assert_eq!(job.static_configs[0].labels["version"], "1.10");
}

#[test]
fn http2_is_listed_as_having_no_effect() {
    assert_eq!(accepted(&job("  enable_http2: true\n")).ignored, ["scrape_configs[0].enable_http2"]);
    assert_eq!(accepted(&job("  enable_http2: false\n")).ignored, Vec::<String>::new());
}
