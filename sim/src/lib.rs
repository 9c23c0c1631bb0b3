//! Whole nodes, the code that ships, in a simulated world: network, disks, clocks and randomness come from one seed,
//! and an oracle that knows what was acknowledged judges. `docs/simulation.md` says how to run, read and extend it.

pub mod actors;
pub mod chaos;
pub mod dice;
pub mod entropy;
pub mod inject;
pub mod invariants;
pub mod ledger;
pub mod machine;
pub mod memory;
pub mod net;
pub mod point_names;
pub mod points;
pub mod ports;
pub mod scenario;
pub mod sometimes;
pub mod trace;
pub mod violation;
pub mod world;
