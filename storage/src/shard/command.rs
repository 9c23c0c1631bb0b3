//! The commands of a data shard and what apply answers. `docs/formats/segment.md` draws the bytes.
//!
//! A command is one log entry. A version byte leads, a kind byte follows; both are never reused. Decoding is bounded
//! by the input, and what cannot be decoded is answered with [`DataResponse::Refused`], on every replica alike.

use super::{
    segment::SegmentHead,
    settings::ShardSettings,
    wire::{Malformed, Put, Reader},
};
use bytes::Bytes;
use model::{ConfigVersion, DurationMs, SourceKey, Term, TimestampMs};
use std::{collections::BTreeMap, sync::Arc};

/// The version that leads commands and responses.
pub const COMMAND_VERSION: u8 = 2;
/// The oldest version that is read. In version 1 no row introduces series.
const COMMAND_VERSION_MIN: u8 = 1;
/// A command longer than this is refused whole.
pub const COMMAND_BYTES_MAX: usize = 16 << 20;

/// What a data shard is told.
#[derive(Clone, Debug, PartialEq)]
pub enum DataCommand {
    /// Rows; made by [`super::SegmentBuilder`], kept encoded here.
    Segment(Bytes),
    /// A target was removed: what it had ends with stale markers at `at`.
    EndSource {
        /// The term in which the duty began; refused in any other. `None` is not fenced.
        term: Option<Term>,
        /// Whose series end.
        source: Arc<SourceKey>,
        /// The markers' timestamp.
        at: TimestampMs,
    },
    /// Slots that nobody scraped or evaluated.
    Missed {
        /// The term in which the duty began; refused in any other.
        term: Option<Term>,
        /// Whose slots.
        source: Arc<SourceKey>,
        /// The slots.
        slots: MissedSlots,
    },
    /// Limits and windows from here on.
    Settings(ShardSettings),
    /// Everything before the two-hour partition of `cutoff` is dropped. The cutoff only rises.
    Retain {
        /// First timestamp to be kept.
        cutoff: TimestampMs,
    },
    /// State is made durable; windows that are over are closed.
    Checkpoint {
        /// The leader's time, by which a window is over.
        time: TimestampMs,
    },
}

/// A run of slots without an outcome.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissedSlots {
    /// The first slot.
    pub from: TimestampMs,
    /// The last slot.
    pub to: TimestampMs,
    /// From slot to slot.
    pub interval: DurationMs,
    /// Why, for people.
    pub reason: String,
}

impl MissedSlots {
    /// How many slots.
    #[must_use]
    pub fn count(&self) -> u64 {
        if self.to < self.from { 0 } else { self.to.since(self.from).0 / self.interval.0.max(1) + 1 }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_i64(self.from.0);
        out.put_i64(self.to.0);
        out.put_u64(self.interval.0);
        out.put_bytes(self.reason.as_bytes());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<MissedSlots, Malformed> {
        Ok(MissedSlots {
            from: TimestampMs(reader.i64()?),
            to: TimestampMs(reader.i64()?),
            interval: DurationMs(reader.u64()?),
            reason: reader.text()?,
        })
    }
}

fn put_term(out: &mut Vec<u8>, term: Option<Term>) {
    out.put_u64(term.map_or(0, |term| term.0.saturating_add(1)));
}

/// Whether commands and responses of this version are read.
pub(crate) fn is_read(version: u8) -> bool {
    (COMMAND_VERSION_MIN..=COMMAND_VERSION).contains(&version)
}

pub(crate) fn read_term(reader: &mut Reader<'_>) -> Result<Option<Term>, Malformed> {
    Ok(reader.u64()?.checked_sub(1).map(Term))
}

pub(crate) const KIND_SEGMENT: u8 = 1;
const KIND_END: u8 = 2;
const KIND_MISSED: u8 = 3;
const KIND_SETTINGS: u8 = 4;
const KIND_RETAIN: u8 = 5;
const KIND_CHECKPOINT: u8 = 6;

impl DataCommand {
    /// The term in which the duty began whose outcome this is; `None` for what no term fences.
    #[must_use]
    pub fn term(&self) -> Option<Term> {
        match self {
            DataCommand::Segment(bytes) => SegmentHead::read(&mut Reader::new(bytes)).ok()?.term,
            DataCommand::EndSource { term, .. } | DataCommand::Missed { term, .. } => *term,
            DataCommand::Settings(_) | DataCommand::Retain { .. } | DataCommand::Checkpoint { .. } => None,
        }
    }

    /// The bytes for the log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = vec![COMMAND_VERSION];
        match self {
            DataCommand::Segment(bytes) => return bytes.clone(),
            DataCommand::EndSource { term, source, at } => {
                out.push(KIND_END);
                put_term(&mut out, *term);
                out.put_key(source);
                out.put_i64(at.0);
            }
            DataCommand::Missed { term, source, slots } => {
                out.push(KIND_MISSED);
                put_term(&mut out, *term);
                out.put_key(source);
                slots.put(&mut out);
            }
            DataCommand::Settings(settings) => {
                out.push(KIND_SETTINGS);
                settings.put(&mut out);
            }
            DataCommand::Retain { cutoff } => {
                out.push(KIND_RETAIN);
                out.put_i64(cutoff.0);
            }
            DataCommand::Checkpoint { time } => {
                out.push(KIND_CHECKPOINT);
                out.put_i64(time.0);
            }
        }
        out.into()
    }

    /// Reads a command; a segment's rows are checked when they are applied.
    ///
    /// # Errors
    /// If the bytes are not a command of this version.
    pub fn decode(bytes: &Bytes) -> Result<DataCommand, Malformed> {
        if bytes.len() > COMMAND_BYTES_MAX {
            return Err(Malformed("command: longer than 16 MiB"));
        }
        let mut reader = Reader::new(bytes);
        if !is_read(reader.byte()?) {
            return Err(Malformed("command: unknown version"));
        }
        let command = match reader.byte()? {
            KIND_SEGMENT => return Ok(DataCommand::Segment(bytes.clone())),
            KIND_END => DataCommand::EndSource {
                term: read_term(&mut reader)?,
                source: Arc::new(reader.key()?),
                at: TimestampMs(reader.i64()?),
            },
            KIND_MISSED => DataCommand::Missed {
                term: read_term(&mut reader)?,
                source: Arc::new(reader.key()?),
                slots: MissedSlots::read(&mut reader)?,
            },
            KIND_SETTINGS => DataCommand::Settings(ShardSettings::read(&mut reader)?),
            KIND_RETAIN => DataCommand::Retain { cutoff: TimestampMs(reader.i64()?) },
            KIND_CHECKPOINT => DataCommand::Checkpoint { time: TimestampMs(reader.i64()?) },
            _ => return Err(Malformed("command: unknown kind")),
        };
        if reader.is_empty() { Ok(command) } else { Err(Malformed("command: bytes after its end")) }
    }
}

/// Why a command or a row was refused as a whole. Nothing of it was applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The bytes were not a command or a row.
    #[error("malformed command: {0}")]
    Malformed(String),
    /// The duty began in another term.
    #[error("the outcome belongs to term {carried}, the entry to term {entry}")]
    OtherTerm {
        /// The term in the command.
        carried: Term,
        /// The entry's own.
        entry: Term,
    },
    /// The slot has an outcome already, or is recorded as missed.
    #[error("slot {slot} has an outcome already, the last is {last}")]
    SlotTaken {
        /// The slot of the row.
        slot: TimestampMs,
        /// The last slot of the source that has one.
        last: TimestampMs,
    },
    /// The row was encoded against a layout that is not the source's any more: encode it again.
    #[error("unknown layout {layout} of source {source_id}; encode the row again")]
    UnknownLayout {
        /// The source.
        source_id: u32,
        /// The layout.
        layout: u64,
    },
    /// There is no such source.
    #[error("unknown source")]
    UnknownSource,
    /// A later or equal version of the settings is in force.
    #[error("settings of version {0} or later are in force")]
    OldSettings(ConfigVersion),
    /// A later or equal cutoff is in force.
    #[error("everything before {0} is dropped already")]
    OldCutoff(TimestampMs),
}

/// Why one sample was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rejection {
    /// Older than the series' newest sample, and no out-of-order window is set.
    OutOfOrder = 1,
    /// Older than the out-of-order window.
    TooOld = 2,
    /// The same source has another value at this timestamp.
    Duplicate = 3,
    /// More than ten minutes ahead of the time the entry carries.
    TooFarAhead = 4,
    /// Before the retention's cutoff.
    OutOfBounds = 5,
    /// The source or the shard has as many series as it may.
    TooManySeries = 6,
    /// The series has no labels, or more than 255.
    BadLabels = 7,
}

impl Rejection {
    fn from_byte(byte: u8) -> Option<Rejection> {
        use Rejection::{BadLabels, Duplicate, OutOfBounds, OutOfOrder, TooFarAhead, TooManySeries, TooOld};
        [OutOfOrder, TooOld, Duplicate, TooFarAhead, OutOfBounds, TooManySeries, BadLabels]
            .into_iter()
            .find(|r| *r as u8 == byte)
    }

    /// Prometheus's words for it (`storage/interface.go`).
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Rejection::OutOfOrder => "out of order sample",
            Rejection::TooOld => "too old sample",
            Rejection::Duplicate => "duplicate sample for timestamp",
            Rejection::TooFarAhead => "sample is too far in the future",
            Rejection::OutOfBounds => "out of bounds",
            Rejection::TooManySeries => "too many series",
            Rejection::BadLabels => "invalid labels",
        }
    }
}

/// What became of one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowResult {
    /// Set if nothing of the row was applied.
    pub refused: Option<Refusal>,
    /// Samples stored, those that were stored already with the same bits included; stale markers that apply wrote
    /// by itself are not.
    pub applied: u32,
    /// Samples not stored, by reason.
    pub rejected: BTreeMap<Rejection, u32>,
    /// The first sample not stored, in words.
    pub first_rejected: Option<String>,
}

/// What apply answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataResponse {
    /// Done.
    Applied,
    /// Refused as a whole, for good.
    Refused(Refusal),
    /// A segment's rows, in order.
    Rows(Vec<RowResult>),
}

impl DataResponse {
    /// The bytes that travel back to the proposer.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = vec![COMMAND_VERSION];
        match self {
            DataResponse::Applied => out.push(0),
            DataResponse::Refused(refusal) => {
                out.push(1);
                put_refusal(&mut out, refusal);
            }
            DataResponse::Rows(rows) => {
                out.push(2);
                out.put_u64(rows.len() as u64);
                for row in rows {
                    put_row(&mut out, row);
                }
            }
        }
        out.into()
    }

    /// Reads a response.
    ///
    /// # Errors
    /// If the bytes are not a response of this version.
    pub fn decode(bytes: &[u8]) -> Result<DataResponse, Malformed> {
        let mut reader = Reader::new(bytes);
        if !is_read(reader.byte()?) {
            return Err(Malformed("response: unknown version"));
        }
        match reader.byte()? {
            0 => Ok(DataResponse::Applied),
            1 => Ok(DataResponse::Refused(read_refusal(&mut reader)?)),
            2 => {
                let count = reader.count()?;
                (0..count).map(|_| read_row(&mut reader)).collect::<Result<_, _>>().map(DataResponse::Rows)
            }
            _ => Err(Malformed("response: unknown kind")),
        }
    }
}

fn put_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    match refusal {
        Refusal::Malformed(text) => {
            out.push(1);
            out.put_bytes(text.as_bytes());
        }
        Refusal::OtherTerm { carried, entry } => {
            out.push(2);
            out.put_u64(carried.0);
            out.put_u64(entry.0);
        }
        Refusal::SlotTaken { slot, last } => {
            out.push(3);
            out.put_i64(slot.0);
            out.put_i64(last.0);
        }
        Refusal::UnknownLayout { source_id, layout } => {
            out.push(4);
            out.put_u64(u64::from(*source_id));
            out.put_u64(*layout);
        }
        Refusal::UnknownSource => out.push(5),
        Refusal::OldSettings(version) => {
            out.push(6);
            out.put_u64(version.0);
        }
        Refusal::OldCutoff(cutoff) => {
            out.push(7);
            out.put_i64(cutoff.0);
        }
    }
}

fn read_refusal(reader: &mut Reader<'_>) -> Result<Refusal, Malformed> {
    Ok(match reader.byte()? {
        1 => Refusal::Malformed(reader.text()?),
        2 => Refusal::OtherTerm { carried: Term(reader.u64()?), entry: Term(reader.u64()?) },
        3 => Refusal::SlotTaken { slot: TimestampMs(reader.i64()?), last: TimestampMs(reader.i64()?) },
        4 => Refusal::UnknownLayout { source_id: reader.u32()?, layout: reader.u64()? },
        5 => Refusal::UnknownSource,
        6 => Refusal::OldSettings(ConfigVersion(reader.u64()?)),
        7 => Refusal::OldCutoff(TimestampMs(reader.i64()?)),
        _ => return Err(Malformed("refusal: unknown kind")),
    })
}

fn put_row(out: &mut Vec<u8>, row: &RowResult) {
    match &row.refused {
        None => out.push(0),
        Some(refusal) => put_refusal(out, refusal),
    }
    out.put_u64(u64::from(row.applied));
    out.put_u64(row.rejected.len() as u64);
    for (rejection, count) in &row.rejected {
        out.push(*rejection as u8);
        out.put_u64(u64::from(*count));
    }
    out.put_bytes(row.first_rejected.as_deref().unwrap_or_default().as_bytes());
}

fn read_row(reader: &mut Reader<'_>) -> Result<RowResult, Malformed> {
    let refused = if reader.rest().first() == Some(&0) {
        reader.byte()?;
        None
    } else {
        Some(read_refusal(reader)?)
    };
    let applied = reader.u32()?;
    let mut rejected = BTreeMap::new();
    for _ in 0..reader.count()? {
        let reason = Rejection::from_byte(reader.byte()?).ok_or(Malformed("rejection: unknown reason"))?;
        rejected.insert(reason, reader.u32()?);
    }
    let first = reader.text()?;
    let first_rejected = (!first.is_empty()).then_some(first);
    Ok(RowResult { refused, applied, rejected, first_rejected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source() -> Arc<SourceKey> {
        Arc::new(SourceKey::RemoteWrite { job: "j".into(), instance: "i".into() })
    }

    #[test]
    fn every_command_round_trips() {
        let slots = MissedSlots {
            from: TimestampMs(1_000),
            to: TimestampMs(5_000),
            interval: DurationMs(1_000),
            reason: "election".into(),
        };
        assert_eq!(slots.count(), 5);
        let commands = [
            DataCommand::EndSource { term: Some(Term(0)), source: source(), at: TimestampMs(-5) },
            DataCommand::Missed { term: None, source: source(), slots },
            DataCommand::Settings(ShardSettings::default()),
            DataCommand::Retain { cutoff: TimestampMs(77) },
            DataCommand::Checkpoint { time: TimestampMs(78) },
        ];
        assert_eq!(commands.clone().map(|c| DataCommand::decode(&c.encode())), commands.map(Ok));
    }

    #[test]
    fn every_response_round_trips() {
        let row = RowResult {
            refused: Some(Refusal::SlotTaken { slot: TimestampMs(1), last: TimestampMs(2) }),
            applied: 7,
            rejected: BTreeMap::from([(Rejection::Duplicate, 3), (Rejection::TooOld, 1)]),
            first_rejected: Some("x".into()),
        };
        let responses = [
            DataResponse::Applied,
            DataResponse::Refused(Refusal::UnknownLayout { source_id: 3, layout: 9 }),
            DataResponse::Rows(vec![row, RowResult::default()]),
        ];
        assert_eq!(responses.clone().map(|r| DataResponse::decode(&r.encode())), responses.map(Ok));
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(mut bytes: Vec<u8>) {
            let _ = DataResponse::decode(&bytes);
            bytes.insert(0, COMMAND_VERSION);
            let _ = DataResponse::decode(&bytes);
            let _ = DataCommand::decode(&Bytes::from(bytes));
        }
    }
}
