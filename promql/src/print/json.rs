//! Tree to the JSON of `/api/v1/parse_query`, made for the tree view of Prometheus's user interface
//! (`web/api/v1/translate_ast.go`). Keys are in alphabetical order, as Go writes maps.

use crate::ast::{
    AtModifier, DurationArg, DurationExpr, Expr, RangeMode, ValueType, VectorMatching, VectorSelector,
};
use crate::signature::Function;

/// The tree as JSON.
#[must_use]
pub fn ast_json(expr: &Expr) -> String {
    let mut out = Json(String::new());
    out.expr(expr);
    out.0
}

/// A text that is being written. Each object is written key by key.
struct Json(String);

impl Json {
    /// Opens an object, or goes on in it.
    fn key(&mut self, key: &str) -> &mut Json {
        let open = self.0.ends_with('{');
        self.0.push_str(if open { "\"" } else { ",\"" });
        self.0.push_str(key);
        self.0.push_str("\":");
        self
    }

    fn raw(&mut self, text: &str) -> &mut Json {
        self.0.push_str(text);
        self
    }

    fn bool(&mut self, value: bool) {
        self.raw(if value { "true" } else { "false" });
    }

    /// A string as Go's `encoding/json` writes it: safe inside HTML, bytes that are no character replaced.
    fn string(&mut self, text: &str) {
        self.0.push('"');
        for c in text.chars() {
            match c {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                '\t' => self.0.push_str("\\t"),
                c if crate::go::is_stray(c) => self.0.push_str("\\ufffd"),
                c if (c as u32) < 0x20 || matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') => {
                    self.0.push_str(&format!("\\u{:04x}", c as u32))
                }
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Json, &T)) {
        self.raw("[");
        for (i, item) in items.iter().enumerate() {
            self.raw(if i > 0 { "," } else { "" });
            write(self, item);
        }
        self.raw("]");
    }

    fn strings(&mut self, texts: &[String]) {
        self.list(texts, |out, text| out.string(text));
    }

    fn expr(&mut self, expr: &Expr) {
        if let Expr::StepInvariant(inner) = expr {
            return self.expr(inner);
        }
        self.raw("{");
        match expr {
            Expr::StepInvariant(_) => {}
            Expr::Number(e) => {
                self.key("type").string("numberLiteral");
                self.key("val").string(&crate::number::format_float(e.value));
            }
            Expr::String(e) => {
                self.key("type").string("stringLiteral");
                self.key("val").string(&e.value);
            }
            Expr::Paren(e) => {
                self.key("expr").expr(&e.expr);
                self.key("type").string("parenExpr");
            }
            Expr::Unary(e) => {
                self.key("expr").expr(&e.expr);
                self.key("op").string(e.op.as_str());
                self.key("type").string("unaryExpr");
            }
            Expr::Binary(e) => {
                self.key("bool").bool(e.return_bool);
                self.key("lhs").expr(&e.lhs);
                self.key("matching").matching(e.matching.as_ref());
                self.key("op").string(e.op.as_str());
                self.key("rhs").expr(&e.rhs);
                self.key("type").string("binaryExpr");
            }
            Expr::Aggregate(e) => {
                self.key("expr").expr(&e.expr);
                self.key("grouping").strings(&e.grouping);
                self.key("op").string(e.op.as_str());
                match &e.param {
                    Some(param) => self.key("param").expr(param),
                    None => {
                        self.key("param").raw("null");
                    }
                }
                self.key("type").string("aggregation");
                self.key("without").bool(e.without);
            }
            Expr::Call(e) => {
                self.key("args").list(&e.args, |out, arg| out.expr(arg));
                self.key("func").function(e.func);
                self.key("type").string("call");
            }
            Expr::Vector(e) => {
                self.selector(e, None);
                self.key("type").string("vectorSelector");
            }
            Expr::Matrix(e) => {
                self.selector(&e.selector, Some(&e.range));
                self.key("type").string("matrixSelector");
            }
            Expr::Subquery(e) => {
                self.key("expr").expr(&e.expr);
                self.duration_arg("offset", &e.offset);
                self.duration_arg("range", &e.range);
                self.at_boundary(e.at);
                self.duration_arg("step", &e.step);
                self.at_time(e.at);
                self.key("type").string("subquery");
            }
        }
        self.raw("}");
    }

    fn matching(&mut self, matching: Option<&VectorMatching>) {
        let Some(m) = matching else {
            self.raw("null");
            return;
        };
        self.raw("{").key("card").string(m.card.as_str());
        self.key("fillValues").raw("{").key("lhs").fill(m.fill_lhs);
        self.key("rhs").fill(m.fill_rhs);
        self.raw("}").key("include").strings(&m.include);
        self.key("labels").strings(&m.labels);
        self.key("on").bool(m.on);
        self.raw("}");
    }

    fn fill(&mut self, value: Option<f64>) {
        match value {
            Some(value) if value.is_finite() => self.raw(&crate::number::format_float_json(value)),
            // JSON has no other numbers.
            _ => self.raw("null"),
        };
    }

    fn function(&mut self, func: &Function) {
        self.raw("{").key("argTypes").list(func.arg_types, |out, t: &ValueType| out.string(t.as_str()));
        self.key("name").string(func.name);
        self.key("returnType").string(func.return_type.as_str());
        self.key("variadic").raw(&func.variadic.to_string());
        self.raw("}");
    }

    /// Everything but the type of a selector, with or without a range.
    fn selector(&mut self, e: &VectorSelector, range: Option<&DurationArg>) {
        self.key("anchored").bool(e.mode == RangeMode::Anchored);
        self.key("matchers").list(&e.matchers, |out, m| {
            out.raw("{").key("name").string(&m.name);
            out.key("type").string(&m.op.to_string());
            out.key("value").string(&m.value);
            out.raw("}");
        });
        self.key("name").string(&e.name);
        self.duration_arg("offset", &e.offset);
        if let Some(range) = range {
            self.duration_arg("range", range);
        }
        self.key("smoothed").bool(e.mode == RangeMode::Smoothed);
        self.at_boundary(e.at);
        self.at_time(e.at);
    }

    fn at_boundary(&mut self, at: Option<AtModifier>) {
        self.key("startOrEnd").raw(match at {
            Some(AtModifier::Start) => "\"start\"",
            Some(AtModifier::End) => "\"end\"",
            _ => "null",
        });
    }

    fn at_time(&mut self, at: Option<AtModifier>) {
        match at {
            Some(AtModifier::Time(ms)) => self.key("timestamp").raw(&ms.to_string()),
            _ => self.key("timestamp").raw("null"),
        };
    }

    fn duration_arg(&mut self, name: &str, arg: &DurationArg) {
        self.key(name).raw(&arg.ms.to_string());
        self.key(&format!("{name}Expr"));
        match &arg.expr {
            Some(expr) => self.duration(expr),
            None => {
                self.raw("null");
            }
        }
    }

    fn duration(&mut self, expr: &DurationExpr) {
        let (op, lhs, rhs) = match expr {
            DurationExpr::Number(n) => {
                self.raw("{").key("duration").bool(n.is_duration);
                self.key("type").string("numberLiteral");
                self.key("val").string(&crate::number::format_float(n.value));
                self.raw("}");
                return;
            }
            DurationExpr::Step { .. } => ("step", None, None),
            DurationExpr::Range { .. } => ("range", None, None),
            DurationExpr::Unary { minus, expr, .. } => (if *minus { "-" } else { "+" }, None, Some(&**expr)),
            DurationExpr::Binary { op, lhs, rhs, .. } => (op.as_str(), Some(&**lhs), Some(&**rhs)),
        };
        self.raw("{").key("lhs").side(lhs);
        self.key("op").string(op);
        self.key("rhs").side(rhs);
        self.key("type").string("durationExpr");
        self.key("wrapped").bool(expr.is_wrapped());
        self.raw("}");
    }

    fn side(&mut self, side: Option<&DurationExpr>) {
        match side {
            Some(side) => self.duration(side),
            None => {
                self.raw("null");
            }
        }
    }
}
