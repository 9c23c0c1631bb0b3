//! Reads one segment from front to end, a batch at a time, and checks all of it. Changes nothing.

use super::{
    Position,
    format::{
        BATCH_HEADER_BYTES, BATCH_MAGIC, BatchHeader, CHAIN_BROKEN, PREAMBLE_BYTES, Preamble, PreambleError,
        Record, decode_body,
    },
};
use model::File;
use std::io;

/// The largest segment that is believed; what this program writes is at most 64 MiB.
pub(super) const SEGMENT_BYTES_BELIEVED: u64 = 1 << 30;
const CHUNK_BYTES: usize = 256 * 1024;

/// Why reading stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// The bytes from `at` on are not what was written.
    Damage {
        at: Position,
        reason: &'static str,
    },
    /// The bytes are whole, but say what cannot be: never a torn tail.
    Contradiction {
        at: Position,
        reason: &'static str,
    },
    /// Another version of the format.
    Version {
        segment: u32,
        found: u32,
    },
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Io(error)
    }
}

/// Walks a segment.
#[derive(Debug)]
pub(super) struct SegmentScan<'a> {
    file: &'a dyn File,
    len: u32,
    /// Where the next batch begins.
    pub(super) at: Position,
    /// The chain's value there.
    pub(super) chain: u64,
    body: Vec<u8>,
}

impl<'a> SegmentScan<'a> {
    /// Reads the preamble. With `chain`, the segment has to follow from what had this value.
    pub(super) fn open(
        file: &'a dyn File,
        segment: u32,
        chain: Option<u64>,
    ) -> Result<(Self, Preamble), Stop> {
        let start = Position { segment, offset: 0 };
        let damage = |reason| Stop::Damage { at: start, reason };
        let len = file.len()?;
        if len > SEGMENT_BYTES_BELIEVED {
            return Err(damage("segment is longer than any segment can be"));
        }
        if len < PREAMBLE_BYTES as u64 {
            return Err(damage("segment ends within its preamble"));
        }
        let mut bytes = [0; PREAMBLE_BYTES];
        file.read_exact_at(&mut bytes, 0)?;
        let preamble = Preamble::decode(&bytes, segment).map_err(|error| match error {
            PreambleError::Damaged => damage("preamble checksum mismatch"),
            PreambleError::Version(found) => Stop::Version { segment, found },
        })?;
        if chain.is_some_and(|chain| chain != preamble.chain) {
            let reason = "segment does not follow from the one before: hash chain broken";
            return Err(Stop::Contradiction { at: start, reason });
        }
        let at = Position { segment, offset: PREAMBLE_BYTES as u32 };
        Ok((SegmentScan { file, len: len as u32, at, chain: preamble.chain, body: Vec::new() }, preamble))
    }

    /// Reads the next batch and hands it to `take`; `None` at the end of the segment.
    pub(super) fn next<T>(
        &mut self,
        take: impl FnOnce(Position, &[Record<'_>]) -> Result<T, &'static str>,
    ) -> Result<Option<T>, Stop> {
        let at = self.at;
        let damage = |reason| Stop::Damage { at, reason };
        let rest = self.len - at.offset;
        if rest == 0 {
            return Ok(None);
        }
        if (rest as usize) < BATCH_HEADER_BYTES {
            return Err(damage("segment ends within a batch header"));
        }
        let mut bytes = [0; BATCH_HEADER_BYTES];
        self.file.read_exact_at(&mut bytes, u64::from(at.offset))?;
        let header =
            BatchHeader::decode(&bytes, at).ok_or_else(|| damage("batch header checksum mismatch"))?;
        if header.body_bytes > rest - BATCH_HEADER_BYTES as u32 {
            return Err(damage("segment ends within a batch"));
        }
        self.body.resize(header.body_bytes as usize, 0);
        self.file.read_exact_at(&mut self.body, u64::from(at.offset) + BATCH_HEADER_BYTES as u64)?;
        let records = decode_body(&header, &self.body, at, self.chain).map_err(|reason| match reason {
            CHAIN_BROKEN => Stop::Contradiction { at, reason },
            reason => damage(reason),
        })?;
        let taken = take(at, &records).map_err(|reason| Stop::Contradiction { at, reason })?;
        self.at.offset += BATCH_HEADER_BYTES as u32 + header.body_bytes;
        self.chain = header.chain;
        Ok(Some(taken))
    }
}

/// Whether any batch of the segment knows bytes beyond `damage` to have been synced: then the damage is not a torn
/// tail. Looks at every byte behind it, because lengths there cannot be believed.
pub(super) fn synced_beyond(file: &dyn File, damage: Position) -> io::Result<bool> {
    let len = file.len()?.min(SEGMENT_BYTES_BELIEVED);
    let mut from = u64::from(damage.offset);
    let mut chunk = Vec::new();
    while from + BATCH_HEADER_BYTES as u64 <= len {
        chunk.resize((len - from).min(CHUNK_BYTES as u64) as usize, 0);
        file.read_exact_at(&mut chunk, from)?;
        for (start, window) in chunk.windows(BATCH_HEADER_BYTES).enumerate() {
            if window[..8] != BATCH_MAGIC {
                continue;
            }
            let at = Position { segment: damage.segment, offset: (from + start as u64) as u32 };
            let header = BatchHeader::decode(window.try_into().expect("window of 40 bytes"), at);
            if header.is_some_and(|header| header.synced > damage) {
                return Ok(true);
            }
        }
        // The next chunk overlaps by what a header may stick out.
        from += (chunk.len() - BATCH_HEADER_BYTES + 1) as u64;
    }
    Ok(false)
}
