//! Takes a body in, unpacked as it comes and never beyond its limit.

use super::ScrapeError;
use flate2::write::MultiGzDecoder;
use std::io::{self, Write};

/// Bytes up to a limit.
#[derive(Debug)]
struct Limited {
    bytes: Vec<u8>,
    limit: u64,
    exceeded: bool,
}

impl Write for Limited {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + data.len()) as u64 > self.limit {
            self.exceeded = true;
            return Err(io::Error::other("limit"));
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A body on its way in.
#[derive(Debug)]
pub(super) enum BodySink {
    Plain(LimitedBody),
    Gzip(Box<MultiGzDecoder<LimitedBody>>),
}

/// Hides the limit's bookkeeping from the outside.
#[derive(Debug)]
pub(super) struct LimitedBody(Limited);

impl Write for LimitedBody {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BodySink {
    /// A body with a limit after unpacking, and a guess at its size.
    pub(super) fn new(gzip: bool, limit: u64, guess: usize) -> BodySink {
        let guess = guess.min(usize::try_from(limit).unwrap_or(guess));
        let body = LimitedBody(Limited { bytes: Vec::with_capacity(guess), limit, exceeded: false });
        if gzip { BodySink::Gzip(Box::new(MultiGzDecoder::new(body))) } else { BodySink::Plain(body) }
    }

    /// Bytes that are in.
    pub(super) fn len(&self) -> u64 {
        let body = match self {
            BodySink::Plain(body) => body,
            BodySink::Gzip(decoder) => decoder.get_ref(),
        };
        body.0.bytes.len() as u64
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// If the limit is exceeded or the bytes are no gzip.
    pub(super) fn take(&mut self, data: &[u8]) -> Result<(), ScrapeError> {
        let result = match self {
            BodySink::Plain(body) => body.write_all(data),
            BodySink::Gzip(decoder) => decoder.write_all(data),
        };
        result.map_err(|error| self.error(&error))
    }

    /// The whole body.
    ///
    /// # Errors
    /// If the limit is exceeded at the last moment, or a gzip stream is cut off.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, ScrapeError> {
        if let BodySink::Gzip(decoder) = &mut self {
            let finished = decoder.try_finish();
            finished.map_err(|error| self.error(&error))?;
        }
        Ok(match self {
            BodySink::Plain(body) => body.0.bytes,
            BodySink::Gzip(mut decoder) => std::mem::take(&mut decoder.get_mut().0.bytes),
        })
    }

    fn error(&self, error: &io::Error) -> ScrapeError {
        let body = match self {
            BodySink::Plain(body) => body,
            BodySink::Gzip(decoder) => decoder.get_ref(),
        };
        if body.0.exceeded { ScrapeError::BodyTooLarge } else { ScrapeError::Gzip(error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn read(gzip: bool, limit: u64, chunks: &[&[u8]]) -> Result<Vec<u8>, String> {
        let mut sink = BodySink::new(gzip, limit, 0);
        for chunk in chunks {
            sink.take(chunk).map_err(|e| e.to_string())?;
        }
        sink.finish().map_err(|e| e.to_string())
    }

    #[test]
    fn a_packed_body_is_unpacked_whatever_its_pieces() {
        let packed = gzip(b"a 1\n");
        let pieces: Vec<&[u8]> = packed.chunks(3).collect();
        assert_eq!(read(true, 100, &pieces), Ok(b"a 1\n".to_vec()));
    }

    #[test]
    fn the_limit_counts_unpacked_bytes() {
        let bomb = gzip(&vec![b'x'; 50 << 20]);
        assert!(bomb.len() < 100_000);
        assert_eq!(read(true, 1000, &[&bomb]), Err("body size limit exceeded".to_owned()));
        assert_eq!(read(false, 3, &[b"ab", b"cd"]), Err("body size limit exceeded".to_owned()));
        assert_eq!(read(false, 4, &[b"ab", b"cd"]), Ok(b"abcd".to_vec()));
    }

    #[test]
    fn what_is_no_gzip_or_cut_off_is_refused() {
        assert!(read(true, 100, &[b"plain text"]).is_err());
        let packed = gzip(b"a 1\n");
        assert!(read(true, 100, &[&packed[..packed.len() - 4]]).is_err());
    }
}
