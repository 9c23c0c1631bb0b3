//! `scripts/run drill`: what Vestal is for, in about a minute. Writes and scrapes, kills the busiest node with
//! SIGKILL, and counts what was lost. Exit status 0 only if nothing was.

use anyhow::Context;
use clap::Parser;
use serde_json::Value;
use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, sleep},
    time::{Duration, Instant},
};
use tests::{
    Client, Cluster, ClusterOptions, Ledger, Targets, Writer, WriterOptions, equal_hashes, missed_slots,
    now_ms, same_bytes,
};

const TARGETS: usize = 20;
/// 20 instances x 100 series, ten times a second: 20,000 samples a second.
const INSTANCES: usize = 20;
const SERIES: usize = 100;
const INTERVAL: Duration = Duration::from_millis(100);

/// What all nodes are asked about the past.
const QUERIES: &[&str] =
    &["drill", "sum by (instance) (rate(served_total[10s]))", "up", "max_over_time(clock[5s])"];

#[derive(Debug, Parser)]
struct Args {
    /// The built binary.
    #[arg(long)]
    vestal: PathBuf,
    /// Seconds of load before the kill, and after it.
    #[arg(long, default_value_t = 12)]
    seconds: u64,
}

/// Asks without a pause, of whichever node answers, and counts the questions that nobody answered.
struct Asker {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

impl Asker {
    fn start(nodes: Vec<Client>) -> Asker {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicU64::new(0));
        let failed = Arc::new(AtomicU64::new(0));
        let (s, a, f) = (stop.clone(), asked.clone(), failed.clone());
        let thread = thread::spawn(move || {
            while !s.load(Ordering::Relaxed) {
                let turn = usize::try_from(a.fetch_add(1, Ordering::Relaxed)).unwrap_or(0);
                let answered =
                    (0..nodes.len()).any(|i| nodes[(turn + i) % nodes.len()].query("sum(up)", None).is_ok());
                f.fetch_add(u64::from(!answered), Ordering::Relaxed);
                sleep(Duration::from_millis(100));
            }
        });
        Asker { stop, asked, failed, thread }
    }

    fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let _joined = self.thread.join();
        (self.asked.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let targets = Targets::start(TARGETS);
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: drill\n  static_configs:\n  - targets: {}\n",
        targets.yaml_list()
    );
    println!("starting three nodes");
    let mut cluster =
        Cluster::start(ClusterOptions { config, binary: args.vestal, ..ClusterOptions::default() });
    let nodes: Vec<_> = cluster.nodes().map(|i| cluster.client(i)).collect();
    let options = WriterOptions {
        metric: "drill".to_owned(),
        instances: INSTANCES,
        series: SERIES,
        interval: INTERVAL,
    };
    let began = now_ms();
    let writer = Writer::start(&nodes, options.clone());
    let asker =
        Asker::start(nodes.iter().map(|n| Client::new(n.base.clone(), Duration::from_secs(3))).collect());
    println!(
        "{TARGETS} targets at 1 s, 20,000 samples/s of remote write, a query every 100 ms; {} s of calm",
        args.seconds
    );
    sleep(Duration::from_secs(args.seconds));

    let victim = cluster.busiest(1);
    let killed_at = Instant::now();
    let before: usize = count(&writer.ledger());
    println!("kill -9 node-{victim}, which leads most shards");
    cluster.kill(victim);
    sleep(Duration::from_secs(args.seconds));
    println!("starting node-{victim} again after {:.0} s", killed_at.elapsed().as_secs_f64());
    cluster.restart(victim);
    cluster.wait_node_ready(victim, Duration::from_secs(60));
    let status = cluster.wait_status(victim, true, Duration::from_secs(60));
    sleep(Duration::from_secs(3));
    let ledger = writer.stop();
    let (asked, failed) = asker.stop();

    let check = ledger
        .check(&nodes[victim - 1], &options)
        .map_err(anyhow::Error::msg)
        .context("read the ledger back")?;
    let gaps = missed_slots(&nodes[0], began).map_err(anyhow::Error::msg)?;
    let differing =
        same_bytes(&nodes, QUERIES, began, now_ms() - 2_000).inspect_err(|error| eprintln!("{error}"));
    let hashes = equal_hashes(&nodes[0]).inspect_err(|error| eprintln!("{error}"));
    let (same, hashes) = (differing.is_ok(), hashes.is_ok());
    println!();
    println!("| what | here | two Prometheus 2.42 behind keepalived 2.3, killed and back |");
    println!("|---|---|---|");
    let pause = ledger.longest_pause().as_secs_f64();
    println!(
        "| seconds without acknowledged writes, worst of {INSTANCES} writers | {pause:.2} | no acknowledgement by more than one disk |"
    );
    println!(
        "| acknowledged samples before the kill, and in all | {}, {} | |",
        before * SERIES,
        check.acknowledged
    );
    println!("| of those, lost | {} | 49 / 53 / 60 of 20 targets at 5 s missing for ever |", check.lost);
    println!("| failed queries | {failed} of {asked} | 3.5 / 3.8 / 4.6 s without an answer |");
    println!("| scrape slots missed by the cluster | {gaps} | a hole of 25 s in every series |");
    println!("| the same bytes from all three nodes | {} | no: each has its own holes |", yes(same));
    println!("| equal state hashes after the restart | {} | - |", yes(hashes));
    println!("| may lose another node | {} | - |", yes(status["mayLoseAnotherNode"] == Value::Bool(true)));
    println!(
        "(right column: minimum / median / maximum of five, typical keepalived timers, 20 targets every 5 s)"
    );
    cluster.stop();
    let good = check.lost == 0 && check.acknowledged > 0 && failed == 0 && same && hashes;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn yes(answer: bool) -> &'static str {
    if answer { "yes" } else { "NO" }
}

fn count(ledger: &Ledger) -> usize {
    ledger.batches.values().map(Vec::len).sum()
}
