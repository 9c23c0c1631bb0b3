//! The bytes of a segment: preamble, batches, records. Encoding and decoding, no I/O.
//!
//! ```text
//! segment    ┌──────────┬───────────────┬───────┬───────┬─ ─ ─
//!            │ preamble │ state (batch) │ batch │ batch │
//!            └──────────┴───────────────┴───────┴───────┴─ ─ ─
//! preamble   magic 8 │ version 4 │ segment 4 │ oldest 4 │ 0 4 │ chain 8 │ 0 4 │ crc32c 4
//! batch      magic 8 │ body length 4 │ records 4 │ synced segment 4 │ synced offset 4 │ chain 8 │ 0 4 │ crc32c 4 │ body
//! record     crc32c 4 │ length 4 │ kind 1 │ flags 1 │ 0 2 │ group 4 │ term 8 │ index 8 │ payload
//! ```
//!
//! All integers are little endian. Every checksum also covers segment and offset of the thing itself, so bytes at
//! a wrong place are as wrong as changed bytes. The chain is a hash over everything before it in the log.

use super::{Loc, LogId, LogIndex, Position, ShardId, Term};
use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

/// The version that this code writes, and the only one it reads.
pub(super) const VERSION: u32 = 1;
pub(super) const PREAMBLE_BYTES: usize = 40;
pub(super) const BATCH_HEADER_BYTES: usize = 40;
/// What an entry costs in a segment beside its payload.
pub(super) const RECORD_HEADER_BYTES: usize = 32;

const SEGMENT_MAGIC: [u8; 8] = *b"VESTLOG\n";
pub(super) const BATCH_MAGIC: [u8; 8] = *b"\xf5VBATCH\n";

/// What a record says. The numbers are on disk: never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// An entry behind the group's last one.
    Append = 1,
    /// A live entry again, because the segment it was in is about to go.
    Copy = 2,
    /// The group's vote, opaque.
    Vote = 3,
    /// Entries behind the log id are gone; without a log id, all.
    Truncate = 4,
    /// Entries up to the log id are gone.
    Purge = 5,
    /// The group's committed log id.
    Committed = 6,
    /// Everything about a group but its entries; only at a segment's start.
    State = 7,
    /// The node's identity, opaque.
    Identity = 8,
    /// Segments below `index` are gone.
    Drop = 9,
    /// Nothing; its batch tells that all before it is synced.
    Mark = 10,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::{Append, Committed, Copy, Drop, Identity, Mark, Purge, State, Truncate, Vote};
        [Append, Copy, Vote, Truncate, Purge, Committed, State, Identity, Drop, Mark]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

const FLAG_LOG_ID: u8 = 1;

/// A record without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) group: ShardId,
    pub(super) log_id: Option<LogId>,
}

/// A record found in a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) head: Head,
    pub(super) loc: Loc,
    pub(super) payload: &'a [u8],
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// CRC32C of `bytes` as they stand at `at`.
fn crc_at(at: Position, bytes: &[u8]) -> u32 {
    let mut place = [0; 8];
    place[..4].copy_from_slice(&at.segment.to_le_bytes());
    place[4..].copy_from_slice(&at.offset.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&place), bytes)
}

/// A segment's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Preamble {
    pub(super) segment: u32,
    /// The oldest segment that was part of the log when this one was begun.
    pub(super) oldest: u32,
    /// The chain's value at the end of the segment before.
    pub(super) chain: u64,
}

/// Why a preamble was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PreambleError {
    /// It is whole, but of another version.
    Version(u32),
    Damaged,
}

impl Preamble {
    pub(super) fn encode(&self) -> [u8; PREAMBLE_BYTES] {
        let mut bytes = [0; PREAMBLE_BYTES];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.segment.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.oldest.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.chain.to_le_bytes());
        let crc = crc_at(Position { segment: self.segment, offset: 0 }, &bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; PREAMBLE_BYTES], segment: u32) -> Result<Preamble, PreambleError> {
        let crc = crc_at(Position { segment, offset: 0 }, &bytes[..36]);
        if bytes[..8] != SEGMENT_MAGIC || u32_at(bytes, 36) != crc {
            return Err(PreambleError::Damaged);
        }
        match u32_at(bytes, 8) {
            VERSION if u32_at(bytes, 12) == segment => {
                Ok(Preamble { segment, oldest: u32_at(bytes, 16), chain: u64_at(bytes, 24) })
            }
            VERSION => Err(PreambleError::Damaged),
            other => Err(PreambleError::Version(other)),
        }
    }
}

/// A batch's header, its checksum verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) body_bytes: u32,
    pub(super) records: u32,
    /// Up to here the log was known to be durable before the batch was written.
    pub(super) synced: Position,
    pub(super) chain: u64,
}

impl BatchHeader {
    pub(super) fn decode(bytes: &[u8; BATCH_HEADER_BYTES], at: Position) -> Option<BatchHeader> {
        let whole = bytes[..8] == BATCH_MAGIC && u32_at(bytes, 36) == crc_at(at, &bytes[..36]);
        whole.then(|| BatchHeader {
            body_bytes: u32_at(bytes, 8),
            records: u32_at(bytes, 12),
            synced: Position { segment: u32_at(bytes, 16), offset: u32_at(bytes, 20) },
            chain: u64_at(bytes, 24),
        })
    }
}

/// The chain while a batch is added to it: position, then each record's checksum, then the lengths.
struct Chain(Xxh3);

impl Chain {
    fn new(before: u64, at: Position) -> Chain {
        let mut hash = Xxh3::new();
        hash.update(&before.to_le_bytes());
        hash.update(&at.segment.to_le_bytes());
        hash.update(&at.offset.to_le_bytes());
        Chain(hash)
    }

    fn add(&mut self, crc: u32) {
        self.0.update(&crc.to_le_bytes());
    }

    fn finish(mut self, body_bytes: u32, records: u32, synced: Position) -> u64 {
        for number in [body_bytes, records, synced.segment, synced.offset] {
            self.0.update(&number.to_le_bytes());
        }
        self.0.digest()
    }
}

/// Encodes one batch into a buffer that is used again and again.
pub(super) struct BatchBuilder<'a> {
    buffer: &'a mut Vec<u8>,
    at: Position,
    synced: Position,
    chain: Chain,
    records: u32,
}

impl<'a> BatchBuilder<'a> {
    pub(super) fn new(buffer: &'a mut Vec<u8>, at: Position, synced: Position, chain: u64) -> Self {
        buffer.clear();
        buffer.resize(BATCH_HEADER_BYTES, 0);
        BatchBuilder { buffer, at, synced, chain: Chain::new(chain, at), records: 0 }
    }

    /// Adds a record and tells where it will stand.
    pub(super) fn push(&mut self, head: Head, payload: &[u8]) -> Loc {
        let start = self.buffer.len();
        let log_id = head.log_id.unwrap_or_default();
        let mut header = [0; RECORD_HEADER_BYTES];
        header[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[8] = head.kind as u8;
        header[9] = if head.log_id.is_some() { FLAG_LOG_ID } else { 0 };
        header[12..16].copy_from_slice(&head.group.0.to_le_bytes());
        header[16..24].copy_from_slice(&log_id.term.0.to_le_bytes());
        header[24..32].copy_from_slice(&log_id.index.0.to_le_bytes());
        self.buffer.extend_from_slice(&header);
        self.buffer.extend_from_slice(payload);
        let offset = self.at.offset + start as u32;
        let crc = crc_at(Position { segment: self.at.segment, offset }, &self.buffer[start + 4..]);
        self.buffer[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        self.chain.add(crc);
        self.records += 1;
        Loc { segment: self.at.segment, offset, length: payload.len() as u32 }
    }

    /// Completes the header; the batch is in the buffer. Yields the chain's new value.
    pub(super) fn finish(self) -> u64 {
        let body = (self.buffer.len() - BATCH_HEADER_BYTES) as u32;
        let chain = self.chain.finish(body, self.records, self.synced);
        let header = &mut self.buffer[..BATCH_HEADER_BYTES];
        header[..8].copy_from_slice(&BATCH_MAGIC);
        header[8..12].copy_from_slice(&body.to_le_bytes());
        header[12..16].copy_from_slice(&self.records.to_le_bytes());
        header[16..20].copy_from_slice(&self.synced.segment.to_le_bytes());
        header[20..24].copy_from_slice(&self.synced.offset.to_le_bytes());
        header[24..32].copy_from_slice(&chain.to_le_bytes());
        let crc = crc_at(self.at, &header[..36]);
        header[36..].copy_from_slice(&crc.to_le_bytes());
        chain
    }
}

/// Decodes the record at the front of `bytes`, which stands at `at`, and checks it. The reason is for people.
pub(super) fn decode_record(bytes: &[u8], at: Position) -> Result<Record<'_>, &'static str> {
    if bytes.len() < RECORD_HEADER_BYTES {
        return Err("record header beyond the end of the batch");
    }
    let length = u32_at(bytes, 4);
    let end = RECORD_HEADER_BYTES + length as usize;
    let Some(whole) = bytes.get(..end) else { return Err("record beyond the end of the batch") };
    if u32_at(bytes, 0) != crc_at(at, &whole[4..]) {
        return Err("record checksum mismatch");
    }
    let Some(kind) = Kind::from_byte(whole[8]) else { return Err("unknown kind of record") };
    let log_id = LogId { term: Term(u64_at(whole, 16)), index: LogIndex(u64_at(whole, 24)) };
    let head = Head {
        kind,
        group: ShardId(u32_at(whole, 12)),
        log_id: (whole[9] & FLAG_LOG_ID != 0).then_some(log_id),
    };
    let loc = Loc { segment: at.segment, offset: at.offset, length };
    Ok(Record { head, loc, payload: &whole[RECORD_HEADER_BYTES..] })
}

/// Why a batch is refused whose every checksum is right: something before it is not what it was. No torn write does
/// that.
pub(super) const CHAIN_BROKEN: &str = "hash chain broken";

/// Decodes and checks all records of a batch; `at` is where its header stands, `chain` the value before it.
pub(super) fn decode_body<'a>(
    header: &BatchHeader,
    body: &'a [u8],
    at: Position,
    chain: u64,
) -> Result<Vec<Record<'a>>, &'static str> {
    let mut hash = Chain::new(chain, at);
    let mut records = Vec::new();
    let mut start = 0;
    while start < body.len() {
        let offset = at.offset + (BATCH_HEADER_BYTES + start) as u32;
        let record = decode_record(&body[start..], Position { segment: at.segment, offset })?;
        hash.add(u32_at(body, start));
        start += RECORD_HEADER_BYTES + record.payload.len();
        records.push(record);
    }
    if records.len() != header.records as usize {
        return Err("number of records differs from the header");
    }
    if hash.finish(header.body_bytes, header.records, header.synced) != header.chain {
        return Err(CHAIN_BROKEN);
    }
    Ok(records)
}

/// What a segment's start says about a group, and what memory holds of it beside its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) vote: Option<Bytes>,
    pub(super) purged: Option<LogId>,
    pub(super) committed: Option<LogId>,
    pub(super) last: Option<LogId>,
    /// Index of the first entry present, or where it would be.
    pub(super) first: u64,
}

impl Summary {
    pub(super) const BYTES_MIN: usize = 57;

    /// flags 1 (vote, purged, committed, last) │ first 8 │ purged 16 │ committed 16 │ last 16 │ vote
    pub(super) fn encode(&self) -> Vec<u8> {
        let ids = [self.purged, self.committed, self.last];
        let vote: &[u8] = self.vote.as_deref().unwrap_or(&[]);
        let mut bytes = Vec::with_capacity(Self::BYTES_MIN + vote.len());
        let flag = |bit: u8, present: bool| if present { 1 << bit } else { 0 };
        bytes.push(
            flag(0, self.vote.is_some())
                | flag(1, self.purged.is_some())
                | flag(2, self.committed.is_some())
                | flag(3, self.last.is_some()),
        );
        bytes.extend_from_slice(&self.first.to_le_bytes());
        for id in ids {
            let id = id.unwrap_or_default();
            bytes.extend_from_slice(&id.term.0.to_le_bytes());
            bytes.extend_from_slice(&id.index.0.to_le_bytes());
        }
        bytes.extend_from_slice(vote);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Summary> {
        if bytes.len() < Self::BYTES_MIN {
            return None;
        }
        let id = |bit: u8, at: usize| {
            let id = LogId { term: Term(u64_at(bytes, at)), index: LogIndex(u64_at(bytes, at + 8)) };
            (bytes[0] & (1 << bit) != 0).then_some(id)
        };
        Some(Summary {
            vote: (bytes[0] & 1 != 0).then(|| Bytes::copy_from_slice(&bytes[Self::BYTES_MIN..])),
            first: u64_at(bytes, 1),
            purged: id(1, 9),
            committed: id(2, 25),
            last: id(3, 41),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: Kind) -> Head {
        let log_id = Some(LogId { term: Term(3), index: LogIndex(9) });
        Head { kind, group: ShardId(5), log_id }
    }

    #[test]
    fn a_batch_comes_back_as_it_was() {
        let at = Position { segment: 7, offset: 1000 };
        let mut buffer = Vec::new();
        let mut batch = BatchBuilder::new(&mut buffer, at, at, 42);
        let loc = batch.push(head(Kind::Append), b"payload");
        batch.push(Head { log_id: None, ..head(Kind::Truncate) }, b"");
        let chain = batch.finish();
        let header = BatchHeader::decode(&buffer[..40].try_into().unwrap(), at).unwrap();
        assert_eq!((header.chain, header.synced), (chain, at));
        let records = decode_body(&header, &buffer[40..], at, 42).unwrap();
        assert_eq!(
            (records[0].head, records[0].loc, records[0].payload),
            (head(Kind::Append), loc, &b"payload"[..])
        );
        assert_eq!(records[1].head.log_id, None);
        assert_eq!(loc.offset, 1040);
    }

    #[test]
    fn a_batch_is_wrong_at_another_place_or_behind_another_chain() {
        let at = Position { segment: 7, offset: 1000 };
        let elsewhere = Position { segment: 7, offset: 1001 };
        let mut buffer = Vec::new();
        let mut batch = BatchBuilder::new(&mut buffer, at, at, 42);
        batch.push(head(Kind::Append), b"payload");
        batch.finish();
        let bytes = buffer[..40].try_into().unwrap();
        assert_eq!(BatchHeader::decode(&bytes, elsewhere), None);
        let header = BatchHeader::decode(&bytes, at).unwrap();
        assert_eq!(decode_body(&header, &buffer[40..], at, 43).unwrap_err(), "hash chain broken");
    }

    #[test]
    fn a_preamble_of_another_version_is_not_called_damaged() {
        let preamble = Preamble { segment: 2, oldest: 1, chain: 77 };
        let mut bytes = preamble.encode();
        assert_eq!(Preamble::decode(&bytes, 2), Ok(preamble));
        assert_eq!(Preamble::decode(&bytes, 3), Err(PreambleError::Damaged));
        bytes[8] = 2;
        let crc = crc_at(Position { segment: 2, offset: 0 }, &bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Preamble::decode(&bytes, 2), Err(PreambleError::Version(2)));
    }

    #[test]
    fn a_summary_comes_back_as_it_was() {
        let id = |index| Some(LogId { term: Term(2), index: LogIndex(index) });
        let full = Summary {
            vote: Some(Bytes::from_static(b"me")),
            purged: id(3),
            committed: id(5),
            last: id(8),
            first: 4,
        };
        assert_eq!(Summary::decode(&full.encode()), Some(full));
        assert_eq!(Summary::decode(&Summary::default().encode()), Some(Summary::default()));
        assert_eq!(Summary::decode(&[0; 56]), None);
    }
}
