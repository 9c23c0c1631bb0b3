//! A script that was checked, and its text.

use crate::{
    fault::{Amount, Fault, Whom},
    span,
};
use std::{fmt, time::Duration};

/// Nodes of a world that does not say how many.
pub const NODES: usize = 3;
/// Nodes of the largest world.
pub const NODES_MAX: usize = 7;

/// The name of the node at a place, counted from 0.
#[must_use]
pub fn node_name(place: usize) -> String {
    format!("node-{}", place + 1)
}

/// What runs in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Nodes, from [`NODES`] to [`NODES_MAX`]: each hosts every shard.
    pub nodes: usize,
    /// Data shards.
    pub shards: u32,
    /// Scrape targets.
    pub targets: usize,
    /// Remote writers.
    pub writers: usize,
    /// Readers, each of default queries at one node after the other.
    pub readers: usize,
}

impl Default for Load {
    fn default() -> Load {
        Load { nodes: NODES, shards: 6, targets: 4, writers: 2, readers: 2 }
    }
}

/// A fault at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, counted from when the cluster works.
    pub at: Duration,
    /// What.
    pub fault: Fault,
    /// The place of the node it befalls, from 0; 0 if it befalls nobody in particular.
    pub node: usize,
    /// The other node's place, where there are two; otherwise the same.
    pub other: usize,
    /// By how much, in the unit of the fault's form; 0 where it has no amount.
    pub by: i64,
    /// For how long; zero if it happens and takes its own time.
    pub lasts: Duration,
}

impl Event {
    /// When it is over.
    #[must_use]
    pub fn ends(&self) -> Duration {
        self.at + self.lasts
    }

    /// Whether it goes on at a time.
    #[must_use]
    pub fn is_on(&self, at: Duration) -> bool {
        self.at <= at && at < self.ends()
    }
}

/// A scripted world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// What runs.
    pub load: Load,
    /// When faults end, whether they are over or not.
    pub lasts: Duration,
    /// What goes wrong, in the order of time.
    pub events: Vec<Event>,
}

fn millis(time: Duration) -> String {
    span::print(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} {}", millis(self.at), self.fault.name())?;
        let Some(form) = self.fault.form() else { return Ok(()) };
        let (node, other) = (node_name(self.node), node_name(self.other));
        match form.whom {
            Whom::Nobody => {}
            Whom::One => write!(f, " {node}")?,
            Whom::Two => write!(f, " {node} {other}")?,
            Whom::Way => write!(f, " {node} -> {other}")?,
        }
        let sign = if self.by < 0 { "-" } else { "" };
        match form.amount {
            Amount::Nothing => {}
            Amount::Span | Amount::Shift => write!(f, " by {sign}{}", span::print(self.by.unsigned_abs()))?,
            Amount::Ppm => write!(f, " by {}ppm", self.by)?,
            Amount::Percent => write!(f, " by {}%", self.by)?,
            Amount::Rate => write!(f, " by {}kB/s", self.by)?,
        }
        if self.lasts.is_zero() { Ok(()) } else { write!(f, " for {}", millis(self.lasts)) }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { nodes, shards, targets, writers, readers } = self.load;
        writeln!(
            f,
            "nodes {nodes}\nshards {shards}\ntargets {targets}\nwriters {writers}\nreaders {readers}"
        )?;
        writeln!(f, "lasts {}", millis(self.lasts))?;
        self.events.iter().try_for_each(|event| writeln!(f, "{event}"))
    }
}
