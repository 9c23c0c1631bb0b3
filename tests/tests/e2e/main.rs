//! The built binary from outside: real processes, real faults. One file per subject; a test name is a sentence.
//!
//! Clusters run one at a time in this process, because a test machine may have two cores. Nothing here judges times
//! unless `SOAK=1`, and then the repetitions are more.

mod clock;
mod configuration;
mod continued;
mod cut;
mod damage;
mod disk;
mod exporter;
mod fencing;
mod forming;
mod hostile;
mod kill;
mod load;
mod misbehaving;
mod pause;
mod planned;
mod prometheus;
mod quorum;
mod replacement;
mod scraping;
mod sources;
mod tools;
