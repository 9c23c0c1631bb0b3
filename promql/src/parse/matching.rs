//! What stands between a binary operator and its right side: `bool`, `on`, `ignoring`, `group_left`, `fill`.

use super::lex::token::Kind;
use super::parser::{Parsed, Parser};
use crate::ast::{Cardinality, VectorMatching};

/// The modifiers of an operator.
#[derive(Default)]
pub(super) struct BinaryModifier {
    pub(super) matching: VectorMatching,
    pub(super) return_bool: bool,
}

impl Parser<'_> {
    pub(super) fn binary_modifier(&mut self) -> Parsed<BinaryModifier> {
        let mut modifier =
            BinaryModifier { return_bool: self.take_if(Kind::Bool).is_some(), ..BinaryModifier::default() };
        let matching = &mut modifier.matching;
        if matches!(self.peek(), Kind::On | Kind::Ignoring) {
            matching.on = self.take().kind == Kind::On;
            matching.labels = self.grouping_labels()?;
            self.group(matching)?;
        }
        self.fill(matching)?;
        Ok(modifier)
    }

    fn group(&mut self, matching: &mut VectorMatching) -> Parsed<()> {
        matching.card = match self.peek() {
            Kind::GroupLeft => Cardinality::ManyToOne,
            Kind::GroupRight => Cardinality::OneToMany,
            _ => return Ok(()),
        };
        self.take();
        // Labels may be left out, but what follows must be an operand then.
        let next = self.peek();
        let is_left_out =
            Self::begins_expr(next) || matches!(next, Kind::Fill | Kind::FillLeft | Kind::FillRight);
        if next == Kind::LeftParen || !is_left_out {
            matching.include = self.grouping_labels()?;
        }
        Ok(())
    }

    fn fill(&mut self, matching: &mut VectorMatching) -> Parsed<()> {
        match self.peek() {
            Kind::Fill => {
                matching.fill_lhs = Some(self.fill_value()?);
                matching.fill_rhs = matching.fill_lhs;
            }
            Kind::FillLeft => {
                matching.fill_lhs = Some(self.fill_value()?);
                if self.peek() == Kind::FillRight {
                    matching.fill_rhs = Some(self.fill_value()?);
                }
            }
            Kind::FillRight => {
                matching.fill_rhs = Some(self.fill_value()?);
                if self.peek() == Kind::FillLeft {
                    matching.fill_lhs = Some(self.fill_value()?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The word and `(number)`.
    fn fill_value(&mut self) -> Parsed<f64> {
        self.take();
        self.expect(Kind::LeftParen)?;
        let negative = self.peek() == Kind::Sub;
        if matches!(self.peek(), Kind::Add | Kind::Sub) {
            self.take();
        }
        if !matches!(self.peek(), Kind::Number | Kind::Duration) {
            return self.fail();
        }
        let token = self.take();
        let number = self.number(&token);
        self.expect(Kind::RightParen)?;
        Ok(if negative { -number.value } else { number.value })
    }
}
