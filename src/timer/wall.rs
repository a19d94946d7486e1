//! What the timer thread knows of the wall clock, and how it finds out that somebody set it.
//!
//! Owned by the thread, kept for as long as any item follows the wall clock.
#![forbid(unsafe_code)]

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::clock::{Clock, Moment, Nanos, WallWatch, guarded};
use crate::sync::Parker;

/// How often a thread that nobody wakes looks whether the wall clock was set.
pub(super) const WALL_POLL: Duration = Duration::from_secs(30);

/// By how much the distance of the two clocks may change unnoticed: more than reading one after the
/// other takes, but for a thread that is held up in between, which makes it look for nothing.
const DRIFT: Nanos = 5_000_000;

/// What the thread knows of the wall clock while items follow it.
#[derive(Default)]
pub(super) struct Wall {
    /// The wall clock at the origin of the other; it wraps.
    origin: Option<Nanos>,
    watch: Option<WallWatch>,
    /// A watch was asked for.
    asked: bool,
}

impl Wall {
    /// The present, if the wall clock was set since the last call, or this is the first.
    pub(super) fn was_set(&mut self, now: Nanos, clock: &dyn Clock) -> Option<Moment> {
        let wall = guarded(|| clock.wall())?;
        let origin = wall.wrapping_sub(now);
        let drift = |before: Nanos| {
            let drift = origin.wrapping_sub(before);
            drift.min(drift.wrapping_neg())
        };
        if self.origin.is_some_and(|before| drift(before) <= DRIFT) {
            return None;
        }
        self.origin = Some(origin);
        Some(Moment { now, wall })
    }

    /// Whether the thread is woken when the wall clock is set.
    pub(super) fn is_watched(&mut self, clock: &dyn Clock, parker: &Arc<Parker>) -> bool {
        if !std::mem::replace(&mut self.asked, true) {
            let sleeper: Weak<Parker> = Arc::downgrade(parker);
            self.watch = guarded(|| clock.watch_wall(sleeper)).flatten();
            // What was set before the watch is found out now.
            parker.unpark();
        }
        self.watch.is_some()
    }
}
