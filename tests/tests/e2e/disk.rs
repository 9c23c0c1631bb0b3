//! A disk that is full, and one whose syncs fail.

use crate::load::{Loaded, PATIENCE, every_second, load};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};
use tests::{
    Client, Cluster, ClusterOptions, Targets, WRITE_HEADERS, Writer, encode_write, my_turn, now_ms, run,
    skipped, wait_until,
};

/// Where a node's data fits with room to spare, until somebody takes it.
const SMALL_DISK: u64 = 96 << 20;

/// A loaded cluster whose log is as small as may be, so that checkpoints come soon.
fn loaded() -> Loaded {
    let targets = Targets::start(6);
    let flags = vec!["--storage.log.size=16MiB".to_owned()];
    let config = every_second(&targets);
    let cluster = Cluster::start(ClusterOptions { config, flags, ..ClusterOptions::default() });
    let began = now_ms();
    let writer = Writer::start(&cluster.clients(), load());
    let loaded = Loaded { cluster, targets, writer, began };
    loaded.wait_acknowledged("writes begin");
    loaded
}

/// Kills the others one after the other until `victim` leads something.
fn let_it_lead(loaded: &mut Loaded, victim: usize) {
    let others: Vec<usize> = loaded.cluster.nodes().filter(|i| *i != victim).collect();
    for other in others.iter().cycle().take(6) {
        loaded.cluster.wait_status(victim, true, PATIENCE);
        if loaded.cluster.leads(victim, victim).is_ok_and(|leads| leads > 0) {
            return;
        }
        loaded.cluster.kill(*other);
        loaded.cluster.wait_ended(*other, PATIENCE);
        loaded.wait_acknowledged("two of three go on");
        loaded.cluster.restart(*other);
        loaded.cluster.wait_ready(PATIENCE);
    }
    panic!("node-{victim} leads nothing after six elections");
}

/// Writes into a file until there is no room at all.
fn fill(path: &Path) -> Result<(), String> {
    let text = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(text)?;
    for size in [1 << 20, 64 << 10, 4 << 10, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
    Ok(())
}

/// One request of new series, a good megabyte of the log.
fn write_much(node: &Client, round: usize) -> Result<(), String> {
    let series = (0..3_000_u64).map(|i| {
        let noise =
            (0..8).map(|k| format!("{:032x}", u128::from(i * 8 + k + 1).wrapping_pow(21 + round as u32)));
        let labels = [
            ("__name__", "much".to_owned()),
            ("i", format!("{round}-{i}")),
            ("job", "much".to_owned()),
            ("noise", noise.collect()),
        ];
        (labels.map(|(name, value)| (name.to_owned(), value)).to_vec(), vec![(now_ms(), 1.0)])
    });
    let answer = node.post("/api/v1/write", &WRITE_HEADERS, &encode_write(&series.collect::<Vec<_>>()))?;
    if answer.status == 204 { Ok(()) } else { Err(format!("{answer:?}")) }
}

fn metric(node: &Client, name: &str) -> Option<String> {
    let text = node.get("/metrics", &[]).ok()?.body;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned()))
}

/// Waits until everybody can see that the node is out of order: it leads nothing, and says `text`.
fn wait_out_of_order(cluster: &Cluster, victim: usize, text: &str, metric_name: &str, meanwhile: impl Fn()) {
    let (node, asked) = (cluster.client(victim), cluster.client(1 + victim % 3));
    wait_until("the node gives up its leaderships and says why", PATIENCE, || {
        meanwhile();
        let ready = node.get("/-/ready", &[])?;
        let status = asked.status()?;
        let why = status["why"].as_str().unwrap_or_default();
        let said = ready.status == 503 && ready.body.contains(text);
        let named = why.contains(&format!("node-{victim}")) && why.contains(text);
        let leads = cluster.leads(1 + victim % 3, victim)?;
        let all = said && named && leads == 0 && metric(&node, metric_name).as_deref() == Some("1");
        if all { Ok(()) } else { Err(format!("ready: {ready:?}, why: {why}, leads {leads}")) }
    });
    let log = fs::read_to_string(cluster.node_dir(victim).join("vestal.log")).unwrap_or_default();
    assert!(log.contains(text), "its log says it, too");
}

#[test]
fn a_full_disk_ends_leaderships_loses_nothing_and_heals_by_itself() {
    let _turn = my_turn();
    let mut loaded = loaded();
    let victim = 2;
    loaded.cluster.stop_node(victim, PATIENCE);
    if let Err(why) = loaded.cluster.restart_on_small_disk(victim, SMALL_DISK) {
        return skipped(&why);
    }
    loaded.cluster.wait_node_ready(victim, PATIENCE);
    let_it_lead(&mut loaded, victim);
    let pid = loaded.cluster.pid(victim);
    let filler = loaded.cluster.seen_by_node(victim, "filler");
    fill(&filler).expect("a node's disk can be filled");
    // More than its log takes without a checkpoint: its stores find no room either.
    let asked = loaded.cluster.client(1);
    (0..8).for_each(|round| wait_until("others take writes", PATIENCE, || write_much(&asked, round)));
    let refill = || drop(fill(&filler)); // whoever takes all room takes what becomes free, too
    wait_out_of_order(&loaded.cluster, victim, "No space left", "vestal_disk_full", refill);
    loaded.wait_acknowledged("writes go on through the others");
    loaded.wait_scraped();

    fs::remove_file(&filler).expect("room is made");
    loaded.cluster.wait_node_ready(victim, PATIENCE);
    loaded.cluster.wait_status(1, true, PATIENCE);
    assert_eq!(metric(&loaded.cluster.client(victim), "vestal_disk_full").as_deref(), Some("0"));
    assert_eq!(loaded.cluster.pid(victim), pid, "it was not restarted");
    let_it_lead(&mut loaded, victim);
    let _nothing_lost = loaded.verify();
}

/// A library that makes syncs fail while a file exists.
fn failing_syncs(dir: &Path) -> Option<PathBuf> {
    let source = dir.join("failing.c");
    let library = dir.join("failing.so");
    let text = "#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int fails(void) { const char *flag = getenv(\"FAILING_SYNCS\"); return flag && access(flag, F_OK) == 0; }
static int call(const char *name, int fd) {
    if (fails()) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}
int fsync(int fd) { return call(\"fsync\", fd); }
int fdatasync(int fd) { return call(\"fdatasync\", fd); }
";
    fs::write(&source, text).expect("a source file");
    let compiler = if Command::new("cc").arg("--version").output().is_ok() { "cc" } else { "gcc" };
    if Command::new(compiler).arg("--version").output().is_err() {
        skipped("there is no C compiler");
        return None;
    }
    let built =
        run(Command::new(compiler).args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl"));
    assert_eq!(built.status, 0, "{built:?}");
    Some(library)
}

#[test]
fn a_node_whose_syncs_fail_leaves_and_stays_down_until_it_is_restarted() {
    let _turn = my_turn();
    let mut loaded = loaded();
    let victim = 3;
    let Some(library) = failing_syncs(loaded.cluster.dir()) else { return };
    let flag = loaded.cluster.dir().join("syncs-fail");
    loaded.cluster.stop_node(victim, PATIENCE);
    let path = |path: &Path| path.to_str().expect("a path is text").to_owned();
    let variables = [("LD_PRELOAD", path(&library)), ("FAILING_SYNCS", path(&flag))];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    loaded.cluster.restart_with(victim, &variables);
    loaded.cluster.wait_node_ready(victim, PATIENCE);
    let_it_lead(&mut loaded, victim);

    fs::write(&flag, "").expect("the flag is set");
    wait_out_of_order(&loaded.cluster, victim, "the disk failed", "vestal_disk_failed", || ());
    loaded.wait_acknowledged("writes go on through the others");
    fs::remove_file(&flag).expect("the flag is taken away");
    // A disk that works again is no reason to believe what is on it: rounds of writes later it is still down.
    loaded.wait_acknowledged("writes go on");
    loaded.wait_scraped();
    wait_out_of_order(&loaded.cluster, victim, "the disk failed", "vestal_disk_failed", || ());
    let alive = loaded.cluster.client(victim).get("/-/healthy", &[]).expect("it answers");
    assert_eq!(alive.status, 200, "{alive:?}");

    loaded.cluster.stop_node(victim, PATIENCE);
    loaded.cluster.restart(victim);
    loaded.cluster.wait_ready(PATIENCE);
    let _nothing_lost_and_equal_hashes = loaded.verify();
}
