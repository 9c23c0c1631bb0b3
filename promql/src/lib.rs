//! PromQL: text to tree to plan to series, over a Queryable. Pure.
//!
//! ```text
//!  text ──parse──▶ ast::Expr ──eval──▶ value
//!                     │
//!                     └──print──▶ text, pretty text, JSON
//! ```

pub mod ast;
pub mod duration;
pub mod go;
mod parse;
pub mod signature;

pub use parse::{ParseError, ParseErrors, ParserOptions, Place, line_column, parse, parse_selector};
