//! A promise that was broken.

use std::fmt;

/// Which invariant, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name, `O1` to `O14`.
    pub invariant: &'static str,
    /// What was seen.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.text)
    }
}
