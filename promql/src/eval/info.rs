//! `info`: adds labels of info series (`target_info`) to the series of the same `job` and `instance`.

use super::{
    Evaluator, Grid,
    meter::Held,
    plan::{Call, Kind, Node, Selector},
    select::Cursor,
    series::is_stale,
    track::{Cell, Matrix, Track, is_present},
};
use crate::ast::RangeMode;
use crate::engine::EvalError;
use model::{Labels, METRIC_NAME, MatchOp, Matcher, Series};
use std::collections::{BTreeMap, BTreeSet, HashMap};

const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// An info series: for each step the time of the sample in force, or nothing.
struct InfoSeries {
    labels: Labels,
    times: Vec<Option<i64>>,
}

/// Info series of one metric with the same identifying labels.
type Family = Vec<usize>;

/// Matchers of the second argument.
struct Wanted {
    names: Vec<Matcher>,
    data: Vec<Matcher>,
}

impl Wanted {
    fn of(selector: Option<&Selector>) -> Wanted {
        let all = selector.map_or(&[][..], |selector| &selector.matchers);
        let (names, data) = all.iter().cloned().partition(|matcher: &Matcher| matcher.name == METRIC_NAME);
        Wanted { names, data }
    }

    /// What the names of info series have to match.
    fn effective_names(&self) -> Vec<Matcher> {
        let positive = |matcher: &Matcher| matches!(matcher.op, MatchOp::Equal | MatchOp::Regex);
        if self.names.iter().any(positive) {
            return self.names.clone();
        }
        if self.names.is_empty() {
            return vec![Matcher::equal(METRIC_NAME, "target_info")];
        }
        let any = Matcher::new(MatchOp::Regex, METRIC_NAME, ".+_info").into_iter();
        any.chain(self.names.iter().cloned()).collect()
    }

    fn takes(&self, label: &str) -> bool {
        self.data.is_empty() || self.data.iter().any(|matcher| matcher.name == label)
    }

    /// Whether a series without info series stays.
    fn allows_none(&self) -> bool {
        self.data.iter().all(|matcher| matcher.matches(""))
    }
}

/// `@` and offset that govern the first argument: those of its first selector and of the subqueries around it, up to
/// the first `@`.
fn reference(node: &Node) -> Option<(Option<i64>, i64)> {
    match &node.kind {
        Kind::Number(_) | Kind::Text(_) => None,
        Kind::Selector(selector) => Some((selector.time, selector.offset)),
        Kind::Range(range) => Some((range.selector.time, range.selector.offset)),
        Kind::Subquery(subquery) => match reference(&subquery.inner)? {
            (None, offset) => Some((subquery.time, offset + subquery.offset)),
            fixed => Some(fixed),
        },
        Kind::Negate(inner) | Kind::Plus(inner) | Kind::Invariant(inner) => reference(inner),
        Kind::Call(call) => call.args.iter().find_map(reference),
        Kind::Aggregate(aggregate) => {
            reference(&aggregate.inner).or_else(|| aggregate.param.as_ref().and_then(reference))
        }
        Kind::Binary(binary) => reference(&binary.left).or_else(|| reference(&binary.right)),
    }
}

/// Escapes what has a meaning in a regular expression.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

impl<'a> Evaluator<'a> {
    /// `info(v)` and `info(v, {...})`
    pub(crate) fn info(&self, call: &Call, grid: &Grid) -> Result<Matrix<'a>, EvalError> {
        let (time, offset) = reference(&call.args[0]).unwrap_or((None, 0));
        let matrix = self.vector(&call.args[0], grid)?;
        let wanted = Wanted::of(call.args.get(1).and_then(|arg| match &arg.kind {
            Kind::Selector(selector) => Some(selector),
            Kind::Invariant(inner) => match &inner.kind {
                Kind::Selector(selector) => Some(selector),
                _ => None,
            },
            _ => None,
        }));
        let names = wanted.effective_names();
        let is_info = |track: &Track| names.iter().all(|m| m.matches(track.labels.metric_name()));
        let ignored: Vec<bool> = matrix.tracks.iter().map(is_info).collect();
        let mut matchers = wanted.data.clone();
        let mut identified = false;
        for label in IDENTIFYING {
            let tracks = matrix.tracks.iter().zip(&ignored).filter(|(_, ignored)| !**ignored);
            let values: BTreeSet<&str> = tracks.filter_map(|(track, _)| track.labels.get(label)).collect();
            if !values.is_empty() {
                identified = true;
                let any = values.iter().map(|value| escape(value)).collect::<Vec<_>>().join("|");
                let matcher = Matcher::new(MatchOp::Regex, label, any);
                matchers.push(matcher.map_err(|error| EvalError::execution(error.to_string()))?);
            }
        }
        matchers.extend(names);
        let mut infos = Vec::new();
        let mut held = Held::new(self.meter);
        if identified {
            let selector = Selector { matchers, time, offset, mode: RangeMode::Plain, stats_only: false };
            infos = self.info_series(&selector, grid, &mut held)?;
        }
        let joined = self.join_infos(&matrix, &ignored, &infos, &wanted, grid)?;
        self.merged(joined, grid)
    }

    fn info_series(
        &self,
        selector: &Selector,
        grid: &Grid,
        held: &mut Held<'_>,
    ) -> Result<Vec<InfoSeries>, EvalError> {
        let mut infos = Vec::new();
        self.select(selector, grid, self.lookback, 0, |series| {
            let Series { labels, samples } = series;
            let mut cursor = Cursor::new(&samples, self.lookback);
            let bytes = (grid.steps * size_of::<Option<i64>>() + size_of::<InfoSeries>()) as u64;
            held.take(bytes)?;
            let mut times = vec![None; grid.steps];
            for (step, time) in times.iter_mut().enumerate() {
                let Some(position) = cursor.seek(selector.reference(grid.time(step))) else { continue };
                match cursor.histogram(position) {
                    None => *time = Some(samples.timestamps[position]),
                    Some(histogram) if is_stale(histogram) => {}
                    Some(_) => {
                        return Err(EvalError::execution(format!(
                            "this should be an info metric, with float samples: {labels}"
                        )));
                    }
                }
            }
            if times.iter().any(Option::is_some) {
                for (step, _) in times.iter().enumerate().filter(|(_, time)| time.is_some()) {
                    self.meter.count_read(step, 1);
                }
                infos.push(InfoSeries { labels, times });
            } else {
                held.give(bytes);
            }
            Ok(())
        })?;
        Ok(infos)
    }

    fn join_infos(
        &self,
        matrix: &Matrix<'a>,
        ignored: &[bool],
        infos: &[InfoSeries],
        wanted: &Wanted,
        grid: &Grid,
    ) -> Result<Matrix<'a>, EvalError> {
        let identity = |labels: &Labels| labels.retain(|name| IDENTIFYING.contains(&name));
        let mut families: BTreeMap<&str, HashMap<Labels, Family>> = BTreeMap::new();
        for (index, info) in infos.iter().enumerate() {
            let of_metric = families.entry(info.labels.metric_name()).or_default();
            of_metric.entry(identity(&info.labels)).or_default().push(index);
        }
        self.refuse_duplicates(matrix, infos, &families, grid)?;
        let mut result = Matrix::new(self.meter);
        // As many outputs as there are combinations of info series over time: they count before they are filled.
        let output_bytes = grid.steps as u64 * 8 + 128;
        for (track, ignored) in matrix.tracks.iter().zip(ignored) {
            self.check()?;
            if *ignored {
                result.push(track.clone())?;
                continue;
            }
            let id = identity(&track.labels);
            let candidates: Vec<&Family> = families.values().filter_map(|by_id| by_id.get(&id)).collect();
            let mut outputs: HashMap<Vec<usize>, Option<usize>> = HashMap::new();
            let mut tracks: Vec<Track> = Vec::new();
            for step in 0..grid.steps {
                if matches!(track.get(step), Cell::Absent) {
                    continue;
                }
                let chosen: Vec<usize> = candidates
                    .iter()
                    .filter_map(|family| {
                        let live = family.iter().filter(|index| infos[**index].times[step].is_some());
                        live.max_by_key(|index| infos[**index].times[step]).copied()
                    })
                    .collect();
                let output = match outputs.get(&chosen) {
                    Some(output) => *output,
                    None => {
                        let labels = enriched(track, &chosen, infos, wanted)?;
                        if labels.is_some() {
                            result.held.take(output_bytes)?;
                        }
                        let output = labels.map(|labels| {
                            let mut out = Track::empty(labels, grid.steps);
                            out.drop_name = track.drop_name;
                            tracks.push(out);
                            tracks.len() - 1
                        });
                        outputs.insert(chosen, output);
                        output
                    }
                };
                if let Some(index) = output {
                    tracks[index].set(step, track.get(step).into());
                }
            }
            for track in tracks {
                result.held.give(output_bytes);
                result.push_if_any(track)?;
            }
        }
        Ok(result)
    }

    /// Two info series of one metric and target with samples of the same time contradict each other.
    fn refuse_duplicates(
        &self,
        matrix: &Matrix<'a>,
        infos: &[InfoSeries],
        families: &BTreeMap<&str, HashMap<Labels, Family>>,
        grid: &Grid,
    ) -> Result<(), EvalError> {
        let mut crowded: Vec<&Family> = families.values().flat_map(HashMap::values).collect();
        crowded.retain(|family| family.len() > 1);
        crowded.sort();
        let at_each_step = crowded.iter().map(|family| family.len()).sum::<usize>() as u64;
        let mut unchecked = 0;
        for step in 0..grid.steps {
            self.check_now_and_then(&mut unchecked, at_each_step)?;
            if crowded.is_empty() || !matrix.tracks.iter().any(|track| is_present(track.floats[step])) {
                continue;
            }
            for family in &crowded {
                let mut newest: Option<(i64, usize)> = None;
                for index in family.iter() {
                    let Some(time) = infos[*index].times[step] else { continue };
                    match newest {
                        Some((before, existing)) if before == time => {
                            return Err(EvalError::execution(format!(
                                "found duplicate series for info metric: existing {} @ {time}, new {} @ {time}",
                                infos[existing].labels, infos[*index].labels,
                            )));
                        }
                        Some((before, _)) if before > time => {}
                        _ => newest = Some((time, *index)),
                    }
                }
            }
        }
        Ok(())
    }
}

/// The labels of a series with those of its info series; `None` if it has none and needs one.
fn enriched(
    track: &Track,
    chosen: &[usize],
    infos: &[InfoSeries],
    wanted: &Wanted,
) -> Result<Option<Labels>, EvalError> {
    if chosen.is_empty() {
        return Ok(wanted.allows_none().then(|| track.labels.clone()));
    }
    let mut added: BTreeMap<&str, &str> = BTreeMap::new();
    for index in chosen {
        for (name, value) in &infos[*index].labels {
            if name == METRIC_NAME || !wanted.takes(name) {
                continue;
            }
            if added.get(name).is_some_and(|known| *known != value) {
                return Err(EvalError::execution(format!("conflicting label: {name}")));
            }
            if track.labels.get(name).is_none() {
                added.insert(name, value);
            }
        }
    }
    let mut builder = track.labels.to_builder();
    for (name, value) in added {
        builder.set(name, value);
    }
    Ok(Some(builder.build()))
}
