//! A body becomes cells.

use super::lines::{Bound, LineId, LineKind, NO_LINE};
use super::{MetricMetadata, SeriesCache, resolution};
use crate::exposition::{
    BodyFormat, BoundLabel, Dialect, Entry, MetricKind, ProtobufEntry, ProtobufParser, TextParser,
    parse_value,
};
use model::{SlotId, TimestampMs, Value};
use std::collections::{HashMap, HashSet};

/// How far ahead of the scrape a sample's own timestamp may lie.
const AHEAD_MS_MAX: i64 = 10 * 60 * 1000;

/// Distinct timestamps in one body. Each is a row of its own, and rows that wait to be committed are bounded.
pub(crate) const TIMESTAMPS_MAX: usize = 4_096;

/// A body to be read.
pub(crate) struct Body<'a> {
    /// Its bytes. The text format gets a line feed behind them.
    pub(crate) bytes: &'a mut Vec<u8>,
    /// How they are read.
    pub(crate) format: BodyFormat,
    /// The timestamp of the scrape.
    pub(crate) timestamp: TimestampMs,
}

/// A sample with a timestamp of its own.
#[derive(Clone, Debug)]
pub(crate) struct TimedSample {
    pub(crate) timestamp: i64,
    /// It is older than another sample of its series in the same body.
    pub(crate) late: bool,
    pub(crate) slot: SlotId,
    pub(crate) value: Value,
}

/// What a body held.
#[derive(Debug, Default)]
pub(crate) struct Ingested {
    /// Cells of the whole row.
    pub(crate) cells: Vec<(SlotId, Value)>,
    /// Samples with timestamps of their own, in the order of the body.
    pub(crate) timed: Vec<TimedSample>,
    /// Series with timestamps of their own that have ended.
    pub(crate) ended: Vec<SlotId>,
    /// Samples in the body.
    pub(crate) scraped: u64,
    /// Samples after metric relabelling.
    pub(crate) added: u64,
    /// Series that the last good scrape did not have.
    pub(crate) series_added: u64,
    /// Samples of a series that was there before in the same body.
    pub(crate) duplicates: u64,
    /// Samples with a timestamp too far ahead.
    pub(crate) out_of_bounds: u64,
    /// Why the scrape fails; its samples do not count then.
    pub(crate) error: Option<String>,
}

/// The scrape under way.
struct Run<'a> {
    cache: &'a mut SeriesCache,
    found: Ingested,
    timestamp: TimestampMs,
    previous: LineId,
    lines_seen: usize,
    appended: u64,
    limit_hit: bool,
    /// The newest own timestamp of each slot in this body.
    newest: HashMap<SlotId, i64>,
}

impl SeriesCache {
    /// Reads a body. After an error nothing of it counts but the numbers.
    pub(crate) fn ingest(&mut self, body: Body<'_>) -> Ingested {
        let empty = body.bytes.is_empty();
        self.scrape += 1;
        let mut run = Run {
            found: Ingested::default(),
            timestamp: body.timestamp,
            previous: NO_LINE,
            lines_seen: 0,
            appended: 0,
            limit_hit: false,
            newest: HashMap::new(),
            cache: self,
        };
        run.found.cells.reserve(run.cache.table.len().min(run.cache.lines_good + super::SYNTHETIC.len()));
        let result = match body.format {
            BodyFormat::PrometheusText => {
                body.bytes.push(b'\n');
                run.text(body.bytes, Dialect::Prometheus)
            }
            BodyFormat::OpenMetricsText => run.text(body.bytes, Dialect::OpenMetrics),
            BodyFormat::Protobuf => run.protobuf(body.bytes),
        };
        let limit_hit = run.limit_hit.then(|| "sample limit exceeded".to_owned());
        let (mut found, lines_seen, timed) = (run.found, run.lines_seen, run.newest.len());
        found.error = result.err().or(limit_hit).or_else(|| too_many_timestamps(&found.timed));
        let slots = found.cells.len() + timed;
        self.finish(&mut found, empty, lines_seen, slots);
        found
    }

    /// A scrape that got no body.
    pub(crate) fn ingest_nothing(&mut self) -> Ingested {
        self.scrape += 1;
        let mut found = Ingested { error: Some(String::new()), ..Ingested::default() };
        self.finish(&mut found, true, 0, 0);
        found
    }

    fn finish(&mut self, found: &mut Ingested, empty: bool, lines: usize, slots: usize) {
        if found.error.is_some() {
            // An empty row takes this one's place, and nothing of it is in the row.
            found.cells.clear();
            found.timed.clear();
            self.scrape += 1;
        }
        let scrape = self.scrape;
        let ended = &mut found.ended;
        self.tracked.retain(|slot, seen| {
            let lives = *seen == scrape;
            if !lives {
                ended.push(*slot);
            }
            lives
        });
        ended.sort_unstable();
        if found.error.is_none() && !empty {
            self.flushed = scrape;
            self.lines_good = lines;
            self.slots_good = slots;
            self.families.retain(|_, (_, seen)| *seen + super::METADATA_SCRAPES >= scrape);
        }
    }
}

impl Run<'_> {
    fn text(&mut self, body: &[u8], dialect: Dialect) -> Result<(), String> {
        let mut parser = TextParser::new(body, dialect);
        let mut kind = MetricKind::Unknown;
        let mut at = 0;
        let mut expected = self.cache.lines.first();
        loop {
            while let Some((end, line_kind, id)) =
                self.expected_line(body, at, expected, BoundLabel::of_kind(kind))
            {
                match line_kind {
                    LineKind::Series(_) | LineKind::Dropped => {
                        let Some((value, timestamp, next)) = plain_sample(body, end, dialect) else { break };
                        self.sample(id, line_kind, Value::Float(value), timestamp);
                        at = next;
                    }
                    LineKind::Kind(new) => {
                        kind = new;
                        at = end;
                        self.see(id);
                    }
                    LineKind::Metadata | LineKind::Comment => {
                        at = end;
                        self.see(id);
                    }
                }
                self.previous = id;
                expected = self.cache.lines.get(id).map_or(NO_LINE, |line| line.next);
            }
            parser.seek(at);
            parser.set_kind(kind);
            let Some(entry) = parser.next().map_err(|error| error.to_string())? else { return Ok(()) };
            let begin = parser.begin_of_entry();
            at = parser.position();
            let id = match entry {
                Entry::Sample { value, timestamp } => {
                    let id = self.series_line(&parser, BoundLabel::of_kind(kind))?;
                    let line_kind = self.cache.lines.get(id).map_or(LineKind::Dropped, |line| line.kind);
                    self.sample(id, line_kind, Value::Float(value), timestamp);
                    id
                }
                Entry::Kind(new) => {
                    kind = new;
                    self.metadata(&body[begin..at], LineKind::Kind(new))?
                }
                Entry::Help | Entry::Unit => self.metadata(&body[begin..at], LineKind::Metadata)?,
                Entry::Comment => self.metadata(&body[begin..at], LineKind::Comment)?,
            };
            self.cache.lines.link(self.previous, id);
            self.previous = id;
            expected = self.cache.lines.get(id).map_or(NO_LINE, |line| line.next);
        }
    }

    /// The line of the parser's present series, read anew if it is new or the `TYPE` before it has changed.
    fn series_line(&mut self, parser: &TextParser<'_>, bound: Option<BoundLabel>) -> Result<LineId, String> {
        let text = parser.series();
        let found = self.cache.lines.find(text);
        let known =
            found.ok().filter(|id| self.cache.lines.get(*id).is_some_and(|line| line.bound.holds(bound)));
        if let Some(id) = known {
            return Ok(id);
        }
        let read = self.cache.kind_of_series(parser.name(), parser.labels());
        let kind = read.map_err(|error| error.to_string())?;
        let id = match found {
            Ok(id) => id,
            Err(hash) => self.add(hash, text, kind)?,
        };
        let bounded = parser.labels().any(|(name, _)| BoundLabel::of_name(&name).is_some());
        if let Some(line) = self.cache.lines.get_mut(id) {
            line.kind = kind;
            line.bound = if bounded { Bound::Label(bound) } else { Bound::Any };
        }
        Ok(id)
    }

    /// The expected line, if it stands here: where it ends and what it is.
    #[inline]
    fn expected_line(
        &self,
        body: &[u8],
        at: usize,
        expected: LineId,
        bound: Option<BoundLabel>,
    ) -> Option<(usize, LineKind, LineId)> {
        let line = self.cache.lines.get(expected).filter(|line| line.bound.holds(bound))?;
        let text = self.cache.lines.text(line);
        body[at..].starts_with(text).then_some((at + text.len(), line.kind, expected))
    }

    fn add(&mut self, hash: u64, text: &[u8], kind: LineKind) -> Result<LineId, String> {
        let max = self.cache.series_max;
        if self.cache.table.len() > max || self.cache.lines.len() > 4 * max + 1000 {
            return Err(format!("more than {max} series in one target; split it, or drop at the exporter"));
        }
        // Never seen until its first sample is in.
        self.cache
            .lines
            .add(hash, text, kind, 0)
            .ok_or_else(|| "more than 4GiB of series text in one target".to_owned())
    }

    fn metadata(&mut self, line: &[u8], kind: LineKind) -> Result<LineId, String> {
        let id = match self.cache.lines.find(line) {
            Ok(id) => id,
            Err(hash) => self.add(hash, line, kind)?,
        };
        self.see(id);
        Ok(id)
    }

    fn see(&mut self, id: LineId) {
        if let Some(line) = self.cache.lines.get_mut(id) {
            line.seen = self.cache.scrape;
            self.lines_seen += 1;
        }
    }

    /// Takes a sample in. The order of the counts is Prometheus's.
    #[inline]
    fn sample(&mut self, id: LineId, kind: LineKind, value: Value, own: Option<i64>) {
        let found = &mut self.found;
        let cache = &mut *self.cache;
        let Some(line) = cache.lines.get_mut(id) else { return };
        let scrape = cache.scrape;
        found.scraped += 1;
        self.lines_seen += 1;
        let LineKind::Series(slot) = kind else {
            line.seen = scrape;
            return;
        };
        found.added += 1;
        let config = &*cache.target.config;
        let own = own.filter(|_| config.honor_timestamps);
        let in_row = &mut cache.slot_seen[slot as usize];
        if own.is_none() && *in_row == scrape {
            found.duplicates += 1;
            return;
        }
        self.appended += 1;
        if config.limits.samples > 0 && self.appended > config.limits.samples {
            self.limit_hit = true;
            return;
        }
        match own {
            None => {
                *in_row = scrape;
                found.cells.push((slot, value));
            }
            Some(timestamp) if timestamp > self.timestamp.0.saturating_add(AHEAD_MS_MAX) => {
                found.out_of_bounds += 1;
                return;
            }
            Some(timestamp) => {
                let newest = self.newest.insert(slot, timestamp);
                let late = newest.is_some_and(|newest| timestamp < newest);
                if late {
                    self.newest.extend(newest.map(|newest| (slot, newest)));
                } else if newest == Some(timestamp) {
                    found.duplicates += 1;
                    return;
                }
                found.timed.push(TimedSample { timestamp, late, slot, value });
                if config.track_timestamps_staleness {
                    cache.tracked.insert(slot, scrape);
                }
            }
        }
        found.series_added += u64::from(line.seen < cache.flushed && !self.limit_hit);
        line.seen = scrape;
    }

    fn protobuf(&mut self, body: &[u8]) -> Result<(), String> {
        let target = &self.cache.target;
        let mut parser = ProtobufParser::new(body, target.native_histograms, target.classic_histograms);
        let limits = target.config.limits;
        let mut key = Vec::new();
        while let Some(family) = parser.next().map_err(|error| error.to_string())? {
            self.family_metadata(&family);
            for mut sample in family.samples {
                let (schema, buckets) = (limits.native_histogram_schema, limits.native_histogram_buckets);
                resolution::limit(&mut sample.value, schema, buckets)?;
                key.clear();
                key.extend_from_slice(sample.name.as_bytes());
                for (name, value) in &sample.labels {
                    // No text contains this byte, so no two label sets have one key, and no line of text has it.
                    key.push(0xff);
                    key.extend_from_slice(name.as_bytes());
                    key.push(0xff);
                    key.extend_from_slice(value.as_bytes());
                }
                let id = match self.cache.lines.find(&key) {
                    Ok(id) => id,
                    Err(hash) => {
                        let labels = sample.labels.iter().map(|(name, value)| (name.into(), value.into()));
                        let kind = self
                            .cache
                            .kind_of_series((&sample.name).into(), labels)
                            .map_err(|e| e.to_string())?;
                        self.add(hash, &key, kind)?
                    }
                };
                let kind = self.cache.lines.get(id).map_or(LineKind::Dropped, |line| line.kind);
                self.sample(id, kind, sample.value, sample.timestamp);
            }
        }
        Ok(())
    }

    fn family_metadata(&mut self, family: &ProtobufEntry) {
        let metadata = MetricMetadata {
            metric: family.name.clone(),
            kind: family.kind,
            help: family.help.chars().take(super::HELP_BYTES_MAX / 4).collect(),
            unit: family.unit.clone(),
        };
        if self.cache.families.len() < super::METADATA_MAX || self.cache.families.contains_key(&family.name) {
            self.cache.families.insert(family.name.clone(), (metadata, self.cache.scrape));
        }
    }
}

fn too_many_timestamps(timed: &[TimedSample]) -> Option<String> {
    if timed.len() <= TIMESTAMPS_MAX {
        return None;
    }
    let distinct: HashSet<(bool, i64)> = timed.iter().map(|sample| (sample.late, sample.timestamp)).collect();
    (distinct.len() > TIMESTAMPS_MAX).then(|| {
        format!(
            "{} distinct timestamps in one body, more than {TIMESTAMPS_MAX}; ask for less at once, or set \
             honor_timestamps: false",
            distinct.len()
        )
    })
}

/// Reads ` VALUE⏎` or, in the text format, ` VALUE TIMESTAMP⏎`: value, timestamp, and where the next line begins.
/// `None` for anything else, which the parser then reads or refuses.
#[inline]
fn plain_sample(body: &[u8], at: usize, dialect: Dialect) -> Option<(f64, Option<i64>, usize)> {
    if body.get(at) != Some(&b' ') {
        return None;
    }
    let from = at + 1;
    let rest = &body[from..];
    let length = rest.iter().position(|b| matches!(b, b' ' | b'\n' | b'\t' | b'{'))?;
    let end = from + length;
    match body[end] {
        b'\n' => Some((parse_value(&rest[..length]).ok()?, None, end + 1)),
        b' ' if dialect == Dialect::Prometheus => {
            let digits = body[end + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
            let behind = end + 1 + digits;
            if digits == 0 || digits > 18 || body.get(behind) != Some(&b'\n') {
                return None;
            }
            let timestamp =
                body[end + 1..behind].iter().fold(0_i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
            Some((parse_value(&rest[..length]).ok()?, Some(timestamp), behind + 1))
        }
        _ => None,
    }
}
