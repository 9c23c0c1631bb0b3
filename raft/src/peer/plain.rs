//! A connection without HTTP/2: for the questions of reads, which are many, small, and waited for.
//!
//! ```text
//! ┌──────────┬───────────┬──────────┬───────────┬─ ─ ─
//! │ magic 8  │ length u32│ Frame    │ length u32│ Frame …     big endian
//! └──────────┴───────────┴──────────┴───────────┴─ ─ ─
//! ```
//!
//! The magic is said by who connects and comes in place of HTTP/2's preface, on the same port; a node that does not know
//! it closes the connection, and is asked over HTTP/2. Frames are those of `peer.proto`, the first of each direction is
//! the greeting. A frame is small here: what is longer than [`PLAIN_BYTES_MAX`] ends the connection.

use super::{
    PeerError,
    proto::{Frame, Hello},
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use model::ClientIo;
use prost::Message as _;
use std::io;
use tokio::sync::mpsc;

/// What a plain connection begins with. HTTP/2 begins with `PRI * HT`.
pub(super) const MAGIC: [u8; 8] = *b"VESTAL\0\x01";
/// Longest frame: all shards that one question may have, and their members.
pub(super) const PLAIN_BYTES_MAX: usize = 1 << 20;
const LENGTH_BYTES: usize = 4;
/// Read at once.
const READ_BYTES: usize = 4 << 10;

type Io = Box<dyn ClientIo>;

/// The frames that come over a plain connection.
pub(super) struct PlainFrames {
    io: ReadHalf<Io>,
    /// What was read and is not taken; survives a `next` that is given up.
    read: BytesMut,
}

/// Both directions of a plain connection.
pub(super) fn halves(io: Io) -> (PlainFrames, WriteHalf<Io>) {
    let (reading, writing) = io.split();
    (PlainFrames { io: reading, read: BytesMut::new() }, writing)
}

impl PlainFrames {
    /// The next frame; nothing at the end. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, PeerError> {
        let malformed = |what: String| PeerError::Malformed(what);
        loop {
            if let Some(length) = self.read.get(..LENGTH_BYTES) {
                let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
                if length > PLAIN_BYTES_MAX {
                    return Err(malformed(format!("plain peer frame of {length} bytes")));
                }
                if self.read.len() >= LENGTH_BYTES + length {
                    self.read.advance(LENGTH_BYTES);
                    let frame = Frame::decode(self.read.split_to(length).freeze());
                    return frame.map(Some).map_err(|error| malformed(format!("plain peer frame: {error}")));
                }
            }
            let mut piece = [0; READ_BYTES];
            match self.io.read(&mut piece).await {
                Ok(0) if self.read.is_empty() => return Ok(None),
                Ok(0) => return Err(PeerError::Lost("closed by the peer within a frame".to_owned())),
                Ok(count) => self.read.extend_from_slice(&piece[..count]),
                Err(error) => return Err(PeerError::Lost(error.to_string())),
            }
        }
    }
}

/// A frame as it is sent.
fn encode(frame: &Frame) -> io::Result<Bytes> {
    let length = frame.encoded_len();
    if length > PLAIN_BYTES_MAX {
        return Err(io::Error::other("a frame too long for a plain connection"));
    }
    let mut bytes = BytesMut::with_capacity(LENGTH_BYTES + length);
    bytes.put_u32(length as u32);
    frame.encode(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.freeze())
}

/// Greets as who connects.
pub(super) async fn greet(writing: &mut WriteHalf<Io>, hello: Hello) -> io::Result<()> {
    let greeting = encode(&Frame { hello: Some(hello), messages: Bytes::new() })?;
    writing.write_all(&[&MAGIC[..], &greeting].concat()).await?;
    writing.flush().await
}

/// Sends what comes, until nobody has anything to send any more or the connection breaks.
pub(super) async fn send_all(mut writing: WriteHalf<Io>, mut frames: mpsc::Receiver<Frame>) {
    while let Some(frame) = frames.recv().await {
        let sent = async {
            writing.write_all(&encode(&frame)?).await?;
            writing.flush().await
        };
        if let Err(error) = sent.await {
            tracing::debug!(%error, "sending over a plain peer connection failed");
            return;
        }
    }
    writing.close().await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, io::Cursor};
    use proptest::prelude::*;

    fn frame(messages: Vec<u8>) -> Frame {
        Frame { hello: None, messages: messages.into() }
    }

    /// The frames that come out of these bytes, and whether they end well.
    fn read(bytes: &[u8]) -> (Vec<Frame>, bool) {
        let (mut frames, _) = halves(Box::new(Cursor::new(bytes.to_vec())));
        let mut all = Vec::new();
        loop {
            match frames.next().now_or_never().expect("memory never waits") {
                Ok(Some(frame)) => all.push(frame),
                end => return (all, end == Ok(None)),
            }
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9_000), 0..5)) {
            let sent: Vec<Frame> = bodies.into_iter().map(frame).collect();
            let bytes: Vec<u8> = sent.iter().flat_map(|frame| encode(frame).expect("short")).collect();
            prop_assert_eq!(read(&bytes), (sent, true));
        }

        #[test]
        fn foreign_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes);
        }
    }

    #[test]
    fn half_a_frame_is_no_end() {
        let bytes = encode(&frame(vec![7; 40])).expect("short");
        assert!((1..bytes.len()).all(|cut| read(&bytes[..cut]) == (Vec::new(), false)));
    }

    #[test]
    fn a_long_frame_is_refused_before_it_is_read() {
        let length = PLAIN_BYTES_MAX as u32 + 1;
        assert_eq!(read(&length.to_be_bytes()), (Vec::new(), false));
        assert!(encode(&frame(vec![0; PLAIN_BYTES_MAX])).is_err());
    }
}
