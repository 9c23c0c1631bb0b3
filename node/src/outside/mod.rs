//! The one place where Vestal touches the world: clocks, randomness, files, sockets, threads.
//!
//! Everything else takes these as the ports of `model`, so that a simulator can supply its own.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the place that the lists protect"
)]

mod clock;
mod fs;
mod memory;
mod net;
mod rng;
mod spawner;

pub use clock::SystemClock;
pub use fs::SystemFs;
pub use memory::memory_bytes;
pub use net::SystemNet;
pub use rng::SystemRng;
pub use spawner::TokioSpawner;
