//! The one place where Vestal touches the world: clocks, randomness, files, sockets, threads, its own process.
//!
//! Everything else takes these as the ports of `model`, and the process as [`Host`], so that a simulator can supply its
//! own.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the place that the lists protect"
)]

mod clock;
mod fs;
mod host;
mod memory;
mod net;
mod pool;
mod rng;
mod spawner;
mod web;

pub use clock::SystemClock;
pub use fs::SystemFs;
pub use host::{DirectoryLock, Host, Order, ProcessFigures, SystemHost};
pub use memory::memory_bytes;
pub use net::SystemNet;
pub use rng::SystemRng;
pub use spawner::TokioSpawner;
pub use web::WebThread;
