//! Exposition parsing, measured.
fn main() {}
