//! What a timer asks of the items on its wheel, under its lock.
#![forbid(unsafe_code)]

use crate::clock::{Moment, Nanos};
use crate::wheel::Key;

/// An item on a timer's wheel. Each method is called under the timer's lock, and is short.
///
/// # Lock order: timer, then item
///
/// Every method of this trait is called while the timer's lock is held, and may take a lock of the
/// item's: a task's, and below that its series'. These are the only places where the timer's lock and
/// another are held at once, so two rules keep the order:
///
/// 1. No method of an item calls the timer, the queue or a callback.
/// 2. Nobody calls the timer while it holds a lock of an item's.
///
/// They are asked under the lock so that the answer and the change of the wheel are one step. Whoever
/// comes for an item meanwhile, to cancel or to move it, finds it either where it was, or on the wheel
/// under the key that it knows.
pub trait Item: Send + 'static {
    /// Why an item comes to the wheel.
    type Arrival: Copy;

    /// The key that was [set](Item::set_key) last; `None` before the first. It may be stale, which
    /// the wheel finds out.
    fn key(&self) -> Option<Key>;

    /// Keeps the key that the item is on the wheel under.
    fn set_key(&self, key: Key);

    /// The deadline to go on the wheel with; `None` keeps the item off it.
    fn deadline(&self, arrival: Self::Arrival) -> Option<Nanos>;

    /// Changes the item's state to waiting, on its arrival. `false`: it is not wanted on the wheel
    /// any more, and leaves it at once.
    fn admit(&self, arrival: Self::Arrival) -> bool;

    /// Whether an item that waits, and goes back on the wheel unchanged, is still wanted there.
    fn readmit(&self) -> bool;

    /// Whether the item, if it is on the wheel, may be moved to another deadline.
    fn may_move(&self, deadline: Nanos, now: Moment) -> bool;

    /// Notes a new deadline. `is_moved`: the item was on the wheel, and has been moved there. The
    /// answer is whether the new deadline holds.
    fn moved(&self, deadline: Nanos, is_moved: bool, now: Moment) -> bool;

    /// Whether the item stays on the wheel when the timer [refuses](super::Timer::refuse) further ones.
    fn outlasts_refusal(&self) -> bool;
}
