//! What a world is made of, and what may happen in it.

use crate::{dice::Dice, faults::Fault};
use std::time::Duration;

/// A named kind of world.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Data shards.
    pub shards: u32,
    /// Scripted targets.
    pub targets: usize,
    /// Remote writers.
    pub writers: usize,
    /// Readers.
    pub readers: usize,
    /// Faults to choose from.
    pub faults: &'static [Fault],
    /// Of a hundred seeds so many enable each kind.
    pub chance: u64,
    /// How long faults go on, if nothing else is said.
    pub seconds: u64,
}

use Fault::{
    ClockDrift, ClockStep, Configure, Datagrams, Flap, Full, Isolate, Kill, Latency, OneWay, Partition,
    Pause, Point, Power, PowerAll, Reset, Restart, SlowSync, Stall, SyncError, Wipe,
};

/// All scenarios; the first is the default.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "chaos",
        about: "everything, each seed its own selection of faults",
        shards: 6,
        targets: 4,
        writers: 2,
        readers: 2,
        faults: Fault::ALL,
        chance: 35,
        seconds: 60,
    },
    Scenario {
        name: "calm",
        about: "no fault at all: for measuring, and for what must hold even then",
        shards: 6,
        targets: 4,
        writers: 2,
        readers: 1,
        faults: &[],
        chance: 0,
        seconds: 60,
    },
    Scenario {
        name: "crash",
        about: "processes and machines die at any await and at named points; one shard, so that it is cheap",
        shards: 1,
        targets: 2,
        writers: 2,
        readers: 1,
        faults: &[Kill, Point, Power, PowerAll, Restart],
        chance: 70,
        seconds: 40,
    },
    Scenario {
        name: "net",
        about: "links are cut, slow, one-way and flapping, processes are frozen",
        shards: 1,
        targets: 2,
        writers: 2,
        readers: 2,
        faults: &[Isolate, Partition, OneWay, Flap, Latency, Reset, Pause, Datagrams],
        chance: 60,
        seconds: 40,
    },
    Scenario {
        name: "disk",
        about: "disks are slow, stall, fill up and fail to sync",
        shards: 1,
        targets: 2,
        writers: 2,
        readers: 1,
        faults: &[SlowSync, Stall, Full, SyncError, Power, PowerAll],
        chance: 60,
        seconds: 40,
    },
    Scenario {
        name: "clock",
        about: "wall clocks jump and drift while leaders change",
        shards: 1,
        targets: 3,
        writers: 1,
        readers: 1,
        faults: &[ClockStep, ClockDrift, Kill, Pause],
        chance: 70,
        seconds: 40,
    },
    Scenario {
        name: "wipe",
        about: "a machine comes back empty while others are disturbed before",
        shards: 1,
        targets: 2,
        writers: 2,
        readers: 1,
        faults: &[Wipe, Kill, Latency, Restart],
        chance: 80,
        seconds: 60,
    },
    Scenario {
        name: "operator",
        about: "the configuration changes and nodes restart in order",
        shards: 2,
        targets: 4,
        writers: 1,
        readers: 1,
        faults: &[Configure, Restart, Kill, Isolate],
        chance: 80,
        seconds: 40,
    },
];

/// The scenario of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

/// A fault at a time of one's choice, counted from the beginning of chaos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scripted {
    /// When.
    pub at: Duration,
    /// What.
    pub fault: Fault,
    /// To which machine, by its place.
    pub machine: usize,
    /// For how long.
    pub lasts: Duration,
}

/// One world to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of everything.
    pub seed: u64,
    /// The kind of world.
    pub scenario: &'static Scenario,
    /// How long faults go on.
    pub chaos: Duration,
    /// Faults that are left out although the seed enables them: for shrinking.
    pub without: Vec<Fault>,
    /// Faults at given times, beside those of chance.
    pub script: Vec<Scripted>,
    /// The planted bug that is awake; empty for none. Only a tree of `scripts/mutants` has any.
    pub planted: String,
    /// Print the whole trace.
    pub print: bool,
}

impl Plan {
    /// The faults that this seed enables.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let dice = Dice::new(self.seed, "faults");
        let mut enabled: Vec<Fault> = Vec::new();
        for fault in self.scenario.faults {
            if dice.chance(self.scenario.chance) {
                enabled.push(*fault);
            }
        }
        if let (true, Some(_)) = (enabled.is_empty(), self.scenario.faults.first()) {
            enabled.push(*dice.pick(self.scenario.faults));
        }
        enabled.retain(|fault| !self.without.contains(fault));
        enabled
    }

    /// The line that runs this world again.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!(
            "cargo run --release -p sim -- --scenario {} --seed {} --steps {}",
            self.scenario.name,
            self.seed,
            self.chaos.as_millis()
        );
        if !self.without.is_empty() {
            let names: Vec<_> = self.without.iter().map(|fault| fault.name()).collect();
            line += &format!(" --without {}", names.join(","));
        }
        line
    }
}
