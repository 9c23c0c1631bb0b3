//! Regular expressions in Go's dialect (RE2), anchored at both ends, as Prometheus uses them everywhere.
//!
//! An expression is translated to Rust's dialect and compiled only if it must be: one that matches just a few texts is
//! a sorted list, one that begins with a text is not run over values that do not.

mod expand;
mod literals;
#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
mod translate;

use regex_syntax::hir::HirKind;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// The expression is not one that Go's `regexp` accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {0}")]
pub struct RegexError(pub String);

/// The largest compiled program, in bytes.
const PROGRAM_BYTES_MAX: usize = 10 << 20;
/// What is more is a large one.
const PROGRAM_BYTES_USUAL: usize = 256 << 10;
/// The deepest nesting of the translated expression: groups of the source, and those that repetitions add.
const NEST_MAX: u32 = 1000;

/// `^(?s:EXPR)$`. Cheap to clone.
#[derive(Clone)]
pub struct AnchoredRegex(Arc<Parts>);

struct Parts {
    source: String,
    /// In Rust's dialect, anchored.
    pattern: String,
    names: Vec<String>,
    shape: Shape,
    prefix: String,
    large: bool,
    /// Compiled with the expression if its shape needs it, else when groups are asked for.
    regex: OnceLock<Option<regex::Regex>>,
}

/// What kind of expression it is, as far as matching is concerned.
enum Shape {
    /// `.*`
    All,
    /// `.+`
    NonEmpty,
    /// Just these texts, sorted.
    Literals(Vec<String>),
    /// Any other.
    Program,
}

impl AnchoredRegex {
    /// Translates `source`, and compiles it if it is more than a set of texts.
    ///
    /// # Errors
    /// If Go's `regexp` would refuse it, with Go's text; or if its program would need more than 10 MiB, or its groups
    /// nest deeper than 250 levels.
    pub fn new(source: &str) -> Result<AnchoredRegex, RegexError> {
        let translated = translate::translate(source)?;
        let hir = regex_syntax::ParserBuilder::new()
            .nest_limit(NEST_MAX)
            .build()
            .parse(&translated.pattern)
            .map_err(|_| RegexError(format!("expression too large: `{source}`")))?;
        let shape = shape(&hir);
        let needs_program = matches!(shape, Shape::Program);
        let pattern = format!("\\A(?:{})\\z", translated.pattern);
        let usual = if needs_program { compile(&pattern, PROGRAM_BYTES_USUAL) } else { None };
        let large = needs_program && usual.is_none();
        let regex = OnceLock::new();
        if needs_program {
            let program = usual.or_else(|| compile(&pattern, PROGRAM_BYTES_MAX));
            if program.is_none() {
                return Err(RegexError(format!("expression too large: `{source}`")));
            }
            let _empty = regex.set(program);
        }
        let parts = Parts {
            source: source.to_owned(),
            pattern,
            large,
            names: translated.names,
            prefix: literals::prefix(&hir),
            shape,
            regex,
        };
        Ok(AnchoredRegex(Arc::new(parts)))
    }

    /// The text it was made of.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Whether the whole of `text` matches.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        match &self.0.shape {
            Shape::All => true,
            Shape::NonEmpty => !text.is_empty(),
            Shape::Literals(texts) => texts.binary_search_by(|t| t.as_str().cmp(text)).is_ok(),
            Shape::Program => {
                text.starts_with(&self.0.prefix) && self.0.program().is_some_and(|regex| regex.is_match(text))
            }
        }
    }

    /// All texts that it matches, sorted, if they are few (at most 1000).
    #[must_use]
    pub fn literal_set(&self) -> Option<&[String]> {
        match &self.0.shape {
            Shape::Literals(texts) => Some(texts),
            _ => None,
        }
    }

    /// The text that everything it matches begins with; empty if there is none.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// Whether the empty text matches.
    #[must_use]
    pub fn matches_empty(&self) -> bool {
        self.is_match("")
    }

    /// Whether its program is large, 256 KiB to 10 MiB: a query may have only a few of these.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.0.large
    }

    /// If the whole of `text` matches, `template` with `$1`, `${1}`, `$name` and `$$` replaced as Go's
    /// `Regexp.Expand` does: unknown groups are empty, a name is as long as it can be.
    #[must_use]
    pub fn expand(&self, text: &str, template: &str) -> Option<String> {
        if !self.is_match(text) {
            return None;
        }
        if !template.contains('$') {
            return Some(template.to_owned());
        }
        let captures = self.0.program()?.captures(text)?;
        let mut expanded = String::with_capacity(template.len() + text.len());
        expand::expand(template, &captures, &self.0.names, &mut expanded);
        Some(expanded)
    }
}

impl Parts {
    /// The compiled expression; `None` if it is too large, which is found out when it is made.
    fn program(&self) -> Option<&regex::Regex> {
        self.regex.get_or_init(|| compile(&self.pattern, PROGRAM_BYTES_MAX)).as_ref()
    }
}

fn compile(pattern: &str, bytes_max: usize) -> Option<regex::Regex> {
    regex::RegexBuilder::new(pattern).size_limit(bytes_max).nest_limit(NEST_MAX + 10).build().ok()
}

fn shape(hir: &regex_syntax::hir::Hir) -> Shape {
    if let HirKind::Repetition(r) = hir.kind()
        && let HirKind::Class(regex_syntax::hir::Class::Unicode(class)) = r.sub.kind()
        && class.ranges() == [regex_syntax::hir::ClassUnicodeRange::new('\0', char::MAX)]
        && r.max.is_none()
    {
        match r.min {
            0 => return Shape::All,
            1 => return Shape::NonEmpty,
            _ => {}
        }
    }
    literals::literal_set(hir).map_or(Shape::Program, Shape::Literals)
}

impl fmt::Debug for AnchoredRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnchoredRegex({:?})", self.0.source)
    }
}
