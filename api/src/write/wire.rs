//! Protobuf's wire format, read from a slice without copying: as much of it as remote write needs.
//!
//! Everything here is total: any bytes give a field, the end, or an error.

/// The bytes are not protobuf of the expected shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// A field goes on behind the end of its message.
    #[error("unexpected end of message")]
    Truncated,
    /// A number longer than ten bytes or 64 bits.
    #[error("varint overflows 64 bits")]
    Overflow,
    /// Field number 0, or a wire type that is not used any more.
    #[error("illegal tag")]
    IllegalTag,
    /// A known field in another encoding than its type has.
    #[error("field {0} has the wrong wire type")]
    WrongType(u32),
}

/// The value of a field as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// Only ever skipped.
    Fixed32,
}

/// Reads one message.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Reader { rest: message }
    }

    /// The next field and its number; `None` at the end.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Field<'a>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| WireError::IllegalTag)?;
        let field = match tag & 7 {
            _ if number == 0 => return Err(WireError::IllegalTag),
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(self.fixed64()?),
            2 => Field::Bytes(self.bytes()?),
            5 => {
                self.take(4)?;
                Field::Fixed32
            }
            _ => return Err(WireError::IllegalTag),
        };
        Ok(Some((number, field)))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for (i, byte) in self.rest.iter().take(10).enumerate() {
            if i == 9 && *byte > 1 {
                return Err(WireError::Overflow);
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() >= 10 { WireError::Overflow } else { WireError::Truncated })
    }

    #[inline]
    pub(crate) fn fixed64(&mut self) -> Result<u64, WireError> {
        let (head, rest) = self.rest.split_first_chunk::<8>().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*head))
    }

    /// A length and as many bytes.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.varint()?;
        self.take(usize::try_from(length).map_err(|_| WireError::Truncated)?)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }
}

/// Undoes zigzag encoding.
#[inline]
pub(crate) fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

impl<'a> Field<'a> {
    pub(crate) fn varint(self, number: u32) -> Result<u64, WireError> {
        if let Field::Varint(value) = self { Ok(value) } else { Err(WireError::WrongType(number)) }
    }

    pub(crate) fn double(self, number: u32) -> Result<f64, WireError> {
        if let Field::Fixed64(bits) = self {
            Ok(f64::from_bits(bits))
        } else {
            Err(WireError::WrongType(number))
        }
    }

    pub(crate) fn bytes(self, number: u32) -> Result<&'a [u8], WireError> {
        if let Field::Bytes(bytes) = self { Ok(bytes) } else { Err(WireError::WrongType(number)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_of_64_bits_is_read_and_a_longer_one_refused() {
        let mut longest = [0xff; 10];
        longest[9] = 1;
        assert_eq!(Reader::new(&longest).varint(), Ok(u64::MAX));
        longest[9] = 2;
        assert_eq!(Reader::new(&longest).varint(), Err(WireError::Overflow));
        assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(WireError::Overflow));
        assert_eq!(Reader::new(&[0xff; 3]).varint(), Err(WireError::Truncated));
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        assert_eq!(Reader::new(&[0x0a, 0x05, 1]).next().unwrap_err(), WireError::Truncated);
        let huge = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Reader::new(&huge).next().unwrap_err(), WireError::Truncated);
    }

    #[test]
    fn groups_and_field_zero_are_refused() {
        assert_eq!(Reader::new(&[0x0b]).next().unwrap_err(), WireError::IllegalTag);
        assert_eq!(Reader::new(&[0x00, 0x00]).next().unwrap_err(), WireError::IllegalTag);
    }

    #[test]
    fn zigzag_reaches_both_ends() {
        assert_eq!([zigzag(0), zigzag(1), zigzag(2)], [0, -1, 1]);
        assert_eq!([zigzag(u64::MAX), zigzag(u64::MAX - 1)], [i64::MIN, i64::MAX]);
    }
}
