//! The language from outside: what parses to what, what is refused, what is printed.
//!
//! The recorded cases of Prometheus's own tests are read from beside the repository; where they are not there, those
//! tests say so and do nothing.

mod corpus;
mod errors;
mod expressions;
mod limits;
mod print;
mod series;
