//! The language of scripted worlds: what runs in one, and what goes wrong when. A script is played by the simulator and
//! by real processes, so what is found in one can be tried in the other.
//!
//! ```text
//! shards 1                                     # what runs; each line once, all may be left out
//! targets 2
//! writers 2
//! readers 1
//! lasts 60s                                    # faults end then, whether they are over or not
//! at 5s pause node-2 for 8s
//! at 12s partition node-1 node-3 for 10s
//! at 20s one-way node-1 -> node-2 for 5s       # what node-1 sends to node-2 is lost
//! at 30s wipe node-3
//! at 50s clock-step node-1 by -1d for 20s
//! ```
//!
//! One event a line; times count from the moment when the cluster has formed and works. Text in, a checked [`Script`]
//! out, and back: nothing here knows how a fault is made.

mod fault;
mod parse;
mod script;
mod span;

pub use fault::{Amount, Fault, Form, Lasting, Whom};
pub use parse::ScriptError;
pub use script::{Event, Load, NODES, NODES_MAX, Script, node_name};
