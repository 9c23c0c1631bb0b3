//! The body of an answer while it is written: plain or compressed, in pieces, so that a large one never moves.
//!
//! ```text
//! json ──append──▶ buf ──roll (64 KiB)──▶ [gzip | deflate] ──▶ pieces ──▶ Body with its length
//! ```

use axum::{body::Body, response::Response};
use bytes::Bytes;
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use futures::stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use model::Budget;
use std::{convert::Infallible, io::Write, mem, sync::Arc};

/// How an answer is compressed, by `Accept-Encoding`: the first of these that is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    #[default]
    Plain,
    Gzip,
    Deflate,
}

impl Encoding {
    /// What the client asks for. As in Prometheus, quality values are not weighed: `gzip;q=0.5` is no match.
    pub(crate) fn accepted(headers: &HeaderMap) -> Encoding {
        let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or("");
        let named = accepted.split(',').map(str::trim);
        named
            .filter_map(|name| match name {
                "gzip" => Some(Encoding::Gzip),
                "deflate" => Some(Encoding::Deflate),
                _ => None,
            })
            .next()
            .unwrap_or_default()
    }

    fn header(self) -> Option<HeaderValue> {
        match self {
            Encoding::Plain => None,
            Encoding::Gzip => Some(HeaderValue::from_static("gzip")),
            Encoding::Deflate => Some(HeaderValue::from_static("deflate")),
        }
    }
}

enum Encoder {
    Plain,
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
}

/// Above this the buffer is handed on.
const PIECE_BYTES: usize = 64 << 10;

/// An answer under construction.
pub(crate) struct Output {
    buf: Vec<u8>,
    pieces: Vec<Bytes>,
    length: usize,
    encoding: Encoding,
    encoder: Encoder,
    budget: Option<Arc<Budget>>,
}

impl Output {
    pub(crate) fn plain() -> Output {
        Output::new(Encoding::Plain)
    }

    pub(crate) fn new(encoding: Encoding) -> Output {
        let level = Compression::fast(); // a query's answer is read once; level 6 costs 3 times the time for 10 %
        Output {
            buf: Vec::new(),
            pieces: Vec::new(),
            length: 0,
            encoding,
            budget: None,
            encoder: match encoding {
                Encoding::Plain => Encoder::Plain,
                Encoding::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), level)),
                Encoding::Deflate => Encoder::Deflate(ZlibEncoder::new(Vec::new(), level)),
            },
        }
    }

    /// Keeps a budget until the last byte was taken by the client, or it is gone: large answers wait in memory.
    pub(crate) fn hold(&mut self, budget: Arc<Budget>) {
        self.budget = Some(budget);
    }

    /// Where to append.
    pub(crate) fn buf(&mut self) -> &mut Vec<u8> {
        &mut self.buf
    }

    /// Hands on what was appended if it is enough. Called between series; yields the bytes that were handed on.
    #[inline]
    pub(crate) fn roll(&mut self) -> usize {
        if self.buf.len() < PIECE_BYTES { 0 } else { self.flush() }
    }

    fn flush(&mut self) -> usize {
        let before = self.length;
        let piece = match &mut self.encoder {
            Encoder::Plain => mem::replace(&mut self.buf, Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 8)),
            Encoder::Gzip(encoder) => {
                encoder.write_all(&self.buf).expect("a Vec takes all bytes");
                self.buf.clear();
                mem::take(encoder.get_mut())
            }
            Encoder::Deflate(encoder) => {
                encoder.write_all(&self.buf).expect("a Vec takes all bytes");
                self.buf.clear();
                mem::take(encoder.get_mut())
            }
        };
        self.push(piece);
        self.length - before
    }

    fn push(&mut self, piece: Vec<u8>) {
        self.length += piece.len();
        if !piece.is_empty() {
            self.pieces.push(piece.into());
        }
    }

    /// The finished response. Blocks for as long as compressing takes.
    pub(crate) fn into_response(mut self, status: StatusCode, content_type: &'static str) -> Response {
        self.flush();
        let last = match mem::replace(&mut self.encoder, Encoder::Plain) {
            Encoder::Plain => Vec::new(),
            Encoder::Gzip(encoder) => encoder.finish().expect("a Vec takes all bytes"),
            Encoder::Deflate(encoder) => encoder.finish().expect("a Vec takes all bytes"),
        };
        self.push(last);
        let length = self.length;
        let body = match self.pieces.len() {
            0 => Body::empty(),
            1 => Body::from(self.pieces.swap_remove(0)),
            _ => {
                let budget = self.budget;
                let pieces = self.pieces.into_iter().map(move |piece| {
                    let _held = &budget;
                    Ok::<_, Infallible>(piece)
                });
                Body::from_stream(stream::iter(pieces))
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        if let Some(encoding) = self.encoding.header() {
            headers.insert(header::CONTENT_ENCODING, encoding);
        }
        response
    }
}
