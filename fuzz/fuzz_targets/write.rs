//! Remote-write requests: as a message, and as a body that is to be decompressed with a limit first.
#![no_main]

use api::{
    Codec, decompress,
    write::{DecodeLimits, LabelCache, decode},
};
use libfuzzer_sys::fuzz_target;

const MESSAGE_BYTES_MAX: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let [which, body @ ..] = data else { return };
    let codec = match which % 4 {
        0 => None,
        1 => Some(Codec::SnappyBlock),
        2 => Some(Codec::Gzip),
        _ => Some(Codec::Deflate),
    };
    let unpacked = match codec {
        None => Ok(body.to_vec()),
        Some(codec) => decompress(codec, body, MESSAGE_BYTES_MAX).map(|message| message.to_vec()),
    };
    let Ok(message) = unpacked else { return };
    assert!(codec.is_none() || message.len() <= MESSAGE_BYTES_MAX);
    let (cache, limits) = (LabelCache::new(64, 1 << 20), DecodeLimits::default());
    let first = decode(&message, &cache, &limits);
    let second = decode(&message, &cache, &limits);
    // The second time labels come from the cache.
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
});
