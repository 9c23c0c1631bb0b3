//! Regular expressions in Go's dialect (RE2), anchored at both ends, as Prometheus uses them everywhere.

use std::fmt;

/// The expression is not one that Go's `regexp` accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {0}")]
pub struct RegexError(pub String);

/// `^(?s:EXPR)$`, compiled.
#[derive(Clone)]
pub struct AnchoredRegex {
    source: String,
    regex: regex::Regex,
}

impl AnchoredRegex {
    /// Compiles `source`.
    ///
    /// # Errors
    /// If Go's `regexp` would refuse it, with Go's text.
    pub fn new(source: &str) -> Result<AnchoredRegex, RegexError> {
        let regex = regex::Regex::new(&format!("^(?s:{source})$")).map_err(|e| RegexError(e.to_string()))?;
        Ok(AnchoredRegex { source: source.to_owned(), regex })
    }

    /// The text it was made of.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// If the whole of `text` matches, `template` with `$1`, `${1}`, `$name` and `$$` replaced as Go's
    /// `Regexp.Expand` does: unknown groups are empty, a name is as long as it can be.
    #[must_use]
    pub fn expand(&self, text: &str, template: &str) -> Option<String> {
        let captures = self.regex.captures(text)?;
        let mut expanded = String::new();
        captures.expand(template, &mut expanded);
        Some(expanded)
    }

    /// Whether the whole of `text` matches.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

impl fmt::Debug for AnchoredRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnchoredRegex({:?})", self.source)
    }
}
