//! Who is told when the system's wall clock is set.
//!
//! Owned by the sleeper that asked, a timer with deadlines on the wall clock. On Linux that is a thread
//! which sleeps in the kernel until the wall clock is set, and wakes nothing else: a timer that is
//! cancelled by a step (`TFD_TIMER_CANCEL_ON_SET`), which a return from suspend is too. A futex cannot
//! wait for that, hence the thread; it ends with the watch. Elsewhere, and where the system refuses,
//! there is none, and the sleeper looks by itself.
#![forbid(unsafe_code)]

use std::any::Any;
use std::sync::Weak;

use crate::sync::Wake;

/// Keeps a sleeper told of the wall clock's steps until it is dropped.
pub type WallWatch = Box<dyn Any + Send>;

/// Wakes `sleeper` when the wall clock is set. `None`: that cannot be had here.
pub(super) fn watch(sleeper: Weak<dyn Wake>) -> Option<WallWatch> {
    imp::watch(sleeper)
}

#[cfg(all(target_os = "linux", not(loom)))]
mod imp {
    use std::os::fd::OwnedFd;
    use std::sync::{Arc, Weak};

    use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
    use rustix::io::{Errno, read, write};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };

    use super::WallWatch;
    use crate::sync::{Wake, thread};

    /// Ends the thread.
    struct Stop(Arc<OwnedFd>);

    impl Drop for Stop {
        fn drop(&mut self) {
            // Nothing else writes to it, so there is room.
            let _ = write(&*self.0, &1_u64.to_ne_bytes());
        }
    }

    pub(super) fn watch(sleeper: Weak<dyn Wake>) -> Option<WallWatch> {
        const STACK: usize = 64 * 1024;

        let steps = step_fd().ok()?;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?);
        let stopped = Arc::clone(&stop);
        thread::Builder::new()
            .name("asynctask-wall".to_owned())
            .stack_size(STACK)
            .spawn(move || run(&steps, &stopped, &sleeper))
            .ok()?;
        Some(Box::new(Stop(stop)))
    }

    /// Becomes readable when the wall clock is set.
    fn step_fd() -> rustix::io::Result<OwnedFd> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let steps = timerfd_create(TimerfdClockId::Realtime, flags)?;
        let never = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: 1 << 40, // some 35,000 years; the kernel keeps what it can of that
                tv_nsec: 0,
            },
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(&steps, flags, &never)?;
        Ok(steps)
    }

    fn run(steps: &OwnedFd, stop: &OwnedFd, sleeper: &Weak<dyn Wake>) {
        loop {
            let mut fds = [
                PollFd::new(steps, PollFlags::IN),
                PollFd::new(stop, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(_) => return,
            }
            if !fds[1].revents().is_empty() {
                return;
            }
            // Read so that it is not readable any more; that it was is all that counts.
            let mut expirations = [0; 8];
            let _ = read(steps, &mut expirations);
            match sleeper.upgrade() {
                Some(sleeper) => sleeper.wake(),
                None => return,
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use std::time::{Duration, Instant};

        use rustix::time::{ClockId, clock_gettime, clock_settime};

        use super::*;
        use crate::sync::{Parked, Parker};

        #[test]
        #[ignore = "it sets the wall clock, if only to what it shows"]
        fn a_sleeper_is_told_when_the_wall_clock_is_set() {
            let parker = Arc::new(Parker::new());
            let sleeper: Weak<Parker> = Arc::downgrade(&parker);
            let watch = watch(sleeper).expect("there are timers and a thread");
            // A step of a microsecond, but a step.
            let set = || clock_settime(ClockId::Realtime, clock_gettime(ClockId::Realtime));
            set().expect("whoever runs the test may set the clock");
            let told = parker.park(Instant::now().checked_add(Duration::from_secs(20)));
            assert_eq!(told, Parked::Notified);
            set().unwrap();
            let told = parker.park(Instant::now().checked_add(Duration::from_secs(20)));
            assert_eq!(told, Parked::Notified, "the second time");
            drop(watch);
        }

        #[test]
        fn the_thread_ends_with_the_watch() {
            let steps = step_fd().unwrap();
            let stop = Arc::new(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
            drop(Stop(Arc::clone(&stop)));
            let parker = Arc::new(Parker::new());
            let sleeper: Weak<Parker> = Arc::downgrade(&parker);
            run(&steps, &stop, &(sleeper as Weak<dyn Wake>));
        }
    }
}

#[cfg(not(all(target_os = "linux", not(loom))))]
mod imp {
    use std::sync::Weak;

    use super::WallWatch;
    use crate::sync::Wake;

    pub(super) fn watch(_sleeper: Weak<dyn Wake>) -> Option<WallWatch> {
        None
    }
}
