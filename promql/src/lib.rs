//! PromQL: text to tree to plan to series, over a Queryable. Pure.
//!
//! ```text
//!  text ──parse──▶ ast::Expr ──eval──▶ value
//!                     │
//!                     └──print──▶ text, pretty text, JSON
//! ```

mod annotations;
pub mod ast;
pub mod duration;
mod engine;
mod eval;
pub mod go;
mod histogram;
mod kahan;
mod number;
mod parse;
mod print;
pub mod signature;
mod weight;

pub use parse::{
    HistogramStep, ParseError, ParseErrors, ParserOptions, Place, SeriesDescription, SeriesValues,
    VALUES_MAX, line_column, parse, parse_metric, parse_selector, parse_series,
};
pub use print::{ast_json, pretty};

pub use engine::{
    Answer, Engine, EngineOptions, EvalError, Features, MatrixSeries, Point, QueryOptions, Stats, Value,
    VectorSample,
};
pub use histogram::{Bucket, buckets, histogram_text};
pub use weight::{Extent, weight};

pub use number::{
    format_float, format_float_g, format_float_json, format_float_label, parse_float, push_float_json,
};
