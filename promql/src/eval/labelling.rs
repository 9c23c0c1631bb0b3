//! Functions that change labels only: `label_replace`, `label_join`.

use super::{Evaluator, Grid, plan::Call, track::Matrix};
use crate::engine::EvalError;
use model::{AnchoredRegex, Labels, METRIC_NAME};

fn is_label_name(name: &str) -> bool {
    !name.is_empty() && crate::go::is_utf8(name)
}

fn with_label(labels: &Labels, name: &str, value: &str) -> Labels {
    labels.to_builder().set(name, value).build()
}

impl<'a> Evaluator<'a> {
    /// Changes labels; `bytes` says how long the new value can become, which counts before it is made.
    fn relabelled(
        &self,
        call: &Call,
        grid: &Grid,
        bytes: impl Fn(&Labels) -> usize,
        change: impl Fn(&Labels) -> Option<Labels>,
    ) -> Result<Matrix<'a>, EvalError> {
        let mut matrix = self.vector(&call.args[0], grid)?;
        let names_metric = call.text(1) == METRIC_NAME;
        for track in &mut matrix.tracks {
            matrix.held.take(bytes(&track.labels) as u64)?;
            if let Some(labels) = change(&track.labels) {
                track.labels = labels;
                track.drop_name &= !names_metric;
            }
        }
        self.merged(matrix, grid)
    }

    /// `label_replace(v, dst, replacement, src, regex)`
    pub(crate) fn label_replace(&self, call: &Call, grid: &Grid) -> Result<Matrix<'a>, EvalError> {
        let (target, replacement, source, pattern) = (call.text(1), call.text(2), call.text(3), call.text(4));
        let regex = AnchoredRegex::new(pattern).map_err(|_| {
            EvalError::execution(format!("invalid regular expression in label_replace(): {pattern}"))
        })?;
        if !is_label_name(target) {
            return Err(EvalError::execution(format!(
                "invalid destination label name in label_replace(): {target}"
            )));
        }
        // Each `$1` of the template may bring the whole value.
        let groups = replacement.matches('$').count();
        let bytes = |labels: &Labels| replacement.len() + groups * labels.get(source).map_or(0, str::len);
        self.relabelled(call, grid, bytes, |labels| {
            let value = regex.expand(labels.get(source).unwrap_or(""), replacement)?;
            Some(with_label(labels, target, &value))
        })
    }

    /// `label_join(v, dst, separator, src...)`
    pub(crate) fn label_join(&self, call: &Call, grid: &Grid) -> Result<Matrix<'a>, EvalError> {
        let (target, separator) = (call.text(1), call.text(2));
        let sources: Vec<&str> = (3..call.args.len()).map(|index| call.text(index)).collect();
        if let Some(bad) = sources.iter().find(|name| !is_label_name(name)) {
            return Err(EvalError::execution(format!("invalid source label name in label_join(): {bad}")));
        }
        if !is_label_name(target) {
            return Err(EvalError::execution(format!(
                "invalid destination label name in label_join(): {target}"
            )));
        }
        let bytes = |labels: &Labels| {
            sources.iter().map(|name| separator.len() + labels.get(name).map_or(0, str::len)).sum()
        };
        self.relabelled(call, grid, bytes, |labels| {
            let values: Vec<&str> = sources.iter().map(|name| labels.get(name).unwrap_or("")).collect();
            Some(with_label(labels, target, &values.join(separator)))
        })
    }
}
