//! Who acts in the world beside the nodes: targets that are scraped, remote writers, readers, an operator. They live
//! on hosts of their own and reach the nodes by the network only.
//!
//! Not here yet, because the code has no such thing: rules and their alerts, growth beyond three nodes, the virtual
//! address, upgrades. Each is one more file here, one more line in `World::begin_actors`, and its invariants.

pub mod analyst;
pub mod http;
pub mod reader;
pub mod target;
pub mod writer;
