//! Many series at once: lists of series are read, and made into tracks, side by side.
//!
//! What comes out does not depend on how many threads there are: lists follow each other in the order of labels, and
//! what each series makes (its annotations, what it held, its track) is handed on in that order, as if one thread had
//! done it all. So floats are added in one order on every node.

use super::{
    Evaluator, Grid, Sink,
    frames::FrameCache,
    meter::{Likeness, Meter},
    plan::Selector,
    select::request,
    track::Track,
};
use crate::annotations::Annotations;
use crate::engine::EvalError;
use model::{SelectRequest, Series, SeriesSet, Work};
use std::cell::RefCell;

/// Series in one list.
const LIST: usize = 64;
/// Lists for each thread between two times at which tracks are handed on: bounds how many tracks wait.
const LISTS_PER_ROUND: usize = 4;
/// Ranges shorter than this are read faster than threads are started.
const RANGE_MIN_MS: i64 = 3_600_000;

/// Makes a track of a series.
pub(crate) type Make<'m> =
    &'m (dyn Fn(&Evaluator<'_>, &mut FrameCache, Series) -> Result<Option<Track>, EvalError> + Sync);

/// What was made of one series.
struct Made {
    notes: Annotations,
    /// Samples looked at at once.
    peak: u64,
    track: Option<Track>,
}

/// What was made of a list.
#[derive(Default)]
struct List {
    made: Vec<Made>,
    /// Why the list ended early.
    error: Option<EvalError>,
    /// Taken from the budget for the tracks.
    bytes: u64,
    read: u64,
    read_by_step: Vec<u64>,
}

fn is_long(request: &SelectRequest) -> bool {
    request.end.0.saturating_sub(request.start.0) >= RANGE_MIN_MS
}

impl Evaluator<'_> {
    /// Makes tracks of all matching series with their samples in `(first - before, last + after]` and hands them to
    /// `sink`, in order.
    pub(crate) fn each_series(
        &self,
        selector: &Selector,
        grid: &Grid,
        (before, after): (i64, i64),
        sink: Sink<'_>,
        make: Make<'_>,
    ) -> Result<(), EvalError> {
        let request = request(selector, grid, before, after);
        let workers = self.queryable.workers().filter(|workers| workers.width() > 1 && is_long(&request));
        let Some(workers) = workers else {
            return self.one_by_one(self.queryable.select(&request, self.budget)?, selector, sink, make);
        };
        let lists = self.queryable.select_lists(&request, self.budget, LIST)?;
        if lists.len() < 2 {
            return lists.into_iter().try_for_each(|list| self.one_by_one(list, selector, sink, make));
        }
        let mut lists = lists.into_iter();
        loop {
            let round: Vec<SeriesSet<'_>> = lists.by_ref().take(workers.width() * LISTS_PER_ROUND).collect();
            if round.is_empty() {
                return Ok(());
            }
            let mut done: Vec<List> = round.iter().map(|_| List::default()).collect();
            let apart = self.apart();
            let work = round
                .into_iter()
                .zip(&mut done)
                .map(|(set, list)| -> Work<'_> { Box::new(move || *list = apart.list(set, selector, make)) });
            workers.side_by_side(work.collect());
            done.into_iter().try_for_each(|list| self.take_in(list, sink))?;
        }
    }

    fn one_by_one(
        &self,
        set: SeriesSet<'_>,
        selector: &Selector,
        sink: Sink<'_>,
        make: Make<'_>,
    ) -> Result<(), EvalError> {
        let mut frames = FrameCache::default();
        self.read_all(set, selector, &mut |series| match make(self, &mut frames, series)? {
            Some(track) => sink(track),
            None => Ok(()),
        })
    }

    fn take_in(&self, list: List, sink: Sink<'_>) -> Result<(), EvalError> {
        self.meter.take_in(list.read, &list.read_by_step);
        for Made { notes, peak, track } in list.made {
            if !notes.is_empty() {
                self.note(|all| all.take_in(notes));
            }
            self.meter.would_hold(peak)?;
            if let Some(track) = track {
                sink(track)?;
            }
        }
        self.budget.give(list.bytes);
        list.error.map_or(Ok(()), Err)
    }

    fn apart(&self) -> Apart<'_> {
        let Evaluator { queryable, budget, meter, features, lookback, subquery_interval, notes: _ } = self;
        let like = meter.likeness();
        let (features, lookback, subquery_interval) = (*features, *lookback, *subquery_interval);
        Apart { queryable: *queryable, budget, features, lookback, subquery_interval, like }
    }
}

/// What an evaluator on another thread is made of.
#[derive(Clone, Copy)]
struct Apart<'a> {
    queryable: &'a dyn model::Queryable,
    budget: &'a model::Budget,
    features: crate::engine::Features,
    lookback: i64,
    subquery_interval: i64,
    like: Likeness,
}

impl Apart<'_> {
    fn list(self, set: SeriesSet<'_>, selector: &Selector, make: Make<'_>) -> List {
        let Apart { queryable, budget, features, lookback, subquery_interval, like } = self;
        let meter = Meter::apart(budget, like);
        let notes = RefCell::default();
        let evaluator =
            Evaluator { queryable, budget, meter: &meter, features, lookback, subquery_interval, notes };
        let mut list = List::default();
        let mut frames = FrameCache::default();
        let done = evaluator.read_all(set, selector, &mut |series| {
            let track = make(&evaluator, &mut frames, series);
            let notes = evaluator.notes.take();
            let peak = meter.take_peak();
            let (track, error) = match track {
                Ok(track) => (track, None),
                Err(error) => (None, Some(error)),
            };
            if let Some(track) = &track {
                let bytes = track.bytes();
                budget.take(bytes)?;
                list.bytes += bytes;
            }
            list.made.push(Made { notes, peak, track });
            error.map_or(Ok(()), Err)
        });
        List { error: done.err(), read: meter.read(), read_by_step: meter.read_by_step(), ..list }
    }
}
