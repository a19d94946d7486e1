//! Where the timer thread takes what is due, and what else it asks of whoever owns the timer.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::clock::{Moment, Nanos};
use crate::wheel::{Due, Key};

/// Where due items go.
pub trait Sink<T>: Send + Sync + 'static {
    /// Takes every item out of `due`; `now` is not before any of their deadlines. Items put into
    /// `again` go back on the wheel, if the timer is still open and [`readmit`](super::Item::readmit)
    /// agrees. Called on the timer thread with no lock held.
    fn due(&self, now: Nanos, due: &mut Vec<Due<T>>, again: &mut Vec<(Nanos, T)>);

    /// Takes items that could not go back on the wheel. Called with no lock held.
    fn refused(&self, items: Vec<T>);

    /// Whether items will come back that are not on the wheel; see
    /// [When it leaves](super#when-it-leaves). Called under the timer's lock.
    fn expects(&self) -> bool {
        false
    }

    /// Does over again what had to be put off, and says when it wants to be asked next, if at all. Called
    /// on the timer thread before it sleeps, with no lock held.
    fn retry(&self) -> Option<Duration> {
        None
    }

    /// Whether any item follows the wall clock. Called with no lock held.
    fn follows_wall(&self) -> bool {
        false
    }

    /// The wall clock was set: which items are to be due at once. A key may be stale. Called with no
    /// lock held.
    fn wall_was_set(&self, _now: Moment) -> Vec<Key> {
        Vec::new()
    }

    /// Whether no item will come any more, so that the thread need not stay for one. The answer never
    /// changes from yes to no.
    fn is_finished(&self) -> bool {
        false
    }

    /// The last item has left a wheel that [`refuse`](super::Timer::refuse) had left some on. Called once
    /// for each such call, on the timer thread, with no lock held.
    fn drained(&self) {}
}
