//! A real Prometheus and a cluster with the same samples.
//!
//! `$PROMETHEUS`, else 3.5 of the peers in the cache, else Debian's. Ranges of 2.x are closed on both sides, so that
//! its samples lie off the grid of evaluation times; half of the series do so in any case.

use crate::{
    answer::{Difference, compare, compare_texts, is_filled},
    known,
    random::Random,
    samples,
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    env, fs,
    path::PathBuf,
    process::Command,
    time::Duration,
};
use tempfile::TempDir;
use tests::{
    Answer, Client, Cluster, ClusterOptions, DATA_TIMEOUT, Program, WRITE_HEADERS, debian, free_port, now_ms,
    run, skipped, wait_until, within,
};

/// What both have enabled; 3.14 has the last two without being told.
pub(crate) const FEATURES: &str = "promql-experimental-functions,promql-duration-expr,native-histograms";
/// How long anything may take to start or to arrive.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a query may be refused because nobody leads.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// The samples lie on this grid, so that subqueries have the same phase in every run.
const GRID: i64 = 600_000;

/// Major and minor version.
pub(crate) type Version = (u32, u32);

/// When to evaluate; milliseconds, the lookback included.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Times {
    At { time: i64, lookback: Option<i64> },
    Range { start: i64, end: i64, step: i64 },
}

/// Seconds as a parameter.
fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// Both sides.
pub(crate) struct Pair {
    version: Version,
    theirs: Client,
    ours: Vec<Client>,
    /// Time of the first sample, seconds.
    pub(crate) start: i64,
    asked: Cell<usize>,
    filled: Cell<usize>,
    failed: Cell<usize>,
    /// Known differences, by their reason.
    known: RefCell<BTreeMap<&'static str, usize>>,
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

/// Sends a write until it is accepted.
pub(crate) fn write(side: &Client, body: &[u8]) {
    let mut refused = 0;
    wait_until("samples are accepted", PATIENCE, || {
        let answer = side.post("/api/v1/write", &WRITE_HEADERS, body)?;
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

/// When the samples begin, milliseconds: the last ends a minute ago.
pub(crate) fn start() -> i64 {
    let length = samples::STEPS * samples::INTERVAL;
    (now_ms() - length - 60_000).div_euclid(GRID) * GRID
}

/// An instant, and a range that begins before the first sample and ends behind the last, for samples from `start`
/// milliseconds on.
pub(crate) fn times(start: i64) -> [Times; 2] {
    let end = start + samples::STEPS * samples::INTERVAL;
    let instant = Times::At { time: end - 60_000, lookback: None };
    [instant, Times::Range { start: start - 120_000, end: end + 400_000, step: 60_000 }]
}

/// Asks a server.
pub(crate) fn ask(side: &Client, query: &str, times: Times) -> Answer {
    let ask = || match times {
        Times::At { time, lookback } => {
            let (time, lookback) = (seconds(time), lookback.map(seconds));
            let mut parameters = vec![("query", query), ("time", &time)];
            parameters.extend(lookback.as_ref().map(|lookback| ("lookback_delta", lookback.as_str())));
            side.get("/api/v1/query", &parameters)
        }
        Times::Range { start, end, step } => {
            let texts = [start, end, step].map(seconds);
            let range = [("query", query), ("start", &texts[0]), ("end", &texts[1]), ("step", &texts[2])];
            side.get("/api/v1/query_range", &range)
        }
    };
    // Nobody may lead for the moment: that is no answer yet. One that stays is compared like any other.
    let mut last = None;
    let answer = within("an answer", ANSWER_PATIENCE, || {
        let answer = ask()?;
        let is_refused = answer.status == 503;
        let said = answer.body.clone();
        last = Some(answer);
        if is_refused { Err(said) } else { Ok(()) }
    });
    last.unwrap_or_else(|| panic!("{query}: {}: {answer:?}", side.base))
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
        let mut features = FEATURES.to_owned();
        if let Ok(more) = env::var("DIFFERENTIAL_FEATURES") {
            features = format!("{features},{more}");
        }
        let features = format!("--enable-feature={features}");

        let dir = TempDir::new().expect("a folder");
        fs::write(dir.path().join("prometheus.yml"), "global: {}\n").expect("a configuration is written");
        let port = free_port();
        let mut command = Command::new(binary);
        command.arg("--web.enable-remote-write-receiver");
        command.arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.arg(&features);
        let program = Program::start(&mut command, &dir.path().join("prometheus.log"));
        let theirs = Client::new(format!("http://127.0.0.1:{port}"), DATA_TIMEOUT);
        wait_until("Prometheus is ready", PATIENCE, || match theirs.get("/-/ready", &[]) {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        });

        let mut options = ClusterOptions { config: "global: {}\n".to_owned(), ..ClusterOptions::default() };
        options.flags.push(features);
        let cluster = Cluster::start(options);
        let start = start();
        let pair = Pair {
            version,
            theirs,
            ours: cluster.clients(),
            start: start / 1000,
            asked: Cell::default(),
            filled: Cell::default(),
            failed: Cell::default(),
            known: RefCell::default(),
            _cluster: cluster,
            _program: program,
            _dir: dir,
        };
        pair.fill(start);
        Some(pair)
    }

    fn fill(&self, start: i64) {
        for body in samples::bodies(start) {
            [&self.theirs, &self.ours[0]].into_iter().for_each(|side| write(side, &body));
        }
        let end = start + samples::STEPS * samples::INTERVAL + samples::OFF;
        for side in &self.ours {
            let times = Times::At { time: end + 1000, lookback: None };
            let all = [&self.theirs, side].map(|side| ask(side, "{__name__!=\"\"}[3h]", times));
            let differences = compare("all samples", &all[0], &all[1]);
            assert!(differences.is_empty(), "{}", differences[0]);
        }
    }

    /// See [`times`].
    pub(crate) fn times(&self) -> [Times; 2] {
        times(self.start * 1000)
    }

    /// An instant or a range somewhere in the data.
    pub(crate) fn random_times(&self, random: &mut Random) -> Times {
        let length = usize::try_from(samples::STEPS * samples::INTERVAL / 1000).expect("a constant");
        let odd = if random.one_in(5) { random.below(1000) as i64 } else { 0 };
        let mut at = || self.start * 1000 + random.below(length + 400) as i64 / 5 * 5000 + odd;
        let (start, end) = (at(), at());
        let step = random.pick(&[1000, 7000, 15_000, 30_000, 60_000, 61_500, 300_000]);
        if random.one_in(3) {
            let lookback = random.one_in(10).then(|| random.pick(&[15_000, 60_000, 1_000_000]));
            return Times::At { time: end, lookback };
        }
        let (start, end) = (start.min(end), start.max(end));
        Times::Range { start, end: end.min(start + 80 * step), step }
    }

    /// Asks both; what differs, unless it is known to.
    pub(crate) fn compare(&self, query: &str, times: Times) -> Option<Difference> {
        let asked = self.asked.get();
        self.asked.set(asked + 1);
        let theirs = ask(&self.theirs, query, times);
        let ours = ask(&self.ours[asked % self.ours.len()], query, times);
        self.filled.set(self.filled.get() + usize::from(is_filled(&theirs)));
        self.failed.set(self.failed.get() + usize::from(theirs.status != 200));
        self.first_unknown(query, compare(&format!("{times:?}"), &theirs, &ours))
    }

    /// Lets both print and take apart a query; what differs, unless it is known to.
    pub(crate) fn compare_texts(&self, query: &str) -> Option<Difference> {
        let ours = &self.ours[self.asked.get() % self.ours.len()];
        let mut found = Vec::new();
        for path in ["/api/v1/format_query", "/api/v1/parse_query"] {
            let answers = [&self.theirs, ours].map(|side| {
                side.get(path, &[("query", query)])
                    .unwrap_or_else(|error| panic!("{query}: {}: {error}", side.base))
            });
            found.extend(compare_texts(path, &answers[0], &answers[1]));
        }
        self.first_unknown(query, found)
    }

    fn first_unknown(&self, query: &str, mut found: Vec<Difference>) -> Option<Difference> {
        found.retain(|difference| match known::explains(query, self.version, difference) {
            Some(why) => {
                *self.known.borrow_mut().entry(why).or_default() += 1;
                false
            }
            None => true,
        });
        found.into_iter().next()
    }

    /// How many of Prometheus's answers had something in them.
    pub(crate) fn filled(&self) -> usize {
        self.filled.get()
    }

    /// How many questions, and what came of them.
    pub(crate) fn summary(&self) -> String {
        let (major, minor) = self.version;
        let (asked, filled, failed) = (self.asked.get(), self.filled(), self.failed.get());
        let known = self.known.borrow();
        let mut text = format!(
            "Prometheus {major}.{minor} was asked {asked} times: {filled} filled answers, {failed} errors, {} known differences",
            known.values().sum::<usize>()
        );
        known.iter().for_each(|(why, count)| text.push_str(&format!("\n  {count} x {why}")));
        text
    }
}
