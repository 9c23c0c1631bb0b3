//! Equal label sets of several sources as one series, and several shards as one store.
//!
//! At equal timestamps the lower (shard, source) wins. A stale marker ends its own source's part only: while another
//! source is live it is left out, so a series that one source hands to another shows no hole.

use super::view::{PartsIter, ShardView, limited};
use model::{
    Budget, LabelQuery, Labels, Matcher, QueryError, Queryable, Samples, SelectRequest, Series, SeriesSet,
    ShardId, Spawner, is_stale_nan,
};
use std::{collections::BTreeSet, sync::Arc};

/// How long after its last sample a source counts as live: Prometheus's default lookback.
const LIVE_MS: i64 = 300_000;

/// What one source has of a series.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub shard: ShardId,
    pub source: u32,
    pub samples: Samples,
}

impl Part {
    fn is_stale(&self, at: usize) -> bool {
        is_stale_nan(self.samples.floats[at])
    }
}

/// One series of several parts; the budget gets back what is dropped, all of it if there is an error.
pub(crate) fn merge_parts(mut parts: Vec<Part>, budget: &Budget) -> Result<Samples, QueryError> {
    let taken: u64 = parts.iter().map(|part| part.samples.bytes()).sum();
    parts.retain(|part| !part.samples.is_empty());
    if parts.len() < 2 {
        return Ok(parts.pop().map(|part| part.samples).unwrap_or_default());
    }
    parts.sort_by_key(|part| (part.shard, part.source));
    let mut at = vec![0_usize; parts.len()];
    let mut histogram_at = vec![0_usize; parts.len()];
    let mut merged = Samples::default();
    loop {
        let next = parts.iter().zip(&at).filter_map(|(part, at)| part.samples.timestamps.get(*at)).min();
        let Some(&timestamp) = next else { break };
        let here: Vec<usize> = (0..parts.len())
            .filter(|i| parts[*i].samples.timestamps.get(at[*i]) == Some(&timestamp))
            .collect();
        let value = here.iter().copied().find(|i| !parts[*i].is_stale(at[*i]));
        let live_elsewhere = (0..parts.len()).any(|i| {
            !here.contains(&i)
                && at[i] > 0
                && !parts[i].is_stale(at[i] - 1)
                && timestamp - parts[i].samples.timestamps[at[i] - 1] <= LIVE_MS
        });
        let winner = value.or_else(|| here.first().copied().filter(|_| !live_elsewhere));
        for i in here {
            let samples = &parts[i].samples;
            let histogram = samples
                .histograms
                .positions()
                .get(histogram_at[i])
                .filter(|position| **position as usize == at[i])
                .map(|_| samples.histograms.row(histogram_at[i]));
            if winner == Some(i) {
                if let Some(histogram) = histogram {
                    merged.histograms.push_row(merged.timestamps.len() as u32, histogram);
                }
                merged.timestamps.push(timestamp);
                merged.floats.push(samples.floats[at[i]]);
            }
            histogram_at[i] += usize::from(histogram.is_some());
            at[i] += 1;
        }
    }
    // Layouts that take turns are more than those of each part.
    let needed = merged.bytes();
    if let Err(error) = budget.take(needed.saturating_sub(taken)) {
        budget.give(taken);
        return Err(error);
    }
    budget.give(taken.saturating_sub(needed));
    Ok(merged)
}

/// Views of several shards as one. A series that several shards have comes once.
#[derive(Clone, Debug, Default)]
pub struct MergedView {
    views: Vec<ShardView>,
    workers: Option<Arc<dyn Spawner>>,
}

impl MergedView {
    /// Merges views, one per shard.
    #[must_use]
    pub fn new(mut views: Vec<ShardView>) -> MergedView {
        views.sort_by_key(ShardView::shard);
        MergedView { views, workers: None }
    }

    /// With cores on which lists of series can be read side by side.
    #[must_use]
    pub fn with_workers(self, workers: Arc<dyn Spawner>) -> MergedView {
        MergedView { workers: Some(workers), ..self }
    }

    /// The views in it, by shard.
    #[must_use]
    pub fn views(&self) -> &[ShardView] {
        &self.views
    }
}

pub(crate) struct MergedIter<'a> {
    shards: Vec<PartsIter<'a>>,
    /// Which shard the next series of the merged list is in, and whether it has the labels of the one before.
    order: std::iter::Peekable<std::vec::IntoIter<(u32, bool)>>,
    budget: &'a Budget,
    /// What the series handed out last holds of it, until the next is asked for: then its samples are the caller's.
    handed_out: u64,
    with_samples: bool,
    left: usize,
}

/// In which order the shards' lists of series, each of which ascends, make one that ascends.
fn merged_order(shards: &[PartsIter<'_>]) -> Vec<(u32, bool)> {
    let lists = shards.iter().zip(0_u32..);
    let mut all: Vec<(&Labels, u32)> =
        lists.flat_map(|(shard, number)| shard.labels().map(move |labels| (labels, number))).collect();
    all.sort(); // finds the lists and merges them
    let same = |at: usize| at > 0 && all[at].0 == all[at - 1].0;
    all.iter().enumerate().map(|(at, (_, number))| (*number, same(at))).collect()
}

impl<'a> MergedIter<'a> {
    pub(crate) fn new(
        shards: Vec<PartsIter<'a>>,
        request: &SelectRequest,
        budget: &'a Budget,
    ) -> MergedIter<'a> {
        let order = merged_order(&shards);
        MergedIter::ordered(shards, order, request, budget)
    }

    fn ordered(
        shards: Vec<PartsIter<'a>>,
        order: Vec<(u32, bool)>,
        request: &SelectRequest,
        budget: &'a Budget,
    ) -> MergedIter<'a> {
        let order = order.into_iter().peekable();
        let left = if request.limit == 0 { usize::MAX } else { request.limit };
        MergedIter { shards, order, budget, handed_out: 0, with_samples: request.with_samples, left }
    }

    fn pull(&mut self) -> Option<Result<Series, QueryError>> {
        let (mut shard, _) = self.order.next()?;
        let mut found = None;
        let mut all = Vec::new();
        loop {
            match self.shards[shard as usize].next() {
                Some(Ok((labels, mut parts))) => {
                    found = Some(labels);
                    all.append(&mut parts);
                }
                Some(Err(error)) => {
                    self.budget.give(all.iter().map(|part: &Part| part.samples.bytes()).sum());
                    return Some(Err(error));
                }
                None => {}
            }
            match self.order.next_if(|(_, same)| *same) {
                Some((next, _)) => shard = next,
                None => break,
            }
        }
        let samples = match merge_parts(all, self.budget) {
            Ok(samples) => samples,
            Err(error) => return Some(Err(error)),
        };
        self.handed_out = samples.bytes();
        Some(Ok(Series { labels: found?, samples }))
    }

    fn give_back(&mut self) {
        self.budget.give(std::mem::take(&mut self.handed_out));
    }
}

impl Drop for MergedIter<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Iterator for MergedIter<'_> {
    type Item = Result<Series, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            self.give_back();
            match self.pull()? {
                Ok(series) if self.with_samples && series.samples.is_empty() => {}
                Ok(series) => {
                    self.left -= 1;
                    return Some(Ok(series));
                }
                Err(error) => {
                    self.left = 0;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl Queryable for MergedView {
    fn select<'a>(
        &'a self,
        request: &SelectRequest,
        budget: &'a Budget,
    ) -> Result<SeriesSet<'a>, QueryError> {
        let shards =
            self.views.iter().map(|view| PartsIter::new(view, request, budget)).collect::<Result<_, _>>()?;
        Ok(Box::new(MergedIter::new(shards, request, budget)))
    }

    fn select_lists<'a>(
        &'a self,
        request: &SelectRequest,
        budget: &'a Budget,
        length: usize,
    ) -> Result<Vec<SeriesSet<'a>>, QueryError> {
        if request.limit > 0 {
            return Ok(vec![self.select(request, budget)?]);
        }
        let mut shards: Vec<PartsIter<'a>> =
            self.views.iter().map(|view| PartsIter::new(view, request, budget)).collect::<Result<_, _>>()?;
        let order = merged_order(&shards);
        let mut lists: Vec<SeriesSet<'a>> = Vec::with_capacity(order.len() / length.max(1) + 1);
        let mut rest = &order[..];
        while !rest.is_empty() {
            // A list ends where the labels do.
            let end = rest.iter().enumerate().position(|(at, (_, same))| at >= length.max(1) && !same);
            let (list, later) = rest.split_at(end.unwrap_or(rest.len()));
            rest = later;
            let counts = (0_u32..).zip(&mut shards).map(|(number, shard)| {
                let count = list.iter().filter(|(of, _)| *of == number).count();
                shard.split_front(count)
            });
            let shards = counts.collect();
            lists.push(Box::new(MergedIter::ordered(shards, list.to_vec(), request, budget)));
        }
        Ok(lists)
    }

    fn workers(&self) -> Option<&dyn Spawner> {
        self.workers.as_deref()
    }

    fn series_at_most(&self, matchers: &[Matcher]) -> Option<u64> {
        self.views.iter().map(|view| view.series_at_most(matchers)).sum()
    }

    fn label_names(&self, query: &LabelQuery, budget: &Budget) -> Result<Vec<String>, QueryError> {
        let mut all = BTreeSet::new();
        for view in &self.views {
            all.append(&mut view.names(query, budget)?);
        }
        Ok(limited(all, query.limit))
    }

    fn label_values(
        &self,
        name: &str,
        query: &LabelQuery,
        budget: &Budget,
    ) -> Result<Vec<String>, QueryError> {
        let mut all = BTreeSet::new();
        for view in &self.views {
            all.append(&mut view.values(name, query, budget)?);
        }
        Ok(limited(all, query.limit))
    }
}
