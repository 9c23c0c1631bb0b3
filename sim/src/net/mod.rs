//! A network in memory behind the `Net` port: streams and datagrams that take time, and links that can be cut.
//!
//! ```text
//!  write ──▶ agenda: (when, number) ──▶ inbox of the other end ──▶ read
//!              ▲ held while the link is cut, as TCP would repeat it; datagrams are lost instead
//! ```
//!
//! Everything that arrives does so at the beginning of a step, in the order of its time and number, so the hosts can
//! run one after the other: none hears within a step what another says in it.
//!
//! A process that dies resets its connections; a machine that loses power is silent, and resets what is sent to its
//! former life when it is back.

mod ports;
mod state;

pub use ports::SimNet;
pub use state::{LinkState, NetStats};

use crate::dice::Dice;
use state::State;
use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

/// All networks of a world; clones share it.
#[derive(Clone)]
pub struct Wires(Arc<Mutex<State>>);

impl fmt::Debug for Wires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wires").finish_non_exhaustive()
    }
}

impl Wires {
    /// A network whose delays and losses come from `dice`.
    #[must_use]
    pub fn new(dice: Dice) -> Wires {
        Wires(Arc::new(Mutex::new(State::new(dice))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `act` and wakes whom it concerns, without a lock held.
    fn act<T>(&self, act: impl FnOnce(&mut State, &mut Vec<Waker>) -> T) -> T {
        let mut woken = Vec::new();
        let done = act(&mut self.state(), &mut woken);
        woken.into_iter().for_each(Waker::wake);
        done
    }

    /// Time has come to `now`: delivers what is due.
    pub fn advance(&self, now: Duration) {
        self.act(|state, woken| state.advance(now, woken));
    }

    /// A process begins on `host`: its sockets are new.
    pub fn begin(&self, host: IpAddr) {
        self.state().begin(host);
    }

    /// The process on `host` is gone. With `silent` nobody is told: the machine has no power.
    pub fn end(&self, host: IpAddr, silent: bool) {
        self.act(|state, woken| state.end(host, silent, woken));
    }

    /// How the link from one host to another is from now on. What was held passes when it is open again.
    pub fn set_link(&self, from: IpAddr, to: IpAddr, link: LinkState) {
        self.state().set_link(from, to, link);
    }

    /// All links are as at the beginning.
    pub fn heal(&self) {
        self.state().heal();
    }

    /// Breaks one open connection between the hosts, chosen by chance; whether there was one.
    pub fn reset_one(&self, hosts: &[IpAddr]) -> bool {
        self.act(|state, woken| state.reset_one(hosts, woken))
    }

    /// What was carried so far, and a digest of it.
    #[must_use]
    pub fn stats(&self) -> NetStats {
        self.state().stats()
    }
}
