use super::*;
use crate::config::NameValidation;
use crate::relabel::{RelabelAction, RelabelConfig, RelabelSpec};

fn config(change: impl FnOnce(&mut ScrapeConfig)) -> Arc<ScrapeConfig> {
    let mut config = ScrapeConfig::new("node");
    change(&mut config);
    Arc::new(config)
}

fn rule(spec: RelabelSpec) -> Vec<RelabelConfig> {
    vec![RelabelConfig::new(spec, NameValidation::Utf8).expect("a good rule")]
}

fn set(target: &str, value: &str) -> Vec<RelabelConfig> {
    rule(RelabelSpec {
        target_label: target.into(),
        replacement: Some(value.into()),
        ..RelabelSpec::default()
    })
}

fn one(config: &Arc<ScrapeConfig>) -> Result<Arc<Target>, String> {
    let set = TargetSet::build(config, &[TargetGroup::of_addresses("0", ["a:9100"])]);
    set.active.first().cloned().ok_or_else(|| set.errors.join("; "))
}

#[test]
fn a_target_has_job_and_instance_and_a_url() {
    let target = one(&config(|_| {})).unwrap();
    assert_eq!(target.labels.to_string(), "{instance=\"a:9100\", job=\"node\"}");
    assert_eq!(target.url.to_string(), "http://a:9100/metrics");
    assert_eq!(target.discovered.get("__scrape_interval__"), Some("1m"));
    assert_eq!((target.interval.0, target.timeout.0), (60_000, 10_000));
}

#[test]
fn relabelling_may_change_where_and_how_often() {
    let target = one(&config(|c| {
        c.relabel_configs = [
            set("__address__", "b:1"),
            set("__scheme__", "https"),
            set("__metrics_path__", "/m"),
            set("__param_x", "y"),
            set("__scrape_interval__", "30s"),
            set("instance", "bee"),
        ]
        .concat();
    }))
    .unwrap();
    assert_eq!(target.url.to_string(), "https://b:1/m?x=y");
    assert_eq!(target.interval.0, 30_000);
    assert_eq!(target.labels.get("instance"), Some("bee"));
}

#[test]
fn what_relabelling_leaves_must_be_a_target() {
    let error = |rules: Vec<RelabelConfig>| one(&config(|c| c.relabel_configs = rules)).unwrap_err();
    assert_eq!(error(set("__address__", "")), "instance 0 in group 0: no address");
    assert!(error(set("__scrape_interval__", "0s")).ends_with("scrape interval cannot be 0"));
    assert!(error(set("__scrape_interval__", "x")).ends_with("not a valid duration string: \"x\""));
    assert!(
        error(set("__scrape_interval__", "5s"))
            .ends_with("scrape timeout cannot be greater than scrape interval (\"10s\" > \"5s\")")
    );
}

#[test]
fn a_target_of_an_unknown_scheme_is_there_and_never_up() {
    let target = one(&config(|c| c.relabel_configs = set("__scheme__", "ftp"))).unwrap();
    assert_eq!(target.url.to_string(), "ftp://a:9100/metrics");
    let error = "Get \"ftp://a:9100/metrics\": unsupported protocol scheme \"ftp\"";
    assert_eq!(target.forced_error.as_deref(), Some(error));
    let none = one(&config(|c| c.relabel_configs = set("__scheme__", ""))).unwrap();
    assert_eq!(none.url.to_string(), "//a:9100/metrics");
    let loud = one(&config(|c| c.relabel_configs = set("__scheme__", "HTTPS"))).unwrap();
    assert_eq!(
        (loud.url.to_string().as_str(), loud.forced_error.as_deref()),
        ("https://a:9100/metrics", None)
    );
}

#[test]
fn a_discovered_parameter_beats_the_jobs() {
    let config = config(|c| c.params = vec![("module".into(), vec!["http_2xx".into(), "more".into()])]);
    let mut group = TargetGroup::of_addresses("0", ["a:1"]);
    group.labels.insert("__param_module".into(), "icmp".into());
    let set = TargetSet::build(&config, &[group]);
    assert_eq!(set.active[0].url.to_string(), "http://a:1/metrics?module=icmp&module=more");
    assert_eq!(one(&config).unwrap().discovered.get("__param_module"), Some("http_2xx"));
}

#[test]
fn a_target_may_say_itself_how_its_histograms_are_scraped() {
    let target = one(&config(|c| c.scrape_native_histograms = true)).unwrap();
    assert_eq!(target.discovered.get("__scrape_native_histograms__"), Some("true"));
    assert_eq!(target.discovered.get("__always_scrape_classic_histograms__"), Some("false"));
    assert_eq!(target.discovered.get("__convert_classic_histograms_to_nhcb__"), Some("false"));
    assert_eq!((target.native_histograms, target.classic_histograms), (true, false));
    let rules =
        [set("__scrape_native_histograms__", "F"), set("__always_scrape_classic_histograms__", "1")].concat();
    let target = one(&config(|c| (c.scrape_native_histograms, c.relabel_configs) = (true, rules))).unwrap();
    assert_eq!((target.native_histograms, target.classic_histograms), (false, true));
    assert!(!target.labels.to_string().contains("histograms"));
}

#[test]
fn a_switch_of_a_target_is_true_or_false() {
    let error = |label: &str, value: &str| {
        one(&config(|c| c.relabel_configs = set(label, value))).expect_err("no target")
    };
    assert!(error("__scrape_native_histograms__", "yes").ends_with(
        "error parsing scrape native histograms: strconv.ParseBool: parsing \"yes\": invalid syntax"
    ));
    assert!(error("__always_scrape_classic_histograms__", "2").contains("always scrape classic histograms"));
    assert!(error("__convert_classic_histograms_to_nhcb__", "true").ends_with("not supported yet"));
}

#[test]
fn dropped_targets_are_counted_and_some_are_remembered() {
    let config = config(|c| {
        c.relabel_configs = rule(RelabelSpec {
            source_labels: vec!["__address__".into()],
            regex: Some("b.*".into()),
            action: RelabelAction::Drop,
            ..RelabelSpec::default()
        });
        c.keep_dropped_targets = 1;
    });
    let set = TargetSet::build(&config, &[TargetGroup::of_addresses("0", ["a", "b1", "b2"])]);
    assert_eq!((set.active.len(), set.dropped.len(), set.dropped_count), (1, 1, 2));
    assert_eq!(set.dropped[0].get("__address__"), Some("b1"));
}

#[test]
fn equal_targets_are_one() {
    let groups = [TargetGroup::of_addresses("0", ["a", "a"]), TargetGroup::of_addresses("1", ["a", "b"])];
    assert_eq!(TargetSet::build(&config(|_| {}), &groups).active.len(), 2);
}

#[test]
fn beyond_the_target_limit_all_of_them_fail() {
    let config = config(|c| c.limits.targets = 1);
    let set = TargetSet::build(&config, &[TargetGroup::of_addresses("0", ["a", "b"])]);
    let error = "target_limit exceeded (number of targets: 2, limit: 1)";
    assert!(set.active.iter().all(|target| target.forced_error.as_deref() == Some(error)));
}

#[test]
fn the_offset_is_the_targets_own_and_lies_in_the_interval() {
    let config = config(|_| {});
    let addresses: Vec<String> = (0..50).map(|i| format!("h{i}:9100")).collect();
    let set = TargetSet::build(&config, &[TargetGroup::of_addresses("0", addresses)]);
    let offsets: std::collections::BTreeSet<u64> = set.active.iter().map(|t| t.offset().0).collect();
    assert!(offsets.len() > 45);
    assert!(offsets.iter().all(|offset| *offset < 60_000));
}

#[test]
fn a_local_address_is_shown_to_others_by_the_nodes_name() {
    let groups = [TargetGroup::of_addresses("0", ["localhost:9100"])];
    let set = TargetSet::build(&config(|_| {}), &groups);
    assert_eq!(set.active[0].global_url("node-1").to_string(), "http://node-1:9100/metrics");
}
