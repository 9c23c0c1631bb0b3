//! The room that a node has for bodies: how many bytes of answers all its scrapes hold at once.
//!
//! ```text
//!             ┌─ places: together at most `bytes` ─┐   ┌─ alone: one body of any size ─┐
//!  body ─grow─▶            free?                   │──▶│             free?             │──▶ waits for either
//!             └────────────────────────────────────┘   └───────────────────────────────┘
//! ```
//!
//! Invariants: bodies hold at most `bytes` and one of any allowed size besides; nobody waits for ever. A body that
//! holds places may wait for further ones, and if all did, none would end; but who is alone needs nothing more, so it
//! ends by its length or by its time-out, and the next one's turn comes.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bytes of a place. A body takes whole ones.
const PLACE_BYTES: u64 = 64 << 10;

/// The room that a node has for bodies where nothing else is said.
///
/// A body is held while it comes in and until it is read, which is milliseconds for what is steady: a thousand targets
/// with bodies of 256 KiB have room all at once, and what comes besides waits for a moment.
pub const BODY_ROOM_BYTES: u64 = 256 << 20;

/// The room for the bodies of a node; all its scrapers share it.
#[derive(Debug)]
pub struct BodyRoom {
    places: Arc<Semaphore>,
    places_max: u32,
    alone: Arc<Semaphore>,
}

impl Default for BodyRoom {
    fn default() -> BodyRoom {
        BodyRoom::new(BODY_ROOM_BYTES)
    }
}

impl BodyRoom {
    /// Room for `bytes`, and for one body of any size besides.
    #[must_use]
    pub fn new(bytes: u64) -> BodyRoom {
        let places_max = places(bytes);
        BodyRoom {
            places: Arc::new(Semaphore::new(places_max as usize)),
            places_max,
            alone: Arc::new(Semaphore::new(1)),
        }
    }

    /// Bytes of the places.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.places_max) * PLACE_BYTES
    }

    /// Bytes of the places that bodies hold at present.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.bytes() - self.places.available_permits() as u64 * PLACE_BYTES
    }
}

/// The places that so many bytes take.
fn places(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PLACE_BYTES)).unwrap_or(u32::MAX)
}

/// The part of the room that one body holds, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    room: Arc<BodyRoom>,
    places: Option<OwnedSemaphorePermit>,
    alone: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// Nothing yet.
    pub(super) fn new(room: &Arc<BodyRoom>) -> Held {
        Held { room: room.clone(), places: None, alone: None }
    }

    /// Waits until there is room for `bytes` of this body in all. Who gives up waiting keeps what it had.
    pub(super) async fn grow(&mut self, bytes: u64) {
        let held = self.places.as_ref().map_or(0, |permit| permit.num_permits() as u32);
        let wanted = places(bytes);
        if self.alone.is_some() || wanted <= held {
            return;
        }
        let (room, more) = (self.room.clone(), wanted - held);
        // More than there are would be waited for in vain, and hold up those behind.
        let in_places = async {
            match wanted <= room.places_max {
                true => room.places.clone().acquire_many_owned(more).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            permit = in_places => {
                let permit = permit.expect("never closed");
                match &mut self.places {
                    Some(places) => places.merge(permit),
                    none => *none = Some(permit),
                }
            }
            permit = room.alone.clone().acquire_owned() => {
                self.alone = Some(permit.expect("never closed"));
                self.places = None; // for the others
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const PLACE: u64 = PLACE_BYTES;

    /// Whether there is room at once.
    fn grows(held: &mut Held, bytes: u64) -> bool {
        held.grow(bytes).now_or_never().is_some()
    }

    #[test]
    fn bodies_hold_the_places_and_one_is_alone_besides() {
        let room = Arc::new(BodyRoom::new(3 * PLACE));
        let mut bodies: Vec<_> = (0..5).map(|_| Held::new(&room)).collect();
        let held: Vec<_> = bodies.iter_mut().map(|body| grows(body, PLACE)).collect();
        assert_eq!(held, [true, true, true, true, false]);
        drop(bodies.remove(0));
        assert!(grows(&mut bodies[3], PLACE), "what a body held is free behind it");
    }

    #[test]
    fn bodies_that_hold_all_places_and_want_more_do_not_wait_for_each_other() {
        let room = Arc::new(BodyRoom::new(2 * PLACE));
        let (mut a, mut b) = (Held::new(&room), Held::new(&room));
        assert!(grows(&mut a, PLACE));
        assert!(grows(&mut b, PLACE));
        assert!(grows(&mut a, 2 * PLACE), "alone, and its place is free");
        assert!(grows(&mut b, 2 * PLACE));
        assert!(grows(&mut a, 1_000 * PLACE), "who is alone may have any size");
        assert!(!grows(&mut b, 3 * PLACE));
        drop(a);
        assert!(grows(&mut b, 3 * PLACE), "its turn has come");
    }

    #[test]
    fn a_body_that_is_larger_than_all_places_holds_nobody_up() {
        let room = Arc::new(BodyRoom::new(2 * PLACE));
        let (mut large, mut larger, mut small) = (Held::new(&room), Held::new(&room), Held::new(&room));
        assert!(grows(&mut large, 3 * PLACE));
        let mut waiting = Box::pin(larger.grow(4 * PLACE));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(grows(&mut small, 2 * PLACE));
        drop(large);
        assert!(waiting.now_or_never().is_some());
    }

    #[test]
    fn who_waits_for_many_places_is_not_overtaken_for_ever_by_who_wants_few() {
        let room = Arc::new(BodyRoom::new(2 * PLACE));
        let mut bodies: Vec<_> = (0..4).map(|_| Held::new(&room)).collect();
        assert!(grows(&mut bodies[0], 3 * PLACE), "alone");
        assert!(grows(&mut bodies[1], PLACE));
        let [_, first, many, few] = &mut bodies[..] else { panic!("four") };
        let mut waiting = Box::pin(many.grow(2 * PLACE));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(!grows(few, PLACE), "who came later waits behind");
        *first = Held::new(&room);
        assert!(waiting.now_or_never().is_some());
    }
}
