//! How a thread of ours comes to Python, and how it leaves for good.
//!
//! Owned by the thread. Workers and the thread that logs failures live this way; what they do meanwhile
//! is theirs.

use pyo3::prelude::*;

use crate::callback;
use crate::context;
use crate::gate::InTransition;
use crate::hooks::Hooks;
use crate::kept::try_attach;

/// Has the calling thread, which has just been started, attach for the first time, calls `arrived`, has
/// `threading` know the thread as `name`, and lives its `life`. Afterwards all that Python has of the
/// thread is gone. If the interpreter is going away, nothing is called.
pub(crate) fn live(name: &str, arrived: impl FnOnce(), life: impl FnOnce(Python<'_>)) {
    let mut transition = Some(InTransition::begin());
    try_attach(|py| {
        arrived();
        let unregister = Hooks::register_thread(py, name);
        drop(transition.take());
        life(py);
        transition = Some(InTransition::begin_attached(py));
        Hooks::unregister_thread(unregister);
        context::drop_spare(py);
        // SAFETY: `try_attach` has attached this thread, which is one of ours, and was not before.
        unsafe { callback::end_thread_state(py) };
    });
    drop(transition); // not before the state has ended
}
