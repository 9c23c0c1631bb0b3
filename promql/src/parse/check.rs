//! The meaning of a tree: types, counts of arguments, matching that makes sense. Texts as Prometheus has them.

use super::parser::Parser;
use crate::ast::{
    AggregateExpr, BinaryExpr, Call, Cardinality, Expr, PosRange, ValueType, VectorMatching, VectorSelector,
};
use model::METRIC_NAME;

impl Parser<'_> {
    /// Checks a tree, collecting errors, and fills in what follows from the types.
    pub(super) fn check(&mut self, expr: &mut Expr) -> ValueType {
        let (value_type, pos) = (expr.value_type(), expr.pos());
        match expr {
            Expr::Number(_) | Expr::String(_) => {}
            Expr::Paren(e) => {
                self.check(&mut e.expr);
            }
            Expr::StepInvariant(e) => {
                self.check(e);
            }
            Expr::Unary(e) => {
                let t = self.check(&mut e.expr);
                if !matches!(t, ValueType::Scalar | ValueType::Vector) {
                    let allowed =
                        "unary expression only allowed on expressions of type scalar or instant vector";
                    self.error(pos, format!("{allowed}, got \"{}\"", t.describe()));
                }
            }
            Expr::Binary(e) => self.check_binary(e, pos),
            Expr::Aggregate(e) => self.check_aggregate(e),
            Expr::Call(e) => self.check_call(e),
            Expr::Vector(e) => self.check_selector(e),
            Expr::Matrix(e) => self.check_selector(&mut e.selector),
            Expr::Subquery(e) => {
                let t = self.check(&mut e.expr);
                if t != ValueType::Vector {
                    self.error(pos, format!("subquery is only allowed on instant vector, got {t} instead"));
                }
            }
        }
        value_type
    }

    fn expect_type(&mut self, expr: &mut Expr, want: ValueType, context: &str) {
        let got = self.check(expr);
        if got != want {
            let (want, got) = (want.describe(), got.describe());
            self.error(expr.pos(), format!("expected type {want} in {context}, got {got}"));
        }
    }

    fn check_aggregate(&mut self, e: &mut AggregateExpr) {
        self.expect_type(&mut e.expr, ValueType::Vector, "aggregation expression");
        if let Some(param) = &mut e.param {
            self.expect_type(param, e.op.param_type(), "aggregation parameter");
        }
    }

    fn check_binary(&mut self, e: &mut BinaryExpr, pos: PosRange) {
        let lt = self.check(&mut e.lhs);
        let rt = self.check(&mut e.rhs);
        let op = e.op;
        let op_pos = self.operator_pos(e);
        if e.return_bool && !op.is_comparison() {
            self.error(op_pos, "bool modifier can only be used on comparison operators");
        }
        let scalars = lt == ValueType::Scalar && rt == ValueType::Scalar;
        if op.is_comparison() && !e.return_bool && scalars {
            self.error(op_pos, "comparisons between scalars must use BOOL modifier");
        }
        let matching = e.matching.get_or_insert_default();
        if op.is_set() && matching.card == Cardinality::OneToOne {
            matching.card = Cardinality::ManyToMany;
        }
        if matching.on
            && let Some(label) = matching.labels.iter().find(|label| matching.include.contains(label))
        {
            let label = crate::go::quote(label);
            self.error(op_pos, format!("label {label} must not occur in ON and GROUP clause at once"));
        }
        for (side, t) in [(e.lhs.pos(), lt), (e.rhs.pos(), rt)] {
            if !matches!(t, ValueType::Scalar | ValueType::Vector) {
                self.error(side, "binary expression must contain only scalar and instant vector types");
            }
        }
        let vectors = lt == ValueType::Vector && rt == ValueType::Vector;
        let has_fill = matching.fill_lhs.is_some() || matching.fill_rhs.is_some();
        if !vectors {
            if !matching.labels.is_empty() {
                self.error(pos, "vector matching only allowed between instant vectors");
            }
            if has_fill {
                self.error(pos, "filling in missing series only allowed between instant vectors");
            }
            e.matching = None;
        } else if op.is_set() {
            self.check_set_matching(matching, op.as_str(), pos, has_fill);
        }
        if op.is_set() && (lt == ValueType::Scalar || rt == ValueType::Scalar) {
            self.error(pos, format!("set operator \"{op}\" not allowed in binary scalar expression"));
        }
    }

    fn check_set_matching(&mut self, matching: &VectorMatching, op: &str, pos: PosRange, has_fill: bool) {
        if matching.card != Cardinality::ManyToMany {
            self.error(pos, format!("no grouping allowed for \"{op}\" operation"));
            self.error(pos, "set operations must always be many-to-many");
        }
        if has_fill {
            self.error(pos, "filling in missing series not allowed for set operators");
        }
    }

    /// Where the operator and its modifiers stand: between the sides, without the spaces. The end is that of the
    /// last character's start, as Prometheus has it.
    fn operator_pos(&self, e: &BinaryExpr) -> PosRange {
        let bytes = self.text.as_bytes();
        let is_space = |at: usize| bytes.get(at).is_some_and(|b| super::lex::is_space(*b as char));
        let mut pos = PosRange { start: e.lhs.pos().end, end: e.rhs.pos().start.saturating_sub(1) };
        while is_space(pos.start) {
            pos.start += 1;
        }
        while is_space(pos.end) && pos.end > 0 {
            pos.end -= 1;
        }
        pos
    }

    fn check_call(&mut self, e: &mut Call) {
        let (name, types, count) = (e.func.name, e.func.arg_types, e.args.len());
        if e.func.variadic == 0 {
            if types.len() != count {
                let want = types.len();
                self.error(e.pos, format!("expected {want} argument(s) in call to \"{name}\", got {count}"));
            }
        } else {
            let least = types.len() - 1;
            let most = usize::try_from(e.func.variadic).map_or(usize::MAX, |extra| least + extra);
            if count < least {
                let wrong =
                    format!("expected at least {least} argument(s) in call to \"{name}\", got {count}");
                self.error(e.pos, wrong);
            } else if count > most {
                let wrong = format!("expected at most {most} argument(s) in call to \"{name}\", got {count}");
                self.error(e.pos, wrong);
            }
        }
        if name == "info" && count > 1 {
            self.check_info_selector(e);
        }
        let last = types.len().saturating_sub(1);
        for (i, arg) in e.args.iter_mut().enumerate() {
            if i >= types.len() && e.func.variadic == 0 {
                break;
            }
            let want = types[i.min(last)];
            let got = self.check(arg);
            if got != want {
                let (want, got) = (want.describe(), got.describe());
                let wrong = format!("expected type {want} in call to function \"{name}\", got {got}");
                self.error(arg.pos(), wrong);
            }
        }
    }

    /// The second argument of `info` holds conditions on info series, not a selector of its own.
    fn check_info_selector(&mut self, e: &mut Call) {
        let pos = e.pos;
        let Some(arg) = e.args.get_mut(1) else { return };
        let (t, arg_pos) = (arg.value_type(), arg.pos());
        if t != ValueType::Vector {
            let got = t.describe();
            let wrong = format!("expected type instant vector in call to function \"info\", got {got}");
            self.error(pos, wrong);
        }
        match arg {
            Expr::Vector(selector) if selector.name.is_empty() => selector.bypass_empty_matcher_check = true,
            Expr::Vector(_) => {
                self.error(arg_pos, "expected label selectors only, got vector selector instead");
            }
            _ => self.error(arg_pos, "expected label selectors only"),
        }
    }

    fn check_selector(&mut self, e: &mut VectorSelector) {
        if !e.name.is_empty() {
            // The last condition is the name outside the braces.
            let inside = e.matchers.len().saturating_sub(1);
            let twice: Vec<String> = e.matchers[..inside]
                .iter()
                .filter(|m| m.name == METRIC_NAME)
                .map(|m| format!("{} or {}", crate::go::quote(&e.name), crate::go::quote(&m.value)))
                .collect();
            for names in twice {
                self.error(e.pos, format!("metric name must not be set twice: {names}"));
            }
            return;
        }
        if !e.bypass_empty_matcher_check && e.matchers.iter().all(|m| m.matches("")) {
            self.error(e.pos, "vector selector must contain at least one non-empty matcher");
        }
    }
}
