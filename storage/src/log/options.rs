//! Limits of the log, and what follows from them.

use super::format::{BATCH_HEADER_BYTES, RECORD_HEADER_BYTES};

const MIB: u64 = 1 << 20;

/// How large the log may become, on disk and in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes of all segments together; at least [`LogOptions::SIZE_MIN`]. The log never grows beyond it.
    pub size: u64,
    /// Bytes of recent entries that are kept in memory, of all groups together.
    pub cache_bytes: u64,
    /// Bytes of appends that may wait for the disk.
    pub queue_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        // A second of a busy node: who lags further reads from the files, which the system has in memory as well.
        LogOptions { size: 1024 * MIB, cache_bytes: 8 * MIB, queue_bytes: 32 * MIB }
    }
}

/// Longest vote, in bytes.
pub const VOTE_BYTES_MAX: usize = 128;
/// Longest identity, in bytes.
pub const IDENTITY_BYTES_MAX: usize = 4096;
/// Most groups in one log.
pub const GROUPS_MAX: usize = 1024;

impl LogOptions {
    /// The smallest size of a log, in bytes.
    pub const SIZE_MIN: u64 = 16 * MIB;
    /// The largest size of a log, in bytes: 2^20 times the largest segment.
    pub const SIZE_MAX: u64 = (64 * MIB) << 20;

    /// The longest payload of an entry, in bytes: 1.75 MiB in the smallest log, just under 64 MiB in the default one.
    #[must_use]
    pub fn entry_bytes_max(&self) -> u64 {
        self.segment_bytes() - Self::START_BYTES_MAX
    }

    /// Bytes at which a segment is full.
    pub(super) fn segment_bytes(&self) -> u64 {
        (self.size / 8).min(64 * MIB)
    }

    /// Room kept in each segment for its start, the headers of a batch and the spare: every group's state fits.
    pub(super) const START_BYTES_MAX: u64 = 256 * 1024;

    /// Bytes that a batch has at most, unless its only entry is longer.
    pub(super) fn batch_bytes(&self) -> u64 {
        (4 * MIB).min(self.segment_bytes() / 2)
    }

    /// Room that is kept for small entries that nobody reserves room for.
    pub(super) const UNRESERVED_BYTES: u64 = 256 * 1024;

    /// Before a batch is written, older segments go until the log is not larger than this with it. The rest is for
    /// copying one segment's live records forward.
    pub(super) fn bytes_max(&self) -> u64 {
        self.size - 2 * self.segment_bytes()
    }

    /// Bytes that live entries may have. With a quarter of the log dead, copying forward writes at most three old
    /// bytes for each new one.
    pub(super) fn live_bytes_max(&self) -> u64 {
        self.bytes_max() / 4 * 3
    }
}

/// Room behind every batch for what must be written on a full disk, too: 250 votes and more.
pub(super) const SPARE_BYTES: u64 = 32 * 1024;

/// Room that is asked of the file system at once. More would hide a full disk for longer.
pub(super) const RESERVE_BYTES: u64 = 256 * 1024;

/// What an entry costs in a segment.
pub(super) fn record_bytes(payload: usize) -> u64 {
    (RECORD_HEADER_BYTES + payload) as u64
}

/// What an empty batch costs in a segment.
pub(super) const BATCH_OVERHEAD: u64 = BATCH_HEADER_BYTES as u64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::format::{PREAMBLE_BYTES, Summary};

    #[test]
    fn the_state_of_all_groups_fits_into_a_segments_start() {
        let state = RECORD_HEADER_BYTES + Summary::BYTES_MIN + VOTE_BYTES_MAX;
        let identity = RECORD_HEADER_BYTES + IDENTITY_BYTES_MAX;
        // The segment's own start, and the header of the batch that carries the longest entry.
        let all =
            PREAMBLE_BYTES + 2 * BATCH_HEADER_BYTES + GROUPS_MAX * state + identity + RECORD_HEADER_BYTES;
        assert!(all as u64 + SPARE_BYTES < LogOptions::START_BYTES_MAX);
    }

    #[test]
    fn the_smallest_log_takes_a_megabyte_at_once() {
        let options = LogOptions { size: LogOptions::SIZE_MIN, ..LogOptions::default() };
        assert!(options.entry_bytes_max() > MIB);
        assert!(options.live_bytes_max() + 2 * options.segment_bytes() < options.size);
    }
}
