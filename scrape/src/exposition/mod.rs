//! Exposition formats: bodies in, samples out.

mod entry;
mod lexer;
mod negotiation;
mod number;
mod protobuf;
mod quote;
mod text;

pub use entry::{Entry, MetricKind, ParseError};
pub use negotiation::{BodyFormat, FormatError};
pub use protobuf::{ProtobufEntry, ProtobufParser, ProtobufSample};
pub use text::{Dialect, TextParser};

pub(crate) use text::BoundLabel;

pub(crate) use negotiation::accept_header;
pub(crate) use number::parse_value;
pub(crate) use quote::{quote, shorten};
