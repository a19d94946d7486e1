//! Gives out the ticks of a series, each to one of those who ask.
//!
//! Owned by who gives them out. It has the number of the last tick that was given and nothing else: it
//! neither waits nor knows of the series.
#![forbid(unsafe_code)]

use crate::sync::{AtomicU64, Ordering};

/// Which ticks of a series have been given out. Thread-safe, without a lock: who asks may be in a
/// signal handler that has interrupted another who asks, or in a child forked meanwhile.
#[derive(Debug)]
pub struct Ticks {
    given: AtomicU64,
    one_by_one: bool,
}

impl Ticks {
    /// No tick has been given. With `one_by_one` all of them will be, otherwise each time the latest.
    pub fn new(one_by_one: bool) -> Self {
        Self {
            given: AtomicU64::new(0),
            one_by_one,
        }
    }

    /// Takes the next tick, when `ticked` have been; the first is 1. `None`: they have all been given,
    /// or gone by.
    ///
    /// Nobody gets a tick that somebody else had, nor one before a tick that he had himself.
    pub fn take(&self, ticked: u64) -> Option<u64> {
        let next = |given| {
            let next = if self.one_by_one { given + 1 } else { ticked };
            (given < ticked).then_some(next)
        };
        // Relaxed: the number is all there is to it, and those of one atomic are in order.
        let given = self
            .given
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        given.ok().and_then(next)
    }

    /// The number of the last tick that was given.
    pub fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_by_one_all_ticks_are_given() {
        let ticks = Ticks::new(true);
        assert_eq!(ticks.take(0), None);
        assert_eq!([ticks.take(3), ticks.take(3)], [Some(1), Some(2)]);
        assert_eq!(ticks.given(), 2);
        assert_eq!([ticks.take(3), ticks.take(3)], [Some(3), None]);
    }

    #[test]
    fn otherwise_the_latest_tick_is_given_once() {
        let ticks = Ticks::new(false);
        assert_eq!([ticks.take(1), ticks.take(1)], [Some(1), None]);
        assert_eq!([ticks.take(5), ticks.take(4)], [Some(5), None]);
        assert_eq!(ticks.given(), 5);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn loom_two_who_ask_never_get_the_same_tick() {
        for one_by_one in [false, true] {
            loom::model(move || {
                let ticks = Arc::new(Ticks::new(one_by_one));
                let other = Arc::clone(&ticks);
                let taken = loom::thread::spawn(move || [other.take(1), other.take(2)]);
                let mut taken = [[ticks.take(2), ticks.take(2)], taken.join().unwrap()];
                for own in &taken {
                    assert!(own.iter().flatten().is_sorted());
                }
                taken.as_flattened_mut().sort_unstable();
                let given: Vec<u64> = taken.as_flattened().iter().copied().flatten().collect();
                assert!(given.windows(2).all(|two| two[0] < two[1]), "{given:?}");
                assert_eq!(given.last(), Some(&2));
                assert!(!one_by_one || given == [1, 2]);
            });
        }
    }
}
