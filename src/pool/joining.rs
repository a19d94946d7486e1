//! Which pools' workers wait for the end of which other pool.
//!
//! Owned by the process. It never waits itself.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// Pools whose workers wait for the end of another: from, to, by the addresses of their shared parts.
/// Not from `sync`: loom has no statics.
static JOINING: std::sync::Mutex<Vec<(usize, usize)>> = std::sync::Mutex::new(Vec::new());

/// A thread that waits for the end of a pool.
pub(super) struct Joining(Option<(usize, usize)>);

impl Joining {
    /// `from`: the pool whose worker the calling thread is, 0 for none. `None`: somebody on `to`, or
    /// on a pool whose end is waited for there, waits for the end of `from`.
    pub(super) fn begin(from: usize, to: usize) -> Option<Self> {
        if from == 0 {
            return Some(Self(None));
        }
        let Some(mut joining) = Self::list() else {
            return Some(Self(None));
        };
        let mut reached = vec![to];
        let mut looked = 0;
        while let Some(&pool) = reached.get(looked) {
            if pool == from {
                return None;
            }
            looked += 1;
            for &(_, next) in joining.iter().filter(|&&(on, _)| on == pool) {
                if !reached.contains(&next) {
                    reached.push(next);
                }
            }
        }
        joining.push((from, to));
        Some(Self(Some((from, to))))
    }

    /// The list, which is held for a few dozen instructions. `None`: it has been taken for longer, so
    /// this is a child whose parent held it at the fork, and whose pools nobody else waits for.
    fn list() -> Option<std::sync::MutexGuard<'static, Vec<(usize, usize)>>> {
        const LONG: Duration = Duration::from_secs(1);

        let since = Instant::now();
        loop {
            match JOINING.try_lock() {
                Ok(list) => return Some(list),
                Err(std::sync::TryLockError::Poisoned(list)) => return Some(list.into_inner()),
                Err(std::sync::TryLockError::WouldBlock) if since.elapsed() > LONG => return None,
                Err(std::sync::TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
    }
}

impl Drop for Joining {
    fn drop(&mut self) {
        if let Some(edge) = self.0
            && let Some(mut joining) = Self::list()
            && let Some(place) = joining.iter().position(|&other| other == edge)
        {
            joining.swap_remove(place);
        }
    }
}
