//! An expression that can be made smaller: text around typed holes.

use std::fmt;

/// What an expression evaluates to; one may stand in for another only if this is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Vector,
    Scalar,
    /// A range of samples, which only functions take.
    Range,
    /// A string, or what may be no expression at all.
    Text,
}

/// Text around operands: one text more than there are operands.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    pub(crate) kind: Kind,
    texts: Vec<String>,
    operands: Vec<Expression>,
}

impl Expression {
    /// Without operands.
    pub(crate) fn leaf(kind: Kind, text: impl Into<String>) -> Expression {
        Expression { kind, texts: vec![text.into()], operands: Vec::new() }
    }

    /// `template` has a `#` for each operand.
    pub(crate) fn of(kind: Kind, template: &str, operands: Vec<Expression>) -> Expression {
        let texts: Vec<_> = template.split('#').map(str::to_owned).collect();
        assert_eq!(texts.len(), operands.len() + 1, "{template}");
        Expression { kind, texts, operands }
    }

    /// Expressions with less in them, boldest first.
    pub(crate) fn smaller(&self) -> Vec<Expression> {
        let mut found: Vec<_> = self.operands.iter().filter(|o| self.kind == o.kind).cloned().collect();
        // A range inside is a subquery's or a selector's; what a subquery is of may do for what was made of it.
        let ranges = self.operands.iter().filter(|o| o.kind == Kind::Range && self.kind == Kind::Vector);
        found.extend(ranges.flat_map(|range| range.operands.iter().cloned()));
        for (i, operand) in self.operands.iter().enumerate() {
            let simplest = match operand.kind {
                Kind::Text => None,
                Kind::Vector if operand.operands.is_empty() => None,
                Kind::Vector => Some(Expression::leaf(Kind::Vector, "node_load1")),
                Kind::Scalar if operand.operands.is_empty() => None,
                Kind::Scalar => Some(Expression::leaf(Kind::Scalar, "2")),
                Kind::Range if operand.operands.is_empty() => None,
                Kind::Range => Some(Expression::leaf(Kind::Range, "node_load1[5m]")),
            };
            let instead = simplest.into_iter().chain(operand.smaller());
            found.extend(instead.map(|smaller| {
                let mut copy = self.clone();
                copy.operands[i] = smaller;
                copy
            }));
        }
        found
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts[0])?;
        for (operand, text) in self.operands.iter().zip(&self.texts[1..]) {
            write!(f, "{operand}{text}")?;
        }
        Ok(())
    }
}
