//! `/api/v1/series`, `/api/v1/labels`, `/api/v1/label/NAME/values`: what there is, without samples.

use crate::{
    call::Call,
    error::{ApiError, ErrorType},
    job, param,
    respond::Answer,
    selector,
};
use axum::response::Response;
use model::{
    Budget, LabelQuery, Labels, OpenView, QueryError, SelectRequest, Series, SeriesSet, TimestampMs,
};
use std::{cmp::Reverse, collections::BinaryHeap};

const TRUNCATED: &str = "results truncated due to limit";

struct Range {
    start: TimestampMs,
    end: TimestampMs,
    /// 0 is none.
    limit: usize,
}

impl Range {
    fn of(call: &Call) -> Result<Range, ApiError> {
        let form = &call.form;
        let limit = param::limit(form.get("limit")).map_err(|e| ApiError::parameter("limit", e))?;
        let time = |name, default| {
            param::time_or(form.get(name), name, default).map_err(|e| ApiError::parameter(name, e))
        };
        Ok(Range { start: time("start", param::TIME_MIN)?, end: time("end", param::TIME_MAX)?, limit })
    }

    /// What storage is asked for: one more than will be shown tells whether something was cut.
    fn hint(&self, list_max: usize) -> usize {
        match self.limit {
            0 => list_max.saturating_add(1),
            limit => limit.saturating_add(1),
        }
    }
}

/// Runs a listing on a thread and writes its answer.
async fn list<F>(call: Call, list_max: usize, limit: usize, list: F) -> Result<Response, ApiError>
where
    F: FnOnce(&OpenView, &Budget, &mut Answer) -> Result<usize, QueryError> + Send + 'static,
{
    let view = crate::view::open(&call.state, &call.form, &call.headers).await?;
    let budget = call.budget(call.state.options.query_timeout);
    let _guard = job::CancelOnDrop(budget.clone());
    let state = call.state.clone();
    let work = move || {
        let mut answer = Answer::new(call.encoding);
        answer.view(&view.indexes);
        let found = list(&view, &budget, &mut answer)?;
        if limit == 0 && found > list_max {
            let text = format!("more than {list_max} entries; narrow the selection or name a limit");
            return Err(ApiError::new(ErrorType::Execution, text));
        }
        if limit > 0 && found > limit {
            answer.warn([TRUNCATED.to_owned()]);
        }
        answer.warn(view.warnings);
        Ok(answer.finish())
    };
    job::run(&state, "list", work).await?
}

pub(crate) async fn names(call: Call) -> Result<Response, ApiError> {
    listing(call, None).await
}

pub(crate) async fn values(call: Call, name: String) -> Result<Response, ApiError> {
    let name = if name.starts_with("U__") { unescape(&name) } else { name };
    if name.is_empty() {
        return Err(ApiError::bad_data(format!("invalid label name: {name:?}")));
    }
    listing(call, Some(name)).await
}

async fn listing(call: Call, name: Option<String>) -> Result<Response, ApiError> {
    let range = Range::of(&call)?;
    let matcher_sets =
        selector::sets(&call.state, &call.form.all("match[]")).await?.map_err(ApiError::bad_data)?;
    let list_max = call.state.options.list_max;
    let query = LabelQuery { matcher_sets, start: range.start, end: range.end, limit: range.hint(list_max) };
    let limit = range.limit;
    list(call, list_max, limit, move |view, budget, answer| {
        let found = match &name {
            Some(name) => view.queryable.label_values(name, &query, budget)?,
            None => view.queryable.label_names(&query, budget)?,
        };
        let shown = if limit > 0 { found.len().min(limit) } else { found.len() };
        crate::json::texts(answer.data(), found[..shown].iter().map(String::as_str));
        Ok(found.len())
    })
    .await
}

pub(crate) async fn series(call: Call) -> Result<Response, ApiError> {
    let matches = call.form.all("match[]");
    if matches.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let range = Range::of(&call)?;
    let sets = selector::sets(&call.state, &matches).await?.map_err(|e| ApiError::parameter("match[]", e))?;
    let list_max = call.state.options.list_max;
    let limit = range.limit;
    list(call, list_max, limit, move |view, budget, answer| {
        let request = |matchers| SelectRequest {
            matchers,
            start: range.start,
            end: range.end,
            with_samples: false,
            limit: range.hint(list_max),
        };
        let shown_max = if limit > 0 { limit } else { list_max };
        let mut found = 0;
        answer.data().push(b'[');
        merged(view, budget, sets.into_iter().map(request).collect(), |series| {
            found += 1;
            if found <= shown_max {
                if found > 1 {
                    answer.data().push(b',');
                }
                crate::json::labels(answer.data(), &series.labels);
                budget.take(answer.roll() as u64)?;
            }
            Ok(found <= shown_max)
        })?;
        answer.data().push(b']');
        Ok(found)
    })
    .await
}

/// Walks the union of several selects in ascending order of labels, each label set once, until `each` says no.
pub(crate) fn merged(
    view: &OpenView,
    budget: &Budget,
    requests: Vec<SelectRequest>,
    mut each: impl FnMut(Series) -> Result<bool, QueryError>,
) -> Result<(), QueryError> {
    let mut sets: Vec<SeriesSet<'_>> =
        requests.iter().map(|request| view.queryable.select(request, budget)).collect::<Result<_, _>>()?;
    let mut heads: Vec<Option<Series>> =
        sets.iter_mut().map(|set| set.next().transpose()).collect::<Result<_, _>>()?;
    let mut order: BinaryHeap<Reverse<(Labels, usize)>> = heads
        .iter()
        .enumerate()
        .filter_map(|(i, head)| head.as_ref().map(|series| Reverse((series.labels.clone(), i))))
        .collect();
    let mut before: Option<Labels> = None;
    while let Some(Reverse((labels, i))) = order.pop() {
        budget.check()?;
        let series = heads[i].take().expect("a set in the heap has a head");
        heads[i] = sets[i].next().transpose()?;
        if let Some(next) = &heads[i] {
            order.push(Reverse((next.labels.clone(), i)));
        }
        if before.as_ref() != Some(&labels) {
            before = Some(labels);
            if !each(series)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Undoes the escaping of names that are not legacy names: `U__a_2e_b__c` is `a.b_c`. What is not escaped text is
/// left as it is.
fn unescape(name: &str) -> String {
    let mut out = String::new();
    let mut rest = &name[3..];
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let code = rest.find('_').filter(|end| (1..=6).contains(end)).and_then(|end| {
            let number = u32::from_str_radix(&rest[..end], 16).ok()?;
            Some((char::from_u32(number)?, end))
        });
        let Some((character, end)) = code else { return name.to_owned() };
        out.push(character);
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_unescaped() {
        assert_eq!(unescape("U__a_2e_b"), "a.b");
        assert_eq!(unescape("U__a__b"), "a_b");
        assert_eq!(unescape("U___1f600_"), "😀");
        assert_eq!(unescape("U__a_zz_b"), "U__a_zz_b");
        assert_eq!(unescape("U__a_"), "U__a_");
    }
}
