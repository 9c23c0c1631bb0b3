//! `global.query_log_file`: one line of JSON for each query that was evaluated, in the shape of Prometheus's query log.
//!
//! The file is opened when the configuration names it, and again at each reload, so that it can be moved away.

use crate::{
    engine_metrics::EngineMetrics,
    json::Object,
    param,
    ports::QueryLogFile,
    result::{self, Timings},
};
use model::{File, Fs, OpenOptions, TimestampMs};
use promql::Stats;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

/// What of a query is logged.
pub(crate) struct Line<'a> {
    pub(crate) at: TimestampMs,
    pub(crate) query: &'a str,
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Milliseconds; 0 of an instant query.
    pub(crate) step: i64,
    pub(crate) error: Option<&'a str>,
    pub(crate) stats: &'a Stats,
    pub(crate) timings: &'a Timings,
    pub(crate) client: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
}

#[derive(Default)]
struct Open {
    wanted: Option<QueryLogFile>,
    file: Option<Box<dyn File>>,
}

pub(crate) struct QueryLog {
    fs: Arc<dyn Fs>,
    open: Mutex<Open>,
}

impl QueryLog {
    pub(crate) fn new(fs: Arc<dyn Fs>) -> QueryLog {
        QueryLog { fs, open: Mutex::default() }
    }

    /// Opens, opens again or closes as the configuration says. Blocks.
    pub(crate) fn follow(&self, wanted: Option<QueryLogFile>, metrics: &EngineMetrics) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.wanted == wanted {
            return;
        }
        open.file = None;
        if let Some(wanted) = &wanted {
            let append = OpenOptions { write: true, create: true, ..OpenOptions::default() };
            match self.fs.open(&wanted.path, append) {
                Ok(file) => open.file = Some(file),
                Err(error) => {
                    let file = wanted.path.display();
                    tracing::error!(%error, %file, "global.query_log_file cannot be opened; queries are not logged");
                    metrics.log_failed();
                }
            }
        }
        metrics.set_log_enabled(open.file.is_some());
        open.wanted = wanted;
    }

    /// Whether lines are wanted.
    pub(crate) fn is_open(&self) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).file.is_some()
    }

    /// Appends a line. Blocks.
    pub(crate) fn write(&self, line: &Line<'_>, metrics: &EngineMetrics) {
        let bytes = render(line);
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &open.file else { return };
        if let Err(error) = append(&**file, &bytes) {
            tracing::error!(%error, "a query cannot be logged");
            metrics.log_failed();
        }
    }
}

/// At the end, wherever that is by now: the file may have been cut to nothing by who rotates it.
fn append(file: &dyn File, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, file.len()?)
}

/// A date as Prometheus logs it: with milliseconds always.
fn date(ms: i64) -> String {
    let text = param::format_time(TimestampMs(ms - ms.rem_euclid(1000)));
    format!("{}.{:03}Z", text.trim_end_matches('Z'), ms.rem_euclid(1000))
}

fn render(line: &Line<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut all = Object::new(&mut out);
    all.text("time", &date(line.at.0)).text("level", "INFO").text("source", "query.rs");
    all.text("msg", "promql query logged");
    let mut params = Object::new(all.key("params"));
    params
        .text("end", &date(line.end))
        .text("query", line.query)
        .text("start", &date(line.start))
        .integer("step", line.step / 1000);
    params.end();
    if let Some(error) = line.error {
        all.text("error", error);
    }
    result::write_stats(all.key("stats"), line.stats, line.timings);
    all.text("spanID", "0000000000000000").text("traceID", "00000000000000000000000000000000");
    let mut request = Object::new(all.key("httpRequest"));
    request.text("clientIP", line.client).text("method", line.method).text("path", line.path);
    request.end();
    all.end();
    out.push(b'\n');
    out
}
