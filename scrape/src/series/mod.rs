//! What is remembered of a target from scrape to scrape: its lines, its series and their slots.
//!
//! ```text
//!  body ──▶ line expected next? ──yes──▶ slot ──▶ cell
//!              │ no
//!              ▼
//!           parse ──▶ line known? ──yes──▶ slot
//!                        │ no
//!                        ▼
//!                     labels ──▶ target's labels, metric relabelling, limits ──▶ slot
//! ```
//!
//! Invariants: one slot per label set; a slot is in a whole row at most once; when more than half of the table is
//! dead, the next scrape starts with a new table.

mod ingest;
mod labels;
mod lines;
mod resolution;

pub(crate) use ingest::{Body, Ingested, TimedSample};

use crate::exposition::{Dialect, Entry, MetricKind, TextParser};
use crate::target::Target;
use labels::{Pair, SeriesError, series_labels};
use lines::{HashIndex, LineKind, Lines};
use model::{Labels, METRIC_NAME, SeriesTable, SlotId};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use resolution::schema_of_bucket_factor;

/// Gives each table of the process its identity.
static TABLES: AtomicU64 = AtomicU64::new(1);

/// How long metadata stays after it was last seen, in scrapes; as Prometheus.
const METADATA_SCRAPES: u32 = 10;

/// The most families of one target whose metadata is given out.
const METADATA_MAX: usize = 20_000;

/// The longest help text that is given out, in bytes.
const HELP_BYTES_MAX: usize = 16 << 10;

/// What a target says of one metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricMetadata {
    /// The family's name.
    pub metric: String,
    /// Its kind.
    pub kind: MetricKind,
    /// Its help text.
    pub help: String,
    /// Its unit.
    pub unit: String,
}

/// The series that Prometheus adds to each scrape.
pub(crate) const SYNTHETIC: [&str; 8] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];

/// The memory of one target.
#[derive(Debug)]
pub(crate) struct SeriesCache {
    target: Arc<Target>,
    table: Arc<SeriesTable>,
    lines: Lines,
    by_labels: HashIndex,
    /// By slot: the scrape whose whole row it was in last.
    slot_seen: Vec<u32>,
    /// Slots of the synthetic series.
    synthetic: Vec<SlotId>,
    /// Series with timestamps of their own whose end will be marked, and the scrape that saw them last.
    tracked: HashMap<SlotId, u32>,
    /// Metadata of a protobuf body, with the scrape that saw it last.
    families: BTreeMap<String, (MetricMetadata, u32)>,
    /// The number of the present scrape.
    scrape: u32,
    /// The last scrape that was good and not empty: what is older was forgotten in Prometheus's sense.
    flushed: u32,
    /// Lines seen in that scrape.
    lines_good: usize,
    /// Slots filled in that scrape.
    slots_good: usize,
    /// The most series a table may have.
    series_max: usize,
}

impl SeriesCache {
    pub(crate) fn new(target: Arc<Target>, series_max: usize) -> SeriesCache {
        let mut cache = SeriesCache {
            table: new_table(),
            lines: Lines::default(),
            by_labels: HashIndex::default(),
            slot_seen: Vec::new(),
            synthetic: Vec::new(),
            tracked: HashMap::new(),
            families: BTreeMap::new(),
            scrape: 1,
            flushed: 1,
            lines_good: 0,
            slots_good: 0,
            series_max,
            target,
        };
        cache.add_synthetic();
        cache
    }

    pub(crate) fn table(&self) -> &Arc<SeriesTable> {
        &self.table
    }

    /// Whether no body was read successfully yet.
    pub(crate) fn is_cold(&self) -> bool {
        self.lines_good == 0
    }

    /// The slots of the synthetic series that are not in the present row by the target's own doing.
    pub(crate) fn synthetic(&self) -> impl Iterator<Item = (usize, SlotId)> {
        let free = |(_, slot): &(usize, &SlotId)| self.slot_seen[**slot as usize] != self.scrape;
        self.synthetic.iter().enumerate().filter(free).map(|(i, slot)| (i, *slot))
    }

    fn add_synthetic(&mut self) {
        let count = if self.target.config.extra_scrape_metrics { 8 } else { 5 };
        let labels = |name: &&str| {
            let pairs = self.target.labels.iter().chain([(METRIC_NAME, *name)]);
            Labels::from_pairs(pairs)
        };
        let all: Vec<Labels> = SYNTHETIC.iter().take(count).map(labels).collect();
        self.synthetic = all.into_iter().map(|labels| self.slot(labels)).collect();
    }

    /// The slot of a label set, new if there is none.
    fn slot(&mut self, labels: Labels) -> SlotId {
        let mut hash = labels.stable_hash();
        while let Some(slot) = self.by_labels.get(&hash) {
            if self.table.get(*slot).as_ref() == Some(&labels) {
                return *slot;
            }
            hash = hash.wrapping_add(1);
        }
        let slot = self.table.push(labels);
        self.by_labels.insert(hash, slot);
        self.slot_seen.push(0);
        slot
    }

    /// What a new line with these labels is.
    fn kind_of_series<'a>(
        &mut self,
        name: Cow<'a, str>,
        scraped: impl Iterator<Item = Pair<'a>>,
    ) -> Result<LineKind, SeriesError> {
        let target = self.target.clone();
        let labels = series_labels(&target.config, &target.labels, name, scraped)?;
        Ok(labels.map_or(LineKind::Dropped, |labels| LineKind::Series(self.slot(labels))))
    }

    /// Forgets what the last good scrape did not see, if there is much of it. Called between scrapes: the table may
    /// be another one afterwards.
    pub(crate) fn settle(&mut self) {
        let dead_table = self.table.len() > 2 * (self.slots_good + self.synthetic.len()) + 64;
        let dead_lines = self.lines.len() > 2 * self.lines_good + 1000;
        if !dead_table && !dead_lines {
            return;
        }
        // While a target fails, only its last try counts, or it could fail itself into all our memory.
        let keep_from = if self.scrape == self.flushed { self.flushed } else { self.scrape - 1 };
        let (old_table, old_lines) =
            (std::mem::replace(&mut self.table, new_table()), std::mem::take(&mut self.lines));
        let old_seen = std::mem::take(&mut self.slot_seen);
        let old_tracked = std::mem::take(&mut self.tracked);
        self.by_labels.clear();
        self.add_synthetic();
        let mut moved: HashMap<SlotId, SlotId> = HashMap::new();
        self.lines = old_lines.rebuilt(|line| {
            let kind = if line.seen < keep_from { return None } else { line.kind };
            let LineKind::Series(old) = kind else { return Some(kind) };
            Some(LineKind::Series(self.move_slot(&mut moved, &old_table, old)?))
        });
        for (old, seen) in old_tracked {
            if let Some(slot) = self.move_slot(&mut moved, &old_table, old) {
                self.tracked.insert(slot, seen);
            }
        }
        for (old, new) in moved {
            self.slot_seen[new as usize] = old_seen[old as usize];
        }
    }

    fn move_slot(
        &mut self,
        moved: &mut HashMap<SlotId, SlotId>,
        old_table: &SeriesTable,
        old: SlotId,
    ) -> Option<SlotId> {
        if let Some(new) = moved.get(&old) {
            return Some(*new);
        }
        let new = self.slot(old_table.get(old)?);
        moved.insert(old, new);
        Some(new)
    }

    /// What the target says of its metrics, in order of their names.
    pub(crate) fn metadata(&self) -> Vec<MetricMetadata> {
        let mut families: BTreeMap<String, MetricMetadata> = BTreeMap::new();
        let recent = |seen: u32| seen + METADATA_SCRAPES >= self.scrape;
        let lines = self.lines.iter().filter(|(line, _)| recent(line.seen));
        for (line, text) in lines {
            if matches!(line.kind, LineKind::Kind(_) | LineKind::Metadata) && families.len() < METADATA_MAX {
                read_metadata(&mut families, text);
            }
        }
        for (name, (metadata, seen)) in &self.families {
            if recent(*seen) {
                families.insert(name.clone(), metadata.clone());
            }
        }
        families.into_values().collect()
    }
}

fn new_table() -> Arc<SeriesTable> {
    Arc::new(SeriesTable::new(TABLES.fetch_add(1, Ordering::Relaxed)))
}

/// Reads a line of metadata. Which dialect it is in shows by trying.
fn read_metadata(families: &mut BTreeMap<String, MetricMetadata>, line: &[u8]) {
    for dialect in [Dialect::OpenMetrics, Dialect::Prometheus] {
        let mut parser = TextParser::new(line, dialect);
        let Ok(Some(entry)) = parser.next() else { continue };
        let metric = parser.name().into_owned();
        let family = families
            .entry(metric.clone())
            .or_insert_with(|| MetricMetadata { metric, ..MetricMetadata::default() });
        let mut text = parser.text().into_owned();
        text.truncate(text.floor_char_boundary(HELP_BYTES_MAX));
        match entry {
            Entry::Kind(kind) => family.kind = kind,
            Entry::Help => family.help = text,
            Entry::Unit => family.unit = text,
            Entry::Sample { .. } | Entry::Comment => {}
        }
        return;
    }
}

#[cfg(test)]
mod tests;
