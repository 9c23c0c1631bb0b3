//! Bounded reading and writing of the shard's own records: LEB128 numbers, zigzag for signed ones, and byte strings
//! behind their length.
//!
//! A [`Reader`] never looks beyond its input and never trusts a count: callers compare counts with what is left.

use model::{Labels, SourceKey};

/// Bytes were not what the format says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

/// Appends records to a buffer.
pub(crate) trait Put {
    fn put_u64(&mut self, value: u64);
    fn put_i64(&mut self, value: i64);
    fn put_bytes(&mut self, bytes: &[u8]);
    fn put_key(&mut self, key: &SourceKey);
}

impl Put for Vec<u8> {
    #[inline]
    fn put_u64(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn put_i64(&mut self, value: i64) {
        self.put_u64(((value << 1) ^ (value >> 63)) as u64);
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_u64(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }

    /// Kind 1: a scrape (job name, packed labels, URL); kind 2: a remote write (job, instance). Never reused.
    fn put_key(&mut self, key: &SourceKey) {
        match key {
            SourceKey::Scrape { job_name, labels, url } => {
                self.push(1);
                self.put_bytes(job_name.as_bytes());
                self.put_bytes(labels.as_bytes());
                self.put_bytes(url.as_bytes());
            }
            SourceKey::RemoteWrite { job, instance } => {
                self.push(2);
                self.put_bytes(job.as_bytes());
                self.put_bytes(instance.as_bytes());
            }
        }
    }
}

/// Reads records from a slice.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Reader<'a> {
        Reader { rest }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.rest.split_first().ok_or(Malformed("record: it ends early"))?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && low > 1 {
                break;
            }
            value |= low << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("number: longer than 64 bits"))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        let value = self.u64()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.u64()?).map_err(|_| Malformed("number: longer than 32 bits"))
    }

    /// A count of things that take at least one byte each, so never more than what is left.
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        let count = usize::try_from(self.u64()?).map_err(|_| Malformed("count"))?;
        if count > self.rest.len() { Err(Malformed("count: more than there are bytes")) } else { Ok(count) }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Malformed("record: it ends early"))?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.count()?;
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Result<String, Malformed> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Malformed("text: not UTF-8"))
    }

    pub(crate) fn labels(&mut self) -> Result<Labels, Malformed> {
        Labels::from_bytes(self.bytes()?).ok_or(Malformed("label set"))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Malformed> {
        let bytes = self.take(16)?;
        Ok(u128::from_le_bytes(bytes.try_into().expect("sixteen bytes were taken")))
    }

    pub(crate) fn key(&mut self) -> Result<SourceKey, Malformed> {
        match self.byte()? {
            1 => Ok(SourceKey::Scrape { job_name: self.text()?, labels: self.labels()?, url: self.text()? }),
            2 => Ok(SourceKey::RemoteWrite { job: self.text()?, instance: self.text()? }),
            _ => Err(Malformed("source key: unknown kind")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_and_bytes_round_trip(a: u64, b: i64, bytes: Vec<u8>) {
            let mut out = Vec::new();
            out.put_u64(a);
            out.put_i64(b);
            out.put_bytes(&bytes);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.u64(), Ok(a));
            prop_assert_eq!(reader.i64(), Ok(b));
            prop_assert_eq!(reader.bytes(), Ok(&bytes[..]));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn no_input_makes_the_reader_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while !reader.is_empty() && reader.key().is_ok() {}
        }
    }

    #[test]
    fn a_count_beyond_the_input_is_refused() {
        assert!(Reader::new(&[0xff, 0xff, 0x03, 1]).count().is_err());
    }
}
