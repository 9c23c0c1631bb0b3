//! The one place where bytes from outside are decompressed: one function, one limit, all codecs.

use flate2::read::{GzDecoder, ZlibDecoder};
use std::io::Read;

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// The snappy block format of remote write.
    SnappyBlock,
    /// gzip, several members included in the first only.
    Gzip,
    /// zlib, which HTTP calls `deflate`.
    Deflate,
}

/// Bytes could not be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// They are more than allowed.
    #[error("body is larger than {limit} bytes when decompressed; send smaller requests")]
    TooLarge {
        /// The limit, bytes.
        limit: usize,
    },
    /// They are not what they claim to be.
    #[error("body is not valid {codec}: {reason}")]
    Malformed {
        /// The codec's name.
        codec: &'static str,
        /// What the decoder found.
        reason: String,
    },
}

/// No snappy block grows by more: its densest element makes 64 bytes of 3.
const SNAPPY_GROWTH_MAX: usize = 22;

/// Decompresses all of `body` into at most `limit` bytes; never allocates for more than it can deliver.
///
/// # Errors
/// If the result would be larger than `limit`, or `body` is damaged.
pub fn decompress(codec: Codec, body: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    match codec {
        Codec::SnappyBlock => snappy_block(body, limit),
        Codec::Gzip => stream("gzip", GzDecoder::new(body), limit),
        Codec::Deflate => stream("deflate", ZlibDecoder::new(body), limit),
    }
}

/// How long a snappy block says it is, within what its bytes can hold; `None` if it cannot be told.
pub(crate) fn snappy_length(body: &[u8]) -> Option<usize> {
    let length = snap::raw::decompress_len(body).ok()?;
    Some(length.min(body.len().saturating_mul(SNAPPY_GROWTH_MAX)))
}

fn snappy_block(body: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    let malformed = |reason: String| DecompressError::Malformed { codec: "snappy", reason };
    let length = snap::raw::decompress_len(body).map_err(|error| malformed(error.to_string()))?;
    if length > limit {
        return Err(DecompressError::TooLarge { limit });
    }
    if length > body.len().saturating_mul(SNAPPY_GROWTH_MAX) {
        return Err(malformed(format!("claims {length} bytes in {}", body.len())));
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(|error| malformed(error.to_string()))
}

fn stream(codec: &'static str, decoder: impl Read, limit: usize) -> Result<Vec<u8>, DecompressError> {
    let mut out = Vec::new();
    // One byte more than allowed tells a full body from an oversized one.
    decoder
        .take(limit as u64 + 1)
        .read_to_end(&mut out)
        .map_err(|error| DecompressError::Malformed { codec, reason: error.to_string() })?;
    if out.len() > limit { Err(DecompressError::TooLarge { limit }) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_body_of_exactly_the_limit_passes() {
        let data = vec![7; 1000];
        let packed = snap::raw::Encoder::new().compress_vec(&data).unwrap();
        assert_eq!(decompress(Codec::SnappyBlock, &packed, 1000).unwrap(), data);
        assert_eq!(decompress(Codec::Gzip, &gzip(&data), 1000).unwrap(), data);
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        let data = vec![0; 10_000_000];
        let packed = snap::raw::Encoder::new().compress_vec(&data).unwrap();
        let refused = |codec, body: &[u8]| {
            matches!(decompress(codec, body, 1_000_000), Err(DecompressError::TooLarge { limit: 1_000_000 }))
        };
        assert!(refused(Codec::SnappyBlock, &packed));
        assert!(refused(Codec::Gzip, &gzip(&data)));
    }

    #[test]
    fn a_block_that_claims_more_than_it_could_hold_is_refused_without_an_allocation() {
        let claim = [0x80, 0x80, 0x80, 0x08, 0]; // 16 MiB in five bytes
        let refused = decompress(Codec::SnappyBlock, &claim, 32 << 20);
        assert!(matches!(refused, Err(DecompressError::Malformed { codec: "snappy", .. })));
    }

    #[test]
    fn garbage_is_refused() {
        assert!(decompress(Codec::SnappyBlock, &[], 10).is_err());
        assert!(decompress(Codec::SnappyBlock, &[3, 0xff], 10).is_err());
        assert!(decompress(Codec::Gzip, b"not gzip", 10).is_err());
        assert!(decompress(Codec::Deflate, b"not zlib", 10).is_err());
    }
}
