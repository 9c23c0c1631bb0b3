//! The state of one source: its layout, its open windows, the list of its chunks, and how far its slots have come.
//!
//! Invariants: columns of a layout only grow until a new layout begins; each (series, timestamp) is stored once over
//! all windows and chunks of the source; windows ascend by partition.

use super::{
    cells::ColumnSet,
    chunk::Chunk,
    command::MissedSlots,
    hash,
    index::{SeriesId, SourceId},
    window::Window,
    wire::{Malformed, Put, Reader},
};
use model::{Labels, SourceKey, TimestampMs};
use std::sync::Arc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The version of a source's record; 1 is read, too.
const RECORD_VERSION: u8 = 2;

/// The series of a layout by column.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    pub series: Vec<SeriesId>,
    /// The series' hashes, side by side for the state hash.
    pub hashes: Vec<u64>,
    /// The newest timestamp of each column in sealed windows.
    pub sealed_last: Vec<i64>,
}

impl Columns {
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }
}

/// Where a chunk's bytes are.
#[derive(Clone, Debug)]
pub(crate) enum ChunkBody {
    /// Sealed since the last checkpoint.
    Memory(Arc<Chunk>),
    /// In the key-value store.
    Stored,
}

/// A chunk's name in its source: unique for ever, because content under one name never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChunkName {
    /// Start of its partition.
    pub partition: i64,
    pub source: SourceId,
    /// Counts the windows of the source.
    pub sequence: u64,
    /// 0 as sealed; one more for each merge.
    pub level: u8,
}

/// One chunk of a source.
#[derive(Clone, Debug)]
pub(crate) struct ChunkRef {
    pub name: ChunkName,
    pub first: TimestampMs,
    pub last: TimestampMs,
    pub rows: u32,
    pub groups: u32,
    pub bytes: u64,
    pub body: ChunkBody,
}

/// The state of a source.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub id: SourceId,
    pub key: Arc<SourceKey>,
    pub key_hash: u64,
    /// Rises when columns are dropped; rows encoded against an earlier one are refused.
    pub layout: u64,
    pub columns: Arc<Columns>,
    /// Columns with a value that is no stale marker in the last whole row.
    pub live: ColumnSet,
    /// Sum of the hashes of `live`.
    pub live_hash: u64,
    /// Columns that no whole row has had live yet: fed by partial rows, or introduced only. Absence in a whole row
    /// says nothing of them.
    pub partial: ColumnSet,
    /// Sum of the hashes of `partial`.
    pub partial_hash: u64,
    /// The newest timestamp of a row that introduced series: their values are still to come.
    pub introduced: TimestampMs,
    /// The last slot that has an outcome or was missed.
    pub last_slot: TimestampMs,
    /// The newest timestamp of any row.
    pub newest: TimestampMs,
    pub windows: Vec<Arc<Window>>,
    pub sequence: u64,
    /// Ascending by name.
    pub chunks: Arc<Vec<ChunkRef>>,
    pub missed: Arc<Vec<MissedSlots>>,
    /// What this source has in the state hash at present.
    pub contribution: u128,
}

impl Source {
    pub(crate) fn new(id: SourceId, key: Arc<SourceKey>) -> Source {
        let key_hash = key_hash(&key);
        Source {
            id,
            key,
            key_hash,
            layout: 1,
            columns: Arc::default(),
            live: ColumnSet::default(),
            live_hash: 0,
            partial: ColumnSet::default(),
            partial_hash: 0,
            introduced: TimestampMs::MIN,
            last_slot: TimestampMs::MIN,
            newest: TimestampMs::MIN,
            windows: Vec::new(),
            sequence: 0,
            chunks: Arc::default(),
            missed: Arc::default(),
            contribution: 0,
        }
    }

    /// Whether the source's rows are whole: only those have slots.
    pub(crate) fn is_whole(&self) -> bool {
        self.last_slot != TimestampMs::MIN
    }

    /// The hash of a series of this source.
    pub(crate) fn series_hash(&self, labels: &Labels) -> u64 {
        xxh3_64_with_seed(labels.as_bytes(), self.key_hash)
    }

    fn sum_of(&self, columns: &ColumnSet) -> u64 {
        columns.iter().fold(0, |sum: u64, column| sum.wrapping_add(self.columns.hashes[column as usize]))
    }

    /// Replaces the set of live columns; none of them is partial any more.
    pub(crate) fn set_live(&mut self, live: ColumnSet) {
        self.live_hash = self.sum_of(&live);
        self.live = live;
        if self.partial.len() > 0 {
            let mut partial = ColumnSet::default();
            self.partial.minus(&self.live).into_iter().for_each(|column| partial.insert(column));
            self.set_partial(partial);
        }
    }

    /// Replaces the set of partial columns.
    pub(crate) fn set_partial(&mut self, partial: ColumnSet) {
        self.partial_hash = self.sum_of(&partial);
        self.partial = partial;
    }

    /// The newest timestamp of anything that was said of the source's series.
    pub(crate) fn heard(&self) -> TimestampMs {
        self.newest.max(self.introduced)
    }

    /// What this source's state adds to the state hash. Recomputed after every row, so it is short: content is in
    /// the partitions' sums.
    pub(crate) fn state_hash(&self) -> u128 {
        let mut bytes = [0_u8; 80];
        let words = [
            self.key_hash,
            self.layout,
            self.columns.len() as u64,
            self.live_hash,
            self.last_slot.0 as u64,
            self.newest.0 as u64,
            self.sequence,
            self.missed.len() as u64,
            self.partial_hash,
            self.introduced.0 as u64,
        ];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        // Records of version 1 have neither of the last two, and keep their hash.
        let later = self.partial_hash != 0 || self.introduced != TimestampMs::MIN;
        hash::record(if later { &bytes } else { &bytes[..64] })
    }

    /// Rows in open windows.
    pub(crate) fn open_rows(&self) -> usize {
        self.windows.iter().map(|window| window.rows.len()).sum()
    }

    /// The record of a checkpoint: all but windows and chunks, which have records of their own.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![RECORD_VERSION];
        out.put_key(&self.key);
        out.put_u64(self.layout);
        out.put_i64(self.last_slot.0);
        out.put_i64(self.newest.0);
        out.put_u64(self.sequence);
        out.put_u64(self.columns.len() as u64);
        let mut before = 0_i64;
        for (series, last) in self.columns.series.iter().zip(&self.columns.sealed_last) {
            out.put_i64(i64::from(*series) - before);
            before = i64::from(*series);
            out.put_i64(self.newest.0.wrapping_sub(*last));
        }
        put_columns(&mut out, &self.live);
        out.put_u64(self.missed.len() as u64);
        for slots in self.missed.iter() {
            slots.put(&mut out);
        }
        out.put_i64(self.introduced.0);
        put_columns(&mut out, &self.partial);
        out
    }

    /// Reads the record; `hash_of` gives the hash of a series in the index.
    pub(crate) fn decode(
        id: SourceId,
        bytes: &[u8],
        hash_of: impl Fn(SeriesId) -> Option<u64>,
    ) -> Result<Source, Malformed> {
        let mut reader = Reader::new(bytes);
        let version = reader.byte()?;
        if !(1..=RECORD_VERSION).contains(&version) {
            return Err(Malformed("source record: unknown version"));
        }
        let mut source = Source::new(id, Arc::new(reader.key()?));
        source.layout = reader.u64()?;
        source.last_slot = TimestampMs(reader.i64()?);
        source.newest = TimestampMs(reader.i64()?);
        source.sequence = reader.u64()?;
        let mut columns = Columns::default();
        let mut before = 0_i64;
        for _ in 0..reader.count()? {
            before = before.wrapping_add(reader.i64()?);
            let series = u32::try_from(before).map_err(|_| Malformed("source record: series id"))?;
            columns.series.push(series);
            columns.hashes.push(hash_of(series).ok_or(Malformed("source record: unknown series"))?);
            columns.sealed_last.push(source.newest.0.wrapping_sub(reader.i64()?));
        }
        source.columns = Arc::new(columns);
        let live = read_columns(&mut reader, source.columns.len())?;
        source.set_live(live);
        let missed = (0..reader.count()?).map(|_| MissedSlots::read(&mut reader));
        source.missed = Arc::new(missed.collect::<Result<_, _>>()?);
        if version >= 2 {
            source.introduced = TimestampMs(reader.i64()?);
            let partial = read_columns(&mut reader, source.columns.len())?;
            source.set_partial(partial);
        }
        source.contribution = source.state_hash();
        Ok(source)
    }
}

fn put_columns(out: &mut Vec<u8>, columns: &ColumnSet) {
    out.put_u64(columns.len() as u64);
    let mut before = 0;
    for column in columns.iter() {
        out.put_u64(u64::from(column - before));
        before = column;
    }
}

fn read_columns(reader: &mut Reader<'_>, width: usize) -> Result<ColumnSet, Malformed> {
    let mut columns = ColumnSet::default();
    let mut column = 0_u32;
    for _ in 0..reader.count()? {
        column = column.checked_add(reader.u32()?).ok_or(Malformed("source record: column"))?;
        if column as usize >= width {
            return Err(Malformed("source record: column"));
        }
        columns.insert(column);
    }
    Ok(columns)
}

/// The hash of a source's key, the same on every node.
pub(crate) fn key_hash(key: &SourceKey) -> u64 {
    let mut bytes = Vec::with_capacity(256);
    bytes.put_key(key);
    xxh3_64(&bytes)
}
