//! `scripts/bench`: what a cluster of three costs on this machine, and one Prometheus beside it if there is one.
//! Prints a Markdown table with its conditions. Needs nothing but the built binary.

use anyhow::Context;
use clap::Parser;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::{self, sleep},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tests::{
    Bodies, Client, Cluster, ClusterOptions, Program, WRITE_HEADERS, WriteSeries, cpu_seconds, disk_bytes,
    encode_write, free_port, now_ms, resident_bytes, value_at, wait_until, written_bytes,
};

const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug, Parser)]
struct Args {
    /// The built binary; a release build, or the figures mean nothing.
    #[arg(long)]
    vestal: PathBuf,
    /// A Prometheus to measure beside it.
    #[arg(long, env = "PROMETHEUS")]
    prometheus: Option<PathBuf>,
    /// Seconds of each measurement at rest and of scraping.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Targets that are scraped.
    #[arg(long, default_value_t = 100)]
    targets: usize,
    /// Series of each target.
    #[arg(long, default_value_t = 1000)]
    series: usize,
    /// Scrape interval, seconds.
    #[arg(long, default_value_t = 5)]
    interval: u64,
    /// Series that are written.
    #[arg(long, default_value_t = 100_000)]
    write_series: usize,
    /// Samples of each of them, 15 s apart.
    #[arg(long, default_value_t = 60)]
    write_steps: usize,
}

/// What is measured: one process, or three.
trait Server {
    fn clients(&self) -> Vec<Client>;
    fn pids(&self) -> Vec<i32>;
    /// Folders with samples, one a replica.
    fn data(&self) -> Vec<PathBuf>;
    /// kill -9 of all processes, and a start again, without waiting.
    fn crash_and_start(&mut self);
    fn stop(&mut self);
    /// A start after a stop, without waiting.
    fn start_again(&mut self);
}

impl Server for Cluster {
    fn clients(&self) -> Vec<Client> {
        Cluster::clients(self)
    }
    fn pids(&self) -> Vec<i32> {
        self.nodes().map(|i| self.pid(i)).collect()
    }
    fn data(&self) -> Vec<PathBuf> {
        self.nodes().map(|i| self.node_dir(i).join("data")).collect()
    }
    fn crash_and_start(&mut self) {
        let nodes: Vec<_> = self.nodes().collect();
        nodes.iter().for_each(|i| self.kill(*i));
        nodes.iter().for_each(|i| self.wait_ended(*i, PATIENCE));
        nodes.iter().for_each(|i| self.restart(*i));
    }
    fn stop(&mut self) {
        Cluster::stop(self);
    }
    fn start_again(&mut self) {
        self.start_dev();
    }
}

struct Prometheus {
    dir: TempDir,
    binary: PathBuf,
    port: u16,
    program: Program,
}

fn prometheus(binary: &Path, dir: &Path, port: u16) -> Program {
    let mut command = Command::new(binary);
    command.arg(format!("--config.file={}", dir.join("prometheus.yml").display()));
    command.arg(format!("--storage.tsdb.path={}", dir.join("data").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    command.arg("--web.enable-remote-write-receiver").arg("--log.level=warn");
    Program::start(&mut command, &dir.join("log"))
}

impl Prometheus {
    fn start(binary: &Path, config: &str) -> Prometheus {
        let (dir, port) = (TempDir::new().expect("a folder"), free_port());
        fs::write(dir.path().join("prometheus.yml"), config).expect("a configuration is written");
        let program = prometheus(binary, dir.path(), port);
        Prometheus { binary: binary.to_owned(), port, program, dir }
    }
}

impl Server for Prometheus {
    fn clients(&self) -> Vec<Client> {
        vec![Client::new(format!("http://127.0.0.1:{}", self.port), Duration::from_secs(30))]
    }
    fn pids(&self) -> Vec<i32> {
        vec![self.program.pid()]
    }
    fn data(&self) -> Vec<PathBuf> {
        vec![self.dir.path().join("data")]
    }
    fn crash_and_start(&mut self) {
        self.program.kill();
        self.program = prometheus(&self.binary, self.dir.path(), self.port);
    }
    fn stop(&mut self) {
        self.program.terminate();
    }
    fn start_again(&mut self) {
        self.program = prometheus(&self.binary, self.dir.path(), self.port);
    }
}

fn wait_ready(server: &dyn Server) {
    for client in server.clients() {
        wait_until("ready", PATIENCE, || match client.get("/-/ready", &[])?.status {
            200 => Ok(()),
            other => Err(other.to_string()),
        });
    }
}

fn row(what: &str, value: String) {
    println!("| {what} | {value} |");
}

const NO_TARGETS: &str = "global: {scrape_interval: 1m}\n";

fn resting(args: &Args, server: &dyn Server) {
    wait_ready(server);
    sleep(Duration::from_secs(10));
    let (pids, began) = (server.pids(), Instant::now());
    let before = cpu_seconds(&pids);
    sleep(Duration::from_secs(args.seconds));
    let share = (cpu_seconds(&pids) - before) / began.elapsed().as_secs_f64() / pids.len() as f64;
    row("at rest, CPU of each process, % of a core", format!("{:.2}", share * 100.0));
    row(
        "at rest, resident MiB of each process",
        format!("{}", (resident_bytes(&pids) / pids.len() as u64) >> 20),
    );
}

fn scraping_config(args: &Args, bodies: &Bodies) -> String {
    let targets: Vec<_> = bodies.addresses().iter().map(|address| format!("'{address}'")).collect();
    let (interval, targets) = (args.interval, targets.join(", "));
    format!(
        "global: {{scrape_interval: {interval}s, scrape_timeout: {interval}s}}\nscrape_configs:\n- job_name: bench\n  static_configs:\n  - targets: [{targets}]\n"
    )
}

fn scraping(args: &Args, bodies: &Bodies, server: &dyn Server) {
    wait_ready(server);
    let rest = resident_bytes(&server.pids());
    // New series cost more than known ones: the first rounds are not measured.
    sleep(Duration::from_secs(3 * args.interval + 5));
    let (pids, served) = (server.pids(), bodies.served());
    let (cpu, written) = (cpu_seconds(&pids), written_bytes(&pids));
    sleep(Duration::from_secs(args.seconds));
    let samples = (bodies.served() - served) as f64;
    let cpu = cpu_seconds(&pids) - cpu;
    let written = (written_bytes(&pids) - written) as f64;
    let series = (args.targets * args.series * pids.len()) as f64;
    row("scraping, samples/s", format!("{:.0}", samples / args.seconds as f64));
    row("scraping, CPU-s per million samples, all processes", format!("{:.2}", cpu * 1e6 / samples));
    row(
        "scraping, bytes written per sample and process",
        format!("{:.1}", written / samples / pids.len() as f64),
    );
    let resident = resident_bytes(&pids).saturating_sub(rest) as f64;
    row("scraping, resident bytes per series and process, above rest", format!("{:.0}", resident / series));
}

/// Series of a host that is written, each a metric of its own.
const SERIES_A_HOST: usize = 100;

/// One request: `hosts` hosts, one sample of every series.
fn request(first: usize, hosts: usize, timestamp: i64) -> Vec<u8> {
    let series = |host: usize, i: usize| -> WriteSeries {
        let labels = [
            ("__name__", format!("written_{i}")),
            ("instance", format!("host-{host:05}")),
            ("job", "bench".to_owned()),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value)).to_vec();
        (labels, vec![(timestamp, value_at(host, i, timestamp / 1000))])
    };
    let all: Vec<_> =
        (first..first + hosts).flat_map(|host| (0..SERIES_A_HOST).map(move |i| series(host, i))).collect();
    encode_write(&all)
}

const HOSTS_A_REQUEST: usize = 20;
const WRITERS: usize = 4;

/// Writes everything; every request again until it is acknowledged.
fn write(args: &Args, server: &dyn Server, start: i64) -> u64 {
    let (hosts, nodes) = (args.write_series / SERIES_A_HOST, server.clients());
    thread::scope(|scope| {
        let writers = (0..WRITERS).map(|writer| {
            let node = nodes[writer % nodes.len()].clone();
            scope.spawn(move || {
                let mut acknowledged = 0;
                for step in 0..args.write_steps {
                    let timestamp = start + step as i64 * 15_000;
                    for first in (0..hosts).step_by(HOSTS_A_REQUEST).skip(writer).step_by(WRITERS) {
                        let count = HOSTS_A_REQUEST.min(hosts - first);
                        let body = request(first, count, timestamp);
                        wait_until("a write is acknowledged", PATIENCE, || {
                            let answer = node.post("/api/v1/write", &WRITE_HEADERS, &body)?;
                            if answer.status == 204 { Ok(()) } else { Err(format!("{answer:?}")) }
                        });
                        acknowledged += (count * SERIES_A_HOST) as u64;
                    }
                }
                acknowledged
            })
        });
        let writers: Vec<_> = writers.collect();
        writers.into_iter().map(|writer| writer.join().expect("no writer panics")).sum()
    })
}

fn writing(args: &Args, server: &mut dyn Server) -> anyhow::Result<()> {
    wait_ready(server);
    let (pids, began) = (server.pids(), Instant::now());
    let (cpu, written, rest) = (cpu_seconds(&pids), written_bytes(&pids), resident_bytes(&pids));
    let start = (now_ms() / 15_000 - args.write_steps as i64) * 15_000;
    let acknowledged = write(args, server, start);
    let samples = acknowledged as f64;
    let processes = pids.len() as f64;
    row("remote write, samples acknowledged", acknowledged.to_string());
    row("remote write, samples/s", format!("{:.0}", samples / began.elapsed().as_secs_f64()));
    let cpu = cpu_seconds(&pids) - cpu;
    row("remote write, CPU-s per million samples, all processes", format!("{:.2}", cpu * 1e6 / samples));
    let written = (written_bytes(&pids) - written) as f64;
    row(
        "remote write, bytes written per sample and process",
        format!("{:.1}", written / samples / processes),
    );
    let resident = resident_bytes(&pids).saturating_sub(rest) as f64;
    let series = args.write_series as f64;
    row(
        "remote write, resident bytes per series and process, above rest",
        format!("{:.0}", resident / series / processes),
    );

    let crashed = Instant::now();
    server.crash_and_start();
    wait_ready(server);
    row("kill -9 of all, seconds until all are ready", format!("{:.2}", crashed.elapsed().as_secs_f64()));
    let (range, end) =
        (args.write_steps * 15 + 1, (start + args.write_steps as i64 * 15_000) as f64 / 1000.0);
    let mut found = 0.0;
    for i in 0..SERIES_A_HOST {
        let query = format!("sum(count_over_time(written_{i}{{job=\"bench\"}}[{range}s]))");
        let answer = server.clients()[0].query(&query, Some(end)).map_err(anyhow::Error::msg)?;
        found += answer.first().and_then(|f| f["value"][1].as_str()?.parse::<f64>().ok()).unwrap_or(0.0);
    }
    row("of the acknowledged samples, missing afterwards", format!("{:.0}", samples - found));
    querying(args, server, end)?;
    on_disk("after a stop", server, samples);
    server.start_again();
    wait_ready(server);
    settle(server);
    on_disk("settled", server, samples);
    Ok(())
}

/// What a page of a dashboard asks of what was written: one client, one query after the other.
fn querying(args: &Args, server: &dyn Server, end: f64) -> anyhow::Result<()> {
    const QUERIES: [&str; 7] = [
        "written_1{instance=\"host-00003\"}",
        "rate(written_1{instance=\"host-00003\"}[5m])",
        "sum(rate(written_1[5m]))",
        "topk(5, written_2)",
        "avg by (job) (avg_over_time(written_5[10m]))",
        "max(written_7 - written_4)",
        "quantile(0.9, written_8)",
    ];
    let (client, pids) = (server.clients().remove(0), server.pids());
    let start = end - (args.write_steps * 15) as f64;
    let step = ((end - start) / 100.0).max(15.0);
    let patience = Duration::from_secs(args.seconds.min(30));
    let (began, cpu, mut answers) = (Instant::now(), cpu_seconds(&pids), 0_u32);
    while began.elapsed() < patience {
        for query in QUERIES {
            let found = client.query_range(query, start, end, step).map_err(anyhow::Error::msg)?;
            anyhow::ensure!(!found.is_empty(), "{query}: no answer");
            answers += 1;
        }
    }
    row(
        "seven range queries of 100 steps, one client: answers/s",
        format!("{:.0}", f64::from(answers) / began.elapsed().as_secs_f64()),
    );
    row(
        "the same, CPU-ms per answer, all processes",
        format!("{:.1}", (cpu_seconds(&pids) - cpu) * 1e3 / f64::from(answers)),
    );
    Ok(())
}

/// Stops the server and counts what its samples take.
fn on_disk(when: &str, server: &mut dyn Server, samples: f64) {
    server.stop();
    let data = server.data();
    let disk: u64 = data.iter().map(|dir| disk_bytes(dir, Some("log"))).sum();
    let all: u64 = data.iter().map(|dir| disk_bytes(dir, None)).sum();
    let per = |bytes: u64| bytes as f64 / samples / data.len() as f64;
    row(
        &format!("on disk {when}, bytes per sample and replica, without the log; with it"),
        format!("{:.2}; {:.2}", per(disk), per(all)),
    );
}

/// Waits until what is on disk has not changed for half a minute.
fn settle(server: &dyn Server) {
    let bytes = || server.data().iter().map(|dir| disk_bytes(dir, Some("log"))).sum::<u64>();
    let (began, mut last, mut since) = (Instant::now(), bytes(), Instant::now());
    while since.elapsed() < Duration::from_secs(30) && began.elapsed() < PATIENCE {
        sleep(Duration::from_secs(2));
        let now = bytes();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

fn machine() -> anyhow::Result<String> {
    let cpus = thread::available_parallelism()?;
    let info = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
    let model =
        info.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("").trim_matches([' ', '\t', ':']);
    let load = fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or("?");
    Ok(format!("{cpus} CPUs ({model}), load {load} before, loopback, temporary folder on the default disk"))
}

/// All rows of one kind of server; each measurement starts from an empty directory.
fn measure(args: &Args, name: &str, start: &dyn Fn(&str) -> Box<dyn Server>) -> anyhow::Result<()> {
    println!("\n| {name} | |\n|---|---|");
    let mut server = start(NO_TARGETS);
    resting(args, &*server);
    server.stop();
    let bodies = Bodies::start(args.targets, args.series);
    let mut server = start(&scraping_config(args, &bodies));
    scraping(args, &bodies, &*server);
    server.stop();
    writing(args, &mut *start(NO_TARGETS))
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    println!("{}", machine()?);
    println!(
        "{} targets x {} series every {} s; {} written series x {} steps of 15 s; {} s a measurement",
        args.targets, args.series, args.interval, args.write_series, args.write_steps, args.seconds
    );
    measure(&args, "Vestal, three processes", &|config| {
        // The default bound of the log: figures are those of a node as it is shipped.
        let (config, binary) = (config.to_owned(), args.vestal.clone());
        Box::new(Cluster::start(ClusterOptions { config, binary, nodes: 3, flags: Vec::new() }))
    })?;
    let Some(binary) = &args.prometheus else {
        println!("\nNo Prometheus beside it: give PROMETHEUS=path of a binary.");
        return Ok(());
    };
    measure(&args, &format!("{}, one process", binary.display()), &|config| {
        Box::new(Prometheus::start(binary, config))
    })
}
