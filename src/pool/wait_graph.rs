//! The wait-for graph of pools: whose workers wait for the end of which other pool.
//!
//! Owned by the process, for a circle can go through any of its pools. It never waits for a pool itself,
//! and holds its lock for a few dozen instructions, more where hundreds of pools wait for each other.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// Pools whose workers wait for the end of another: from, to, by their ids.
/// Not from `sync`: loom has no statics.
static JOINS: std::sync::Mutex<Vec<(usize, usize)>> = std::sync::Mutex::new(Vec::new());

/// A worker that waits for the end of a pool, or another thread, which is on no pool and so in no circle.
pub(super) struct JoinEdge(Option<(usize, usize)>);

impl JoinEdge {
    /// `from`: the pool whose worker the calling thread is, 0 for none. `None`: somebody on `to`, or
    /// on a pool whose end is waited for there, waits for the end of `from`.
    pub(super) fn add(from: usize, to: usize) -> Option<Self> {
        if from == 0 {
            return Some(Self(None));
        }
        let Some(mut edges) = Self::lock_all() else {
            return Some(Self(None));
        };
        let mut reached = vec![to];
        let mut looked = 0;
        while let Some(&pool) = reached.get(looked) {
            if pool == from {
                return None;
            }
            looked += 1;
            for &(_, next) in edges.iter().filter(|&&(on, _)| on == pool) {
                if !reached.contains(&next) {
                    reached.push(next);
                }
            }
        }
        edges.push((from, to));
        Some(Self(Some((from, to))))
    }

    /// The edges. `None`: it has been taken for longer, so
    /// this is a child whose parent held it at the fork, and whose pools nobody else waits for.
    fn lock_all() -> Option<std::sync::MutexGuard<'static, Vec<(usize, usize)>>> {
        const LONG: Duration = Duration::from_secs(1);

        let since = Instant::now();
        loop {
            match JOINS.try_lock() {
                Ok(list) => return Some(list),
                Err(std::sync::TryLockError::Poisoned(list)) => return Some(list.into_inner()),
                Err(std::sync::TryLockError::WouldBlock) if since.elapsed() > LONG => return None,
                Err(std::sync::TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
    }
}

impl Drop for JoinEdge {
    fn drop(&mut self) {
        if let Some(edge) = self.0
            && let Some(mut edges) = Self::lock_all()
            && let Some(place) = edges.iter().position(|&other| other == edge)
        {
            edges.swap_remove(place);
        }
    }
}
