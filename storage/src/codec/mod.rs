//! Codecs: values to bytes and back, losslessly, to the bit of every NaN.
//!
//! - [`block`]: a column of one series, for chunks: floats or timestamps, patched frame of reference
//! - [`values`]: one row of many series, for segments: a class and 0 to 8 bytes each
//! - [`histograms`]: a column with native histograms in it
//! - [`presence`]: which rows a column has a value in
//!
//! ```text
//!  floats ──decimal scaling or ordered bits──▶ integers ──transform, gcd──▶ residuals ──64 at a time──▶ bytes
//!  timestamps ──grid or nothing──────────────▶ integers ─┘   (integers.rs)   (residuals.rs, pack.rs)
//! ```
//!
//! Every decoder takes arbitrary bytes: it returns an error or some values, never panics, and never reserves more
//! than the count that the caller names.

pub mod block;
pub mod histograms;
mod integers;
mod pack;
pub mod presence;
mod reader;
mod residuals;
mod times;
pub mod values;

pub(crate) use reader::{Reader, put_signed, put_varint};

/// Bytes are not what an encoder wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// They end too early.
    #[error("encoded values end too early")]
    Truncated,
    /// Something follows the last value.
    #[error("bytes left over behind the last encoded value")]
    LeftOver,
    /// They are of another version.
    #[error("encoded with format version {0}, which this release does not know; use a later one")]
    Version(u8),
    /// A field has a value that no encoder writes.
    #[error("malformed field `{0}` in encoded values")]
    Malformed(&'static str),
}
