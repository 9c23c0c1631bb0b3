//! What a world is made of, and what may happen in it.

use crate::dice::Dice;
use screenplay::{Event, Fault, Load, NODES, Script};
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
    ClockDrift, ClockStep, Configure, Datagrams, Flap, Full, FullLog, FullStores, Isolate, Kill, Latency,
    Misdirect, Narrow, OldImage, OneWay, Overload, Partition, Pause, Point, Power, PowerAll, ReadError,
    Reset, Restart, Rot, SlowSync, Stall, Stranger, SyncError, Wipe, WriteError,
};

/// What most scenarios have in common: one data shard, so that they are cheap.
const SMALL: Scenario = Scenario {
    name: "",
    about: "",
    shards: 1,
    targets: 2,
    writers: 2,
    readers: 1,
    faults: &[],
    chance: 60,
    seconds: 60,
};

/// All scenarios; the first is the default.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "chaos",
        about: "everything, each seed its own selection of faults",
        shards: 6,
        targets: 4,
        readers: 2,
        faults: Fault::ALL,
        chance: 35,
        ..SMALL
    },
    Scenario {
        name: "calm",
        about: "no fault at all: for measuring, and for what must hold even then",
        shards: 6,
        targets: 4,
        chance: 0,
        ..SMALL
    },
    Scenario {
        name: "crash",
        about: "processes and machines die between milliseconds and at named points",
        faults: &[Kill, Point, Power, PowerAll, Restart],
        chance: 70,
        ..SMALL
    },
    Scenario {
        name: "net",
        about: "links are cut, slow, narrow, one-way and flapping, processes are frozen",
        readers: 2,
        faults: &[Isolate, Partition, OneWay, Flap, Latency, Narrow, Reset, Pause, Datagrams],
        ..SMALL
    },
    Scenario {
        name: "disk",
        about: "disks are slow, stall, fill up, fail to sync, to read and to write",
        faults: &[
            SlowSync, Stall, Full, FullLog, FullStores, SyncError, ReadError, WriteError, Power, PowerAll,
        ],
        ..SMALL
    },
    Scenario {
        name: "quiet",
        about: "little is written while disks fill up: what waits for the next entry is seen",
        shards: 3,
        targets: 1,
        writers: 1,
        faults: &[Full, FullStores, Kill],
        chance: 80,
        ..SMALL
    },
    Scenario {
        name: "clock",
        about: "wall clocks jump and drift while leaders change",
        targets: 3,
        writers: 1,
        faults: &[ClockStep, ClockDrift, Kill, Pause],
        chance: 70,
        ..SMALL
    },
    Scenario {
        name: "wipe",
        about: "a machine comes back empty while others are disturbed before",
        faults: &[Wipe, Kill, Point, Latency, SlowSync, Restart],
        chance: 80,
        ..SMALL
    },
    Scenario {
        name: "damage",
        about: "what a disk holds rots, is misplaced or grows old; an operator replaces the machine",
        faults: &[Rot, Misdirect, OldImage, Kill, Restart],
        chance: 70,
        ..SMALL
    },
    Scenario {
        name: "strangers",
        about: "nodes of another cluster, or under a name that is taken, talk to this one",
        faults: &[Stranger, Restart, Kill, Isolate],
        chance: 80,
        ..SMALL
    },
    Scenario {
        name: "overload",
        about: "many more writers and readers than the cluster can serve, on slow disks",
        faults: &[Overload, SlowSync, Kill, Point, Power, Restart],
        chance: 80,
        ..SMALL
    },
    Scenario {
        name: "long",
        about: "four minutes: pauses of minutes, long partitions, several replacements",
        faults: &[Pause, Isolate, Wipe, PowerAll, Restart],
        seconds: 240,
        ..SMALL
    },
    Scenario {
        name: "operator",
        about: "the configuration changes and nodes restart in order",
        shards: 2,
        targets: 4,
        writers: 1,
        faults: &[Configure, Restart, Kill, Isolate],
        chance: 80,
        ..SMALL
    },
];

/// Of a batch over all scenarios, how many seeds of a hundred run each; the rest is chaos.
const MIX: &[(&str, u64)] = &[
    ("crash", 9),
    ("net", 7),
    ("disk", 9),
    ("clock", 4),
    ("wipe", 7),
    ("damage", 10),
    ("strangers", 5),
    ("overload", 3),
    ("long", 2),
    ("operator", 6),
    ("quiet", 3),
];

/// The name of the batch over all scenarios.
pub const MIXED: &str = "mix";

/// The scenario of a seed in a batch over all of them.
#[must_use]
pub fn of_seed(seed: u64) -> &'static Scenario {
    let mut roll = Dice::new(seed, "scenario").below(100);
    for (name, share) in MIX {
        if roll < *share {
            return find(name).unwrap_or(&SCENARIOS[0]);
        }
        roll -= share;
    }
    &SCENARIOS[0]
}

/// The scenario of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

/// A world that does what a script says, and nothing by chance.
static SCRIPTED: Scenario = Scenario { name: "script", about: "what a script says", chance: 0, ..SMALL };

impl Scenario {
    /// Its load.
    #[must_use]
    pub fn load(&self) -> Load {
        let Scenario { shards, targets, writers, readers, .. } = *self;
        Load { nodes: NODES, shards, targets, writers, readers }
    }
}

/// One world to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of everything.
    pub seed: u64,
    /// The kind of world.
    pub scenario: &'static Scenario,
    /// How much goes on, the scenario's if nothing else is said.
    pub load: Load,
    /// How long faults go on.
    pub chaos: Duration,
    /// Kinds of faults that do not happen although the seed enables them: for shrinking.
    pub without: Vec<Fault>,
    /// Single faults that do not happen, by their number: for shrinking.
    pub skip: Vec<u64>,
    /// Faults at given times, counted from the beginning of chaos, beside those of chance.
    pub script: Vec<Event>,
    /// Where all of this world but the seed was read; empty if nowhere.
    pub script_file: String,
    /// The planted bug that is awake; empty for none. Only a tree of `scripts/mutants` has any.
    pub planted: String,
    /// Print the whole trace.
    pub print: bool,
}

impl Plan {
    /// A seed of a scenario as it is.
    #[must_use]
    pub fn new(scenario: &'static Scenario, seed: u64) -> Plan {
        Plan {
            seed,
            scenario,
            load: scenario.load(),
            chaos: Duration::from_secs(scenario.seconds),
            without: Vec::new(),
            skip: Vec::new(),
            script: Vec::new(),
            script_file: String::new(),
            planted: String::new(),
            print: false,
        }
    }

    /// A seed of what a script says, which was read from `file`.
    #[must_use]
    pub fn scripted(script: Script, file: String, seed: u64) -> Plan {
        let Script { load, lasts: chaos, events: script } = script;
        Plan { load, chaos, script, script_file: file, ..Plan::new(&SCRIPTED, seed) }
    }

    /// The faults that this seed enables. Those that are left out are among them, so that what is left stays as it was.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let dice = Dice::new(self.seed, "faults");
        let chosen = |_: &&Fault| dice.chance(self.scenario.chance);
        let mut enabled: Vec<Fault> = self.scenario.faults.iter().filter(chosen).copied().collect();
        if enabled.is_empty() && !self.scenario.faults.is_empty() {
            enabled.push(*dice.pick(self.scenario.faults));
        }
        enabled
    }

    /// The arguments that make this world.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut say = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
        if !self.script_file.is_empty() {
            say("--script", self.script_file.clone());
            say("--seed", self.seed.to_string());
            if !self.planted.is_empty() {
                say("--planted", self.planted.clone());
            }
            return arguments;
        }
        say("--scenario", self.scenario.name.to_owned());
        say("--seed", self.seed.to_string());
        say("--steps", self.chaos.as_millis().to_string());
        let usual = self.scenario.load();
        let mut differs = |flag: &str, value: u64, usual: u64| {
            if value != usual {
                say(flag, value.to_string());
            }
        };
        differs("--nodes", self.load.nodes as u64, usual.nodes as u64);
        differs("--shards", self.load.shards.into(), usual.shards.into());
        differs("--targets", self.load.targets as u64, usual.targets as u64);
        differs("--writers", self.load.writers as u64, usual.writers as u64);
        differs("--readers", self.load.readers as u64, usual.readers as u64);
        if !self.without.is_empty() {
            say("--without", self.without.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(","));
        }
        if !self.skip.is_empty() {
            say("--skip", self.skip.iter().map(u64::to_string).collect::<Vec<_>>().join(","));
        }
        if !self.planted.is_empty() {
            say("--planted", self.planted.clone());
        }
        arguments
    }

    /// The line that runs this world again.
    #[must_use]
    pub fn line(&self) -> String {
        format!("cargo run --release -p sim -- {}", self.arguments().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::{MIX, SCENARIOS, find, of_seed};
    use screenplay::Fault;
    use std::collections::BTreeSet;

    #[test]
    fn a_batch_over_all_scenarios_has_every_scenario_with_faults() {
        let met: BTreeSet<&str> = (0..500).map(|seed| of_seed(seed).name).collect();
        let faulty: BTreeSet<&str> = SCENARIOS
            .iter()
            .filter(|scenario| !scenario.faults.is_empty())
            .map(|scenario| scenario.name)
            .collect();
        assert_eq!(met, faulty);
        assert!(MIX.iter().all(|(name, _)| find(name).is_some()));
        let chaos = 100 - MIX.iter().map(|(_, share)| share).sum::<u64>();
        assert!(MIX.iter().all(|(_, share)| *share < chaos), "chaos is the largest part");
    }

    #[test]
    fn every_kind_of_fault_is_in_a_cheap_scenario_too() {
        let cheap = SCENARIOS.iter().skip(1).flat_map(|scenario| scenario.faults);
        assert_eq!(cheap.collect::<BTreeSet<_>>(), Fault::ALL.iter().collect());
    }
}
