//! What apply needs of the configuration, in the shard's own log.

use super::wire::{Malformed, Put, Reader};
use model::{ConfigVersion, DurationMs};

/// Limits, windows and retention of one shard, in force from the entry that carries them. The version only rises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardSettings {
    /// The configuration this was taken from.
    pub version: ConfigVersion,
    /// `out_of_order_time_window`: how much older than the newest sample of its source a sample may be. 0: none.
    pub out_of_order_window: DurationMs,
    /// How long samples are kept; the leader turns it into the cutoffs of `Retain`. 0: for ever.
    pub retention_time: DurationMs,
    /// How many bytes of samples a node keeps, all its shards together; likewise. 0: no limit.
    pub retention_bytes: u64,
    /// Active series of one source at most; more are rejected.
    pub source_series_max: u32,
    /// Series of the shard at most, active or not; more are rejected.
    pub series_max: u32,
}

impl Default for ShardSettings {
    fn default() -> ShardSettings {
        ShardSettings {
            version: ConfigVersion(0),
            out_of_order_window: DurationMs(0),
            retention_time: DurationMs(15 * 24 * 3_600_000),
            retention_bytes: 0,
            source_series_max: 1_000_000,
            series_max: 20_000_000,
        }
    }
}

impl ShardSettings {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        for value in [
            self.version.0,
            self.out_of_order_window.0,
            self.retention_time.0,
            self.retention_bytes,
            u64::from(self.source_series_max),
            u64::from(self.series_max),
        ] {
            out.put_u64(value);
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<ShardSettings, Malformed> {
        Ok(ShardSettings {
            version: ConfigVersion(reader.u64()?),
            out_of_order_window: DurationMs(reader.u64()?),
            retention_time: DurationMs(reader.u64()?),
            retention_bytes: reader.u64()?,
            source_series_max: reader.u32()?,
            series_max: reader.u32()?,
        })
    }
}
