//! Configurations that are changed, and those that are refused.

use crate::load::{PATIENCE, every_second, options};
use std::{fs, path::PathBuf, process::Command};
use tests::{Cluster, Targets, my_turn, now_ms, run, vestal_binary, wait_until};

/// Line 4 is wrong.
const BAD: &str = "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_nmae: a\n";

fn version(cluster: &Cluster) -> u64 {
    let status = cluster.wait_status(1, false, PATIENCE);
    status["config"]["version"].as_u64().expect("a version is a number")
}

fn written(cluster: &Cluster, name: &str, text: &str) -> PathBuf {
    let path = cluster.dir().join(name);
    fs::write(&path, text).expect("a file is written");
    path
}

#[test]
fn a_bad_configuration_is_refused_everywhere_and_changes_nothing() {
    let _turn = my_turn();
    let targets = Targets::start(2);
    let cluster = Cluster::start(options(every_second(&targets), &["--web.enable-lifecycle"]));
    let both_are_up = || {
        let found = cluster.client(1).query("count(up == 1)", None)?;
        let both = found.first().is_some_and(|f| f["value"][1] == "2");
        if both { Ok(()) } else { Err(format!("{found:?}")) }
    };
    wait_until("both targets are scraped", PATIENCE, both_are_up);
    let before = version(&cluster);
    let bad = written(&cluster, "bad.yml", BAD);
    let path = bad.to_str().expect("a temporary path is text");

    let check = cluster.vestal(&["config", "check", path]);
    assert_eq!(check.status, 2, "{check:?}");
    assert!(check.err.starts_with(&format!("{path}:4:")), "the message has file and line: {check:?}");
    assert!(check.err.contains("job_nmae"), "and the field: {check:?}");
    let apply = cluster.vestal(&["config", "apply", path, "--url", &cluster.url(2)]);
    assert_eq!(apply.status, 2, "{apply:?}");
    assert_eq!(apply.err, check.err, "by the name of the file that was to be applied");
    let mut serve = Command::new(vestal_binary());
    serve.args(["serve", "--config.file", path, "--web.listen-address=127.0.0.1:0"]);
    serve.arg(format!("--storage.tsdb.path={}", cluster.dir().join("alone").display()));
    let serve = run(&mut serve);
    assert_eq!(serve.status, 2, "{serve:?}");
    assert!(serve.err.starts_with(&format!("{path}:4:")), "{serve:?}");

    cluster.write_config(BAD);
    let reload = cluster.client(3).post("/-/reload", &[], b"").expect("an answer");
    assert_eq!(reload.status, 500, "{reload:?}");
    assert!(reload.body.contains(":4:") && reload.body.contains("job_nmae"), "the same text: {reload:?}");
    assert_eq!(version(&cluster), before, "nothing changed");
    wait_until("both targets are scraped as before", PATIENCE, both_are_up);
}

#[test]
fn a_good_configuration_is_in_force_on_every_node_whichever_took_it() {
    let _turn = my_turn();
    let (old, new) = (Targets::start(1), Targets::start(3));
    let cluster = Cluster::start(options(every_second(&old), &["--web.enable-lifecycle"]));
    let before = version(&cluster);
    cluster.write_config(&every_second(&new));
    let reload = cluster.client(2).post("/-/reload", &[], b"").expect("an answer");
    assert_eq!(reload.status, 200, "{reload:?}");
    assert!(version(&cluster) > before, "versions rise");
    let diff = |name: &str, text: &str| {
        let file = written(&cluster, name, text);
        cluster.vestal(&["config", "diff", file.to_str().unwrap(), "--url", &cluster.url(1)])
    };
    let same = diff("same.yml", &every_second(&new));
    assert_eq!((same.status, same.out.as_str()), (0, ""), "{same:?}");
    let commented = diff("commented.yml", &format!("{}# password: rotated\n", every_second(&new)));
    assert_eq!(commented.status, 1, "{commented:?}");
    assert!(commented.out.starts_with("differs in secrets or comments"), "{commented:?}");
    let target = format!("up{{instance=\"{}\"}}", old.addresses()[0]);
    wait_until("the new targets are scraped, the old one has ended", PATIENCE, || {
        let node = cluster.client(3);
        let (all, old) = (node.query("count(up == 1)", None)?, node.query(&target, None)?);
        let three = all.first().is_some_and(|all| all["value"][1] == "3");
        if three && old.is_empty() { Ok(()) } else { Err(format!("{all:?} {old:?}")) }
    });
    wait_until("it is in force on all shards", PATIENCE, || {
        let status = cluster.wait_status(1, true, PATIENCE);
        let mut shards = status["shards"].as_array().unwrap().iter();
        let all = shards.all(|shard| shard["configVersion"] == status["config"]["version"]);
        if all { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
fn a_key_that_is_not_supported_yet_is_refused_by_name_or_listed() {
    let _turn = my_turn();
    let text = "rule_files: [rules.yml]\nscrape_configs: []\n";
    let strict = Cluster::start(options("scrape_configs: []\n".to_owned(), &["--web.enable-lifecycle"]));
    let file = written(&strict, "rules-in.yml", text);
    let check = strict.vestal(&["config", "check", file.to_str().unwrap()]);
    assert_eq!(check.status, 2, "{check:?}");
    assert!(check.err.contains("rule_files"), "{check:?}");
    let apply = strict.vestal(&["config", "apply", file.to_str().unwrap(), "--url", &strict.url(1)]);
    assert_eq!(apply.status, 2, "{apply:?}");
    assert_eq!(apply.err, check.err, "the node's refusal has the name of the file, too");
    drop(strict);
    let lenient = Cluster::start(options(text.to_owned(), &["--config.ignore-unsupported"]));
    // A node is ready before it has offered its file.
    wait_until("it is listed in status", PATIENCE, || {
        let status = lenient.wait_status(1, false, PATIENCE);
        if status["config"].to_string().contains("rule_files") { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
fn file_sd_targets_follow_their_file() {
    let _turn = my_turn();
    let targets = Targets::start(2);
    let dir = tempfile::TempDir::new().expect("a folder");
    let list =
        |addresses: &[String]| format!("[{{\"targets\": {}}}]", serde_json::to_string(addresses).unwrap());
    let file = dir.path().join("targets.json");
    fs::write(&file, list(&targets.addresses()[..1])).unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: counted\n  file_sd_configs:\n  - files: ['{}']\n",
        file.display()
    );
    let cluster = Cluster::start(options(config, &["--web.enable-lifecycle"]));
    let count = |wanted: &str| {
        let found = cluster.client(1).query("count(up == 1)", None)?;
        let good = found.first().is_some_and(|f| f["value"][1] == wanted);
        if good { Ok(()) } else { Err(format!("{found:?}")) }
    };
    wait_until("one target", PATIENCE, || count("1"));
    let part = dir.path().join("part");
    fs::write(&part, list(targets.addresses())).unwrap();
    fs::rename(&part, &file).unwrap();
    wait_until("two targets, once the file changed", PATIENCE, || count("2"));
    // A file that is broken, here in the middle of being written, changes nothing, a reload included.
    fs::write(&file, &list(targets.addresses())[..20]).unwrap();
    wait_until("every node has said that the file is broken", PATIENCE, || {
        let silent = (1..=3).find(|i| !cluster.log(*i).contains("file of targets cannot be used"));
        silent.map_or(Ok(()), |i| Err(format!("node {i} has not")))
    });
    let wait_others = |wanted: &[&str]| {
        wait_until("status names the nodes whose files are others", PATIENCE, || {
            let named = cluster.client(2).status()?["config"]["nodesWithOtherFiles"].clone();
            if named == serde_json::json!(wanted) { Ok(()) } else { Err(named.to_string()) }
        });
    };
    wait_others(&["node-1", "node-2", "node-3"]);
    let reload = cluster.client(1).post("/-/reload", &[], b"").expect("an answer");
    assert_eq!(reload.status, 200, "{reload:?}");
    wait_until("the last good targets stay", PATIENCE, || count("2"));
    // One that is away for a moment, or on the node that reloads only, takes no targets away either.
    fs::rename(&file, dir.path().join("away")).unwrap();
    let reload = cluster.client(1).post("/-/reload", &[], b"").expect("an answer");
    assert_eq!(reload.status, 200, "{reload:?}");
    let after = now_ms() / 1000 + 3;
    fs::rename(dir.path().join("away"), &file).unwrap();
    wait_until("both targets go on after the reload", PATIENCE, || {
        let found = cluster.client(1).query(&format!("count(timestamp(up) > {after})"), None)?;
        let both = found.first().is_some_and(|found| found["value"][1] == "2");
        if both { Ok(()) } else { Err(format!("{found:?}")) }
    });
    fs::write(&part, list(&targets.addresses()[1..])).unwrap();
    fs::rename(&part, &file).unwrap();
    wait_until("one target, once the file is good again", PATIENCE, || count("1"));
    wait_others(&[]);
    fs::remove_file(&file).unwrap();
    wait_until("no target, once the file is gone", PATIENCE, || {
        match cluster.client(1).query("up", None)? {
            found if found.is_empty() => Ok(()),
            found => Err(format!("{found:?}")),
        }
    });
    fs::write(&file, list(&targets.addresses()[..1])).unwrap();
    wait_until("one target, once the file is back", PATIENCE, || count("1"));
}
