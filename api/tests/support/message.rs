//! Remote-write messages as a sender makes them, field by field.

pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A length-delimited field.
pub(crate) fn bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    varint(out, u64::from(number << 3 | 2));
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

pub(crate) fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, u64::from(field << 3));
    varint(out, value);
}

pub(crate) fn double(out: &mut Vec<u8>, field: u32, value: f64) {
    varint(out, u64::from(field << 3 | 1));
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

pub(crate) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

pub(crate) fn label(name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, 1, name.as_bytes());
    bytes(&mut out, 2, value.as_bytes());
    out
}

pub(crate) fn sample(timestamp: i64, value: f64) -> Vec<u8> {
    let mut out = Vec::new();
    double(&mut out, 1, value);
    number(&mut out, 2, timestamp.cast_unsigned());
    out
}

/// A time series with float samples.
pub(crate) fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Vec<u8> {
    let mut out = Vec::new();
    labels.iter().for_each(|(name, value)| bytes(&mut out, 1, &label(name, value)));
    samples.iter().for_each(|(timestamp, value)| bytes(&mut out, 2, &sample(*timestamp, *value)));
    out
}

/// A whole message.
pub(crate) fn request(all: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    all.iter().for_each(|series| bytes(&mut out, 1, series));
    out
}

pub(crate) fn snappy(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap()
}
