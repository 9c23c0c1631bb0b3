//! The messages inside of a frame.
//!
//! ```text
//! ┌────────┬──────────┬───────────┬────────┬──────────────┬────────────┬─ ─ ─ ─
//! │ tag u8 │ kind u16 │ shard u32 │ id u64 │ patience u32 │ length u32 │ body       big endian
//! └────────┴──────────┴───────────┴────────┴──────────────┴────────────┴─ ─ ─ ─
//! ```
//!
//! tag: 0 request, 1 answer, 2 refusal (the body is its text). Patience, of a request: how many milliseconds the
//! sender waits for the answer.

use super::PeerError;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::ShardId;
use std::time::Duration;

/// Most bytes in one frame, and so in one message.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
/// A frame is sent when it has this many bytes, whatever else waits.
pub(super) const FRAME_BYTES: usize = 4 << 20;
pub(super) const HEADER_BYTES: usize = 23;

/// What is asked for. Numbers are never reused.
pub(crate) mod kind {
    pub(crate) const PING: u16 = 1;
    pub(crate) const APPEND: u16 = 2;
    pub(crate) const VOTE: u16 = 3;
    pub(crate) const PRE_VOTE: u16 = 4;
    pub(crate) const TRANSFER: u16 = 5;
    /// Snapshots of the first builds, 6 to 8: refused by name, never used again.
    pub(crate) const SNAPSHOT_RETIRED: std::ops::RangeInclusive<u16> = 6..=8;
    // 9 and 10 asked leaders for read indexes.
    pub(crate) const SNAPSHOT_OFFER: u16 = 11;
    pub(crate) const SNAPSHOT_OPEN: u16 = 12;
    pub(crate) const SNAPSHOT_READ: u16 = 13;
    pub(crate) const CONFIRM: u16 = 14;
    pub(crate) const FENCE: u16 = 15;
    pub(crate) const WILLING: u16 = 16;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Request,
    Answer,
    Refusal,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) tag: Tag,
    pub(crate) kind: u16,
    pub(crate) shard: ShardId,
    pub(crate) id: u64,
    pub(crate) patience: Duration,
    pub(crate) body: Bytes,
}

impl Message {
    pub(crate) fn put(&self, frame: &mut BytesMut) {
        frame.reserve(HEADER_BYTES + self.body.len());
        frame.put_u8(match self.tag {
            Tag::Request => 0,
            Tag::Answer => 1,
            Tag::Refusal => 2,
        });
        frame.put_u16(self.kind);
        frame.put_u32(self.shard.0);
        frame.put_u64(self.id);
        frame.put_u32(u32::try_from(self.patience.as_millis()).unwrap_or(u32::MAX));
        frame.put_u32(self.body.len() as u32);
        frame.put_slice(&self.body);
    }
}

/// The messages of a frame, or that it is malformed.
pub(crate) fn messages(mut frame: Bytes) -> Result<Vec<Message>, PeerError> {
    let malformed = |what: &str| PeerError::Malformed(format!("peer frame with {what}"));
    let mut all = Vec::new();
    while !frame.is_empty() {
        if frame.len() < HEADER_BYTES {
            return Err(malformed("half a header"));
        }
        let tag = match frame.get_u8() {
            0 => Tag::Request,
            1 => Tag::Answer,
            2 => Tag::Refusal,
            _ => return Err(malformed("an unknown tag")),
        };
        let kind = frame.get_u16();
        let shard = ShardId(frame.get_u32());
        let id = frame.get_u64();
        let patience = Duration::from_millis(u64::from(frame.get_u32()));
        let length = frame.get_u32() as usize;
        if length > frame.len() {
            return Err(malformed("half a message"));
        }
        all.push(Message { tag, kind, shard, id, patience, body: frame.split_to(length) });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(tag: Tag, id: u64, body: Vec<u8>) -> Message {
        let patience = Duration::from_millis(id % 5000);
        Message { tag, kind: id as u16, shard: ShardId(id as u32), id, patience, body: body.into() }
    }

    proptest! {
        #[test]
        fn messages_come_out_of_a_frame_as_they_went_in(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..5)) {
            let tags = [Tag::Request, Tag::Answer, Tag::Refusal];
            let sent: Vec<_> = bodies.into_iter().enumerate().map(|(i, body)| message(tags[i % 3], i as u64 + 3, body)).collect();
            let mut frame = BytesMut::new();
            sent.iter().for_each(|message| message.put(&mut frame));
            prop_assert_eq!(messages(frame.freeze()).expect("own frame"), sent);
        }

        #[test]
        fn a_foreign_frame_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = messages(bytes.into());
        }
    }

    #[test]
    fn a_cut_frame_is_refused() {
        let mut frame = BytesMut::new();
        message(Tag::Request, 9, vec![1, 2, 3]).put(&mut frame);
        let frame = frame.freeze();
        assert!((1..frame.len()).all(|len| messages(frame.slice(..len)).is_err()));
    }
}
