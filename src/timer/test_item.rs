//! The item of the timer's tests: a number that knows its key.

use std::num::NonZeroU64;
use std::sync::Arc;
// Not loom's: both are used under the timer's lock alone.
use std::sync::atomic::{AtomicU64, Ordering};

use super::Item;
use crate::clock::{Moment, Nanos};
use crate::wheel::Key;

#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) number: u32,
    key: AtomicU64,
}

pub(super) fn numbered(number: u32) -> Arc<Numbered> {
    let key = AtomicU64::new(0);
    Arc::new(Numbered { number, key })
}

pub(super) fn numbers(items: &[Arc<Numbered>]) -> Vec<u32> {
    items.iter().map(|item| item.number).collect()
}

#[derive(Clone, Copy)]
#[cfg_attr(loom, expect(dead_code, reason = "no model refuses an item"))]
pub(super) enum Arrival {
    At(Nanos),
    WithoutDeadline,
    NotAdmitted,
    Panics,
}

impl Item for Arc<Numbered> {
    type Arrival = Arrival;

    fn key(&self) -> Option<Key> {
        NonZeroU64::new(self.key.load(Ordering::Relaxed)).map(Key::from_bits)
    }

    fn set_key(&self, key: Key) {
        self.key.store(key.to_bits().get(), Ordering::Relaxed);
    }

    fn deadline(&self, arrival: Arrival) -> Option<Nanos> {
        match arrival {
            Arrival::At(deadline) => Some(deadline),
            Arrival::WithoutDeadline => None,
            Arrival::NotAdmitted => Some(5),
            Arrival::Panics => panic!("under the lock"),
        }
    }

    fn admit(&self, arrival: Arrival) -> bool {
        !matches!(arrival, Arrival::NotAdmitted)
    }

    fn readmit(&self) -> bool {
        true
    }

    fn may_move(&self, _deadline: Nanos, _now: Moment) -> bool {
        true
    }

    fn moved(&self, _deadline: Nanos, is_moved: bool, _now: Moment) -> bool {
        is_moved
    }

    fn outlasts_refusal(&self) -> bool {
        true
    }
}
