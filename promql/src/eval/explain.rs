//! A plan as text, and where each of its parts could be evaluated.
//!
//! Today every node holds all data, and a plan is evaluated where it was asked. A shard on another node could evaluate
//! the parts marked here and send their results instead of samples, without a bit of the answer changing:
//!
//! - `per series`: each result depends on one series of the data. What the shards give is merged by labels, as series
//!   are. A series that two shards hold (its target moved from one to the other) is sent as samples.
//! - `in parts`: what the shards give is combined into what one evaluation over all of it gives. Counts are whole
//!   numbers; of equal extremes that of the first labels wins, so a part says whose value it is. A shard that meets
//!   histograms where they count sends series.
//!
//! Everything else is evaluated where it is asked. So are `sum`, `avg`, `stddev` and `stdvar`: floats are added in the
//! order of labels over all shards, and sums of sums have other bits.

use super::{
    call::Func,
    plan::{Aggregate, Call, Kind, Node, Selector},
    window_func::WindowFunc,
};
use crate::ast::{AggregateOp, RangeMode};
use crate::duration::format_ms;
use std::fmt::Write;

/// Where a part of a plan can be evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Anywhere: it has no data in it.
    Anywhere,
    /// In each shard, series by series.
    Series,
    /// In each shard, with results that are combined.
    Parts,
    /// Where the query is asked.
    Here,
}

impl Place {
    /// Of one that keeps series apart, given those of its arguments: at most one of them has data.
    fn of_each(places: impl Iterator<Item = Place>) -> Place {
        let mut all = Place::Anywhere;
        for place in places {
            all = match (all, place) {
                (all, Place::Anywhere) => all,
                (Place::Anywhere, Place::Series) => Place::Series,
                _ => return Place::Here,
            };
        }
        all
    }

    fn mark(self) -> &'static str {
        match self {
            Place::Anywhere | Place::Here => "",
            Place::Series => "  << where the data is, per series",
            Place::Parts => "  << where the data is, in parts",
        }
    }
}

/// Where a node can be evaluated.
pub(crate) fn place(node: &Node) -> Place {
    match &node.kind {
        Kind::Number(_) | Kind::Text(_) => Place::Anywhere,
        Kind::Selector(_) | Kind::Range(_) => Place::Series,
        Kind::Subquery(subquery) => Place::of_each([place(&subquery.inner)].into_iter()),
        Kind::Negate(inner) | Kind::Plus(inner) | Kind::Invariant(inner) => place(inner),
        Kind::Binary(binary) if !binary.is_between_vectors() => {
            Place::of_each([&binary.left, &binary.right].into_iter().map(place))
        }
        Kind::Binary(_) => Place::Here,
        Kind::Call(call) => of_call(call),
        Kind::Aggregate(aggregate) => of_aggregate(aggregate),
    }
}

fn of_call(call: &Call) -> Place {
    let arguments = Place::of_each(call.args.iter().map(place));
    match call.func {
        Func::Absent | Func::Window(WindowFunc::Absent) if arguments == Place::Series => Place::Parts,
        // A label of its own for each series; labels that become equal are refused where all of them are.
        Func::LabelReplace | Func::LabelJoin => arguments,
        Func::Time | Func::Pi | Func::MaxOf | Func::MinOf => arguments,
        _ if call.streams() => arguments,
        _ => Place::Here,
    }
}

fn of_aggregate(aggregate: &Aggregate) -> Place {
    let param = aggregate.param.as_ref().map_or(Place::Anywhere, place);
    if place(&aggregate.inner) != Place::Series || param != Place::Anywhere {
        return Place::Here;
    }
    match aggregate.op {
        AggregateOp::LimitRatio => Place::Series, // by the hash of its labels
        AggregateOp::Count
        | AggregateOp::Group
        | AggregateOp::CountValues
        | AggregateOp::Min
        | AggregateOp::Max
        | AggregateOp::Topk
        | AggregateOp::Bottomk
        | AggregateOp::Limitk => Place::Parts,
        _ => Place::Here,
    }
}

/// The plan as text: a line for each node, arguments below it, and a mark where a part could leave this node.
pub(crate) fn explain(node: &Node) -> String {
    let mut out = String::new();
    line(&mut out, node, 0, true);
    out
}

/// `outermost` is false below a mark: the mark covers what is below.
fn line(out: &mut String, node: &Node, depth: usize, outermost: bool) {
    let place = place(node);
    let mark = if outermost { place.mark() } else { "" };
    let below = outermost && mark.is_empty();
    let text = match &node.kind {
        Kind::Number(value) => crate::number::format_float(*value),
        Kind::Text(text) => crate::go::quote(text),
        Kind::Selector(selector) => describe(selector),
        Kind::Range(range) => format!("{}[{}]", describe(&range.selector), format_ms(range.length)),
        Kind::Subquery(subquery) => {
            let step = if subquery.step > 0 { format_ms(subquery.step) } else { String::new() };
            let when = when(subquery.time, subquery.offset);
            format!("subquery [{}:{step}]{when}", format_ms(subquery.length))
        }
        Kind::Call(call) => call.name.to_owned(),
        Kind::Aggregate(aggregate) => {
            let labels = aggregate.grouping.join(", ");
            let by = match (aggregate.without, labels.is_empty()) {
                (true, _) => format!(" without ({labels})"),
                (false, false) => format!(" by ({labels})"),
                (false, true) => String::new(),
            };
            format!("{}{by}", aggregate.op.as_str())
        }
        Kind::Binary(binary) => format!("{} (binary)", binary.op.as_str()),
        Kind::Negate(_) => "- (sign)".to_owned(),
        Kind::Plus(_) => "+ (sign)".to_owned(),
        Kind::Invariant(_) => "once for all steps".to_owned(),
    };
    let indent = depth * 2;
    writeln!(out, "{:indent$}{text}{mark}", "").expect("a string takes all text");
    for child in children(node) {
        line(out, child, depth + 1, below);
    }
}

fn children(node: &Node) -> Vec<&Node> {
    match &node.kind {
        Kind::Number(_) | Kind::Text(_) | Kind::Selector(_) | Kind::Range(_) => Vec::new(),
        Kind::Subquery(subquery) => vec![&subquery.inner],
        Kind::Call(call) => call.args.iter().collect(),
        Kind::Aggregate(aggregate) => aggregate.param.iter().chain([&aggregate.inner]).collect(),
        Kind::Binary(binary) => vec![&binary.left, &binary.right],
        Kind::Negate(inner) | Kind::Plus(inner) | Kind::Invariant(inner) => vec![inner],
    }
}

fn describe(selector: &Selector) -> String {
    let matchers: Vec<String> = selector
        .matchers
        .iter()
        .map(|matcher| format!("{}{}{}", matcher.name, matcher.op, crate::go::quote(&matcher.value)))
        .collect();
    let mode = match selector.mode {
        RangeMode::Plain => "",
        RangeMode::Anchored => " anchored",
        RangeMode::Smoothed => " smoothed",
    };
    format!("{{{}}}{mode}{}", matchers.join(","), when(selector.time, selector.offset))
}

fn when(time: Option<i64>, offset: i64) -> String {
    let mut text = String::new();
    if let Some(time) = time {
        write!(text, " @ {}", time as f64 / 1000.0).expect("a string takes all text");
    }
    if offset != 0 {
        let sign = if offset < 0 { "-" } else { "" };
        let span = format_ms(offset.saturating_abs());
        write!(text, " offset {sign}{span}").expect("a string takes all text");
    }
    text
}
