//! The shared log, opened over arbitrary bytes: it neither panics nor hangs, and what opened once opens again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use storage::log::testing::{fuzz_recover, fuzz_splice};

fuzz_target!(|data: &[u8]| {
    match data {
        [0, rest @ ..] => fuzz_recover(rest),
        [_, rest @ ..] => fuzz_splice(rest),
        [] => {}
    }
});
