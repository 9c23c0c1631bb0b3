//! The system's random source.

use model::Rng;

/// Random bits of the thread's generator, seeded by the system.
#[derive(Debug, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    fn next_u64(&self) -> u64 {
        rand::random()
    }
}
