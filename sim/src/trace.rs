//! What happened, with simulated times only: printed, kept for a failure's story, and digested.

use crate::sometimes::{SAID, happened};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    fmt::Write,
    sync::Once,
    time::Duration,
};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};
use xxhash_rust::xxh3::Xxh3;

/// Lines kept per speaker.
const STORY_LINES: usize = 25;

/// Who speaks when it is the world itself.
pub const WORLD: &str = "world";

#[derive(Default)]
struct Trace {
    print: bool,
    lines: u64,
    digest: Xxh3,
    story: BTreeMap<&'static str, VecDeque<(u64, String)>>,
    panics: Vec<String>,
}

thread_local! {
    static TRACE: RefCell<Trace> = RefCell::default();
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static SPEAKER: Cell<&'static str> = const { Cell::new(WORLD) };
    /// Whether this thread is a world's.
    static BEGUN: Cell<bool> = const { Cell::new(false) };
}

static HEAR_PANICS: Once = Once::new();

/// Begins a new trace on this thread; with `print` every line goes to standard output.
pub fn begin(print: bool) {
    TRACE.set(Trace { print, ..Trace::default() });
    NOW.set(Duration::ZERO);
    SPEAKER.set(WORLD);
    BEGUN.set(true);
    HEAR_PANICS.call_once(hear_panics);
}

/// Panics on a world's thread become its own; those of others, of a test for one, are told as ever.
fn hear_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !BEGUN.try_with(Cell::get).unwrap_or(false) {
            return usual(info);
        }
        let text = info.to_string().replace('\n', " ");
        if TRACE.try_with(|trace| trace.try_borrow_mut().is_ok()).unwrap_or(false) {
            say(&format!("PANIC {text}"));
            TRACE.with_borrow_mut(|trace| trace.panics.push(text));
        } else {
            eprintln!("{text}");
        }
    }));
}

/// Sets the simulated time of the lines to come.
pub fn set_now(now: Duration) {
    NOW.set(now);
}

/// The simulated time.
#[must_use]
pub fn now() -> Duration {
    NOW.get()
}

/// Sets who speaks from now on; gives back who did before.
pub fn speak_as(speaker: &'static str) -> &'static str {
    SPEAKER.replace(speaker)
}

/// Adds a line.
pub fn say(text: &str) {
    let (now, speaker) = (NOW.get().as_millis() as u64, SPEAKER.get());
    TRACE.with_borrow_mut(|trace| {
        let number = trace.lines;
        trace.lines += 1;
        trace.digest.update(&now.to_le_bytes());
        trace.digest.update(speaker.as_bytes());
        trace.digest.update(text.as_bytes());
        if trace.print {
            println!("{:>7}.{:03} {speaker:<8} {text}", now / 1000, now % 1000);
        }
        let story = trace.story.entry(speaker).or_default();
        if story.len() == STORY_LINES {
            story.pop_front();
        }
        story.push_back((number, format!("{:>7}.{:03} {speaker:<8} {text}", now / 1000, now % 1000)));
    });
}

/// Panics so far.
#[must_use]
pub fn panics() -> Vec<String> {
    TRACE.with_borrow(|trace| trace.panics.clone())
}

/// How many lines there were, and their digest.
#[must_use]
pub fn digest() -> (u64, u64) {
    TRACE.with_borrow(|trace| (trace.lines, trace.digest.digest()))
}

/// The last lines of every speaker, in their order.
#[must_use]
pub fn story() -> Vec<String> {
    TRACE.with_borrow(|trace| {
        let mut lines: Vec<&(u64, String)> = trace.story.values().flatten().collect();
        lines.sort();
        lines.into_iter().map(|(_, line)| line.clone()).collect()
    })
}

/// Turns the nodes' log lines into lines of the trace.
#[derive(Debug)]
pub struct LogLayer {
    /// The least severe level that is taken of our own crates; of libraries only errors are.
    pub level: Level,
}

const OURS: [&str; 7] = ["node", "raft", "storage", "scrape", "api", "promql", "model"];

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let written = match field.name() {
            "message" => {
                let rest = std::mem::take(&mut self.0);
                write!(self.0, "{value:?}{rest}")
            }
            name => write!(self.0, " {name}={value:?}"),
        };
        written.expect("a string takes all");
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        let krate = metadata.target().split("::").next().unwrap_or_default();
        let least = if OURS.contains(&krate) { self.level } else { Level::ERROR };
        *metadata.level() <= least && metadata.is_event()
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        for (text, what) in SAID {
            happened(what, u64::from(line.0.contains(text)));
        }
        say(&format!("{} {}: {}", event.metadata().level(), event.metadata().target(), line.0));
    }
}
