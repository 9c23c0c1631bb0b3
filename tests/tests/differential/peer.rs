//! A real Prometheus and a cluster with the same samples.
//!
//! `$PROMETHEUS`, else 3.5 of the peers in the cache, else Debian's. Ranges of 2.x are closed on both sides, so that
//! its samples lie off the grid of evaluation times; half of the series do so in any case.

use crate::{
    answer::{Difference, compare, is_filled},
    known,
    random::Random,
    samples,
};
use std::{cell::Cell, env, fs, path::PathBuf, process::Command, time::Duration};
use tempfile::TempDir;
use tests::{
    Answer, Client, Cluster, ClusterOptions, DATA_TIMEOUT, Program, WRITE_HEADERS, debian, encode_write,
    free_port, now_ms, run, skipped, vestal_binary, wait_until,
};

/// How long anything may take to start or to arrive.
const PATIENCE: Duration = Duration::from_secs(90);
/// The samples lie on this grid, so that subqueries have the same phase in every run.
const GRID: i64 = 600_000;
/// Samples off the grid are this late.
const OFF: i64 = 137;
/// How much a request carries of each series.
const PART: i64 = 30 * samples::INTERVAL;

/// Major and minor version.
pub(crate) type Version = (u32, u32);

/// When to evaluate, seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Times {
    At(i64),
    Range { start: i64, end: i64, step: i64 },
}

/// Both sides.
pub(crate) struct Pair {
    version: Version,
    theirs: Client,
    ours: Vec<Client>,
    /// Whether both have experimental functions.
    pub(crate) experimental: bool,
    /// Time of the first sample, seconds.
    start: i64,
    asked: Cell<usize>,
    filled: Cell<usize>,
    failed: Cell<usize>,
    known: Cell<usize>,
    _cluster: Cluster,
    _program: Program,
    _dir: TempDir,
}

/// The program, if there is one.
fn binary() -> Option<PathBuf> {
    if let Some(path) = env::var_os("PROMETHEUS") {
        return Some(path.into());
    }
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache");
    let user = || env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("vestal");
    let cache = env::var_os("VESTAL_CACHE").map_or_else(user, PathBuf::from);
    let peers = fs::read_dir(cache.join("peers")).into_iter().flatten().flatten();
    let newest = peers.filter(|entry| entry.file_name().to_string_lossy().starts_with("prometheus-3.5"));
    let newest = newest.map(|entry| entry.path().join("usr/bin/prometheus")).find(|path| path.is_file());
    newest.or_else(|| debian("prometheus", "usr/bin/prometheus"))
}

/// From `prometheus, version 3.5.3+ds1 (..`.
fn version(text: &str) -> Option<Version> {
    let mut numbers = text.split("version ").nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

impl Pair {
    /// Starts both and fills them; `None`, with a word, where there is no Prometheus.
    pub(crate) fn start() -> Option<Pair> {
        let Some(binary) = binary() else {
            skipped("there is no prometheus to compare with; give its path in PROMETHEUS");
            return None;
        };
        let said = run(Command::new(&binary).arg("--version"));
        let version = version(&format!("{}{}", said.out, said.err)).expect("a version");
        if version < (3, 0) {
            // Its ranges are closed and its language is older; what differs by version would drown what matters.
            skipped("the comparison needs Prometheus 3 or newer; give its path in PROMETHEUS");
            return None;
        }
        let help = run(Command::new(vestal_binary()).args(["serve", "--help"])).out;
        let experimental = help.contains("enable-feature") && version >= (3, 0);
        let feature = "--enable-feature=promql-experimental-functions";

        let dir = TempDir::new().expect("a folder");
        fs::write(dir.path().join("prometheus.yml"), "global: {}\n").expect("a configuration is written");
        let port = free_port();
        let mut command = Command::new(binary);
        command.arg("--web.enable-remote-write-receiver");
        command.arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.args(experimental.then_some(feature));
        let program = Program::start(&mut command, &dir.path().join("prometheus.log"));
        let theirs = Client::new(format!("http://127.0.0.1:{port}"), DATA_TIMEOUT);
        wait_until("Prometheus is ready", PATIENCE, || match theirs.get("/-/ready", &[]) {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        });

        let mut options = ClusterOptions { config: "global: {}\n".to_owned(), ..ClusterOptions::default() };
        options.flags.extend(experimental.then(|| feature.to_owned()));
        let cluster = Cluster::start(options);
        let length = samples::STEPS * samples::INTERVAL;
        let start = (now_ms() - length - 60_000).div_euclid(GRID) * GRID;
        let pair = Pair {
            version,
            theirs,
            ours: cluster.clients(),
            experimental,
            start: start / 1000,
            asked: Cell::default(),
            filled: Cell::default(),
            failed: Cell::default(),
            known: Cell::default(),
            _cluster: cluster,
            _program: program,
            _dir: dir,
        };
        pair.fill(start);
        Some(pair)
    }

    fn fill(&self, start: i64) {
        let mut series = samples::series(start);
        for (i, (_, samples)) in series.iter_mut().enumerate() {
            if i % 2 == 1 || self.version < (3, 0) {
                samples.iter_mut().for_each(|(time, _)| *time += OFF);
            }
        }
        let end = start + samples::STEPS * samples::INTERVAL + OFF;
        for from in (start..end).step_by(usize::try_from(PART).expect("a constant")) {
            let body = encode_write(&samples::part(&series, from, from + PART));
            for side in [&self.theirs, &self.ours[0]] {
                let mut refused = 0;
                wait_until("samples are accepted", PATIENCE, || {
                    let answer = side.post("/api/v1/write", &WRITE_HEADERS, &body)?;
                    // What arrived with an attempt whose answer was an error is out of order in the next.
                    let again = refused > 0 && answer.body.contains("out of order");
                    if matches!(answer.status, 200 | 204) || again {
                        return Ok(());
                    }
                    refused += 1;
                    eprintln!("differential: a write is sent again after {answer:?}");
                    Err(format!("{answer:?}"))
                });
            }
        }
        for side in &self.ours {
            let times = Times::At(end / 1000 + 1);
            let all = [&self.theirs, side].map(|side| self.ask(side, "{__name__!=\"\"}[3h]", times));
            let difference = compare("all samples", &all[0], &all[1]);
            assert!(difference.is_none(), "{}", difference.expect("just looked at"));
        }
    }

    /// An instant, and a range that begins before the first sample and ends behind the last.
    pub(crate) fn times(&self) -> [Times; 2] {
        let end = self.start + samples::STEPS * samples::INTERVAL / 1000;
        [Times::At(end - 60), Times::Range { start: self.start - 120, end: end + 400, step: 60 }]
    }

    /// An instant or a range somewhere in the data.
    pub(crate) fn random_times(&self, random: &mut Random) -> Times {
        let length = usize::try_from(samples::STEPS * samples::INTERVAL / 1000).expect("a constant");
        let mut at = || self.start + random.below(length + 400) as i64 / 5 * 5;
        let (start, end) = (at(), at());
        let step = random.pick(&[1, 7, 15, 30, 60, 61, 300]);
        if random.one_in(3) {
            return Times::At(end);
        }
        let (start, end) = (start.min(end), start.max(end));
        Times::Range { start, end: end.min(start + 80 * step), step }
    }

    fn ask(&self, side: &Client, query: &str, times: Times) -> Answer {
        let answer = match times {
            Times::At(time) => side.get("/api/v1/query", &[("query", query), ("time", &time.to_string())]),
            Times::Range { start, end, step } => {
                let texts = [start, end, step].map(|number| number.to_string());
                let range = [("query", query), ("start", &texts[0]), ("end", &texts[1]), ("step", &texts[2])];
                side.get("/api/v1/query_range", &range)
            }
        };
        answer.unwrap_or_else(|error| panic!("{query}: {}: {error}", side.base))
    }

    /// Asks both; what differs, unless it is known to.
    pub(crate) fn compare(&self, query: &str, times: Times) -> Option<Difference> {
        let asked = self.asked.get();
        self.asked.set(asked + 1);
        let theirs = self.ask(&self.theirs, query, times);
        let ours = self.ask(&self.ours[asked % self.ours.len()], query, times);
        self.filled.set(self.filled.get() + usize::from(is_filled(&theirs)));
        self.failed.set(self.failed.get() + usize::from(theirs.status != 200));
        let difference = compare(&format!("{times:?}"), &theirs, &ours)?;
        if known::explains(query, self.version, &difference) {
            self.known.set(self.known.get() + 1);
            return None;
        }
        Some(difference)
    }

    /// How many of Prometheus's answers had something in them.
    pub(crate) fn filled(&self) -> usize {
        self.filled.get()
    }

    /// How many questions, and what came of them.
    pub(crate) fn summary(&self) -> String {
        let (major, minor) = self.version;
        let (asked, filled, failed, known) =
            (self.asked.get(), self.filled(), self.failed.get(), self.known.get());
        format!(
            "Prometheus {major}.{minor} was asked {asked} times: {filled} filled answers, {failed} errors, {known} known differences"
        )
    }
}
