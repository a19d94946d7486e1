//! The core of asynctask beside its peers in Rust.
//!
//! - [`containers`]: wheels and what could do a wheel's job, as data on one thread
//! - [`services`]: timers that threads share, with the clock, lock or thread they come with
//! - [`workloads`]: what is done with them, timed and checked
//!
//! Nothing here knows who asks or what the figures are for.

use tokio::runtime::{EnterGuard, Handle, Runtime};

pub mod containers;
pub mod services;
pub mod workloads;

/// Nanoseconds in a millisecond.
pub const MILLISECOND: u64 = 1_000_000;
/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000 * MILLISECOND;

/// What can be asked of every contestant that keeps timers.
pub trait Timers {
    /// What cancels a timer.
    type Key;
    /// Whether a single timer can be taken out again.
    const CANCELS: bool = true;

    /// One without timers.
    fn new() -> Self;

    /// Adds a timer that is due `delay` nanoseconds from now.
    fn insert(&mut self, delay: u64) -> Self::Key;

    /// Takes a timer out; `false`: it was not there.
    fn cancel(&mut self, key: Self::Key) -> bool;

    /// How many timers have fired by themselves.
    fn fired(&self) -> u64 {
        0
    }
}

/// Timers whose time is moved by hand.
pub trait Virtual: Timers {
    /// Moves time on in `steps` steps of a millisecond, from 0. Gives how many timers had fired after
    /// each step.
    fn advance(&mut self, steps: u32) -> Vec<u64>;
}

/// Enters a runtime for as long as a contestant lives, so that no call has to. The handle is leaked,
/// not the runtime.
fn entered(runtime: &Runtime) -> EnterGuard<'static> {
    let handle: &'static Handle = Box::leak(Box::new(runtime.handle().clone()));
    handle.enter()
}

/// Xorshift: the same numbers in each run, for each contestant, in each language.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From the one seed there is.
    pub fn new() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u64::try_from((u128::from(self.0) * u128::from(bound)) >> 64).expect("below the bound")
    }

    /// A minute to two: spread over a minute, and none due while it is measured.
    pub fn delay(&mut self) -> u64 {
        60 * SECOND + self.below(60 * SECOND)
    }

    /// Puts `items` in any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = usize::try_from(self.below(at as u64 + 1)).expect("an index");
            items.swap(at, other);
        }
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}
