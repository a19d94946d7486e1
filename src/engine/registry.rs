//! The series of an engine that are not over.
//!
//! Owned by the engine and by what its timer hands due tasks to. Three questions are put to it: whether
//! there are any, for then the timer keeps its thread; what they have lost up to now, for the counts
//! are to be right while a run hangs; and which of them the wall clock has ended. It knows no task,
//! and never holds a lock for longer than a few entries take.
#![forbid(unsafe_code)]

use crate::clock::Moment;
use crate::series::Lost;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::task::SharedSeries;
use crate::wheel::Key;

/// Entries that are looked at under one hold of the lock.
const CHUNK: usize = 64;

#[derive(Default)]
pub(super) struct Registry {
    slots: Mutex<Slots>,
    series: AtomicU64,
    follow_wall: AtomicU64,
}

#[derive(Default)]
struct Slots {
    series: Vec<Option<SharedSeries>>,
    free: Vec<usize>,
}

impl Registry {
    /// Takes a series in, before it is on the wheel for the first time.
    pub(super) fn add(&self, series: &SharedSeries) {
        let place = {
            let mut slots = lock(&self.slots);
            let free = slots.free.pop();
            let place = free.unwrap_or(slots.series.len());
            if free.is_none() {
                slots.series.push(None);
            }
            slots.series[place] = Some(series.clone());
            place
        };
        let follows_wall = {
            let mut series = lock(series);
            series.place = Some(place);
            series.follows_wall()
        };
        // Relaxed, here and below: whoever puts the series on the wheel afterwards takes the timer's
        // lock, under which the timer reads it.
        self.series.fetch_add(1, Ordering::Relaxed);
        if follows_wall {
            self.follow_wall.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a series out that is over. `true`: there are fewer for the timer to care for.
    pub(super) fn remove(&self, place: usize, follows_wall: bool) -> bool {
        let series = {
            let mut slots = lock(&self.slots);
            slots.free.push(place);
            slots.series[place].take()
        };
        drop(series); // with no lock held
        let was_last = self.series.fetch_sub(1, Ordering::Relaxed) == 1;
        let was_last_on_wall =
            follows_wall && self.follow_wall.fetch_sub(1, Ordering::Relaxed) == 1;
        was_last || was_last_on_wall
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> u64 {
        self.series.load(Ordering::Relaxed)
    }

    pub(super) fn follows_wall(&self) -> bool {
        self.follow_wall.load(Ordering::Relaxed) > 0
    }

    /// What they have lost that no engine's count has.
    pub(super) fn lost(&self, now: Moment) -> Lost {
        let mut sum = Lost::default();
        self.each(|series| {
            let lost = lock(series).lost_since_taken(now);
            sum.skipped += lost.skipped;
            sum.missed += lost.missed;
        });
        sum
    }

    /// The keys of those that wait for a deadline which is past their end.
    pub(super) fn past_end(&self, now: Moment) -> Vec<Key> {
        let mut keys = Vec::new();
        self.each(|series| {
            let series = lock(series);
            if series.is_past_end(now) {
                keys.extend(std::num::NonZeroU64::new(series.key).map(Key::from_bits));
            }
        });
        keys
    }

    /// Those that are there throughout are seen once; one that comes or goes meanwhile, at most once.
    fn each(&self, mut see: impl FnMut(&SharedSeries)) {
        let mut chunk = Vec::with_capacity(CHUNK);
        for from in (0..).step_by(CHUNK) {
            {
                let slots = lock(&self.slots);
                let Some(rest) = slots.series.get(from..) else {
                    return;
                };
                chunk.extend(rest.iter().take(CHUNK).flatten().cloned());
            }
            chunk.drain(..).for_each(|series| see(&series));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::series::{Every, Series};

    fn series(until_wall: Option<SystemTime>) -> SharedSeries {
        let every = Every {
            until_wall,
            ..Every::new(Duration::from_nanos(10))
        };
        let series = Series::new(&every, Moment::at(0));
        Arc::new(Mutex::new(series.expect("the test asks for sense")))
    }

    #[test]
    fn places_are_used_again_and_every_series_is_counted_once() {
        let registry = Registry::default();
        let all: Vec<_> = (0..1_000).map(|_| series(None)).collect();
        for series in &all {
            registry.add(series);
        }
        // Ten ticks are late by then: one is run, nine are missed.
        assert_eq!(registry.lost(Moment::at(100)).missed, 9_000);
        for (n, series) in all.iter().enumerate() {
            let place = lock(series).place.unwrap();
            assert_eq!(registry.remove(place, false), n == 999);
        }
        assert!(registry.is_empty());
        assert_eq!(registry.lost(Moment::at(100)), Lost::default());
        for series in &all {
            registry.add(series);
        }
        assert_eq!(lock(&registry.slots).series.len(), 1_000);
        assert!(all.iter().all(|series| Arc::strong_count(series) == 2));
    }

    #[test]
    fn the_wall_clock_is_followed_for_as_long_as_a_series_does() {
        let registry = Registry::default();
        let until = SystemTime::UNIX_EPOCH + Duration::from_nanos(50);
        let (plain, bound) = (series(None), series(Some(until)));
        registry.add(&plain);
        assert!(!registry.follows_wall());
        registry.add(&bound);
        assert!(registry.follows_wall());
        lock(&bound).key = 7;
        let keys = |wall| {
            let keys = registry.past_end(Moment { now: 5, wall });
            keys.iter()
                .map(|key| key.to_bits().get())
                .collect::<Vec<_>>()
        };
        assert!(keys(5).is_empty());
        assert_eq!(keys(46), [7]);
        let place = lock(&bound).place.unwrap();
        assert!(registry.remove(place, true));
        assert!(!registry.follows_wall() && !registry.is_empty());
    }
}
