//! What a wait asks after a signal.
//!
//! Owned by nobody. It never waits, and runs no handler on a thread that has none to run.

use pyo3::prelude::*;

use crate::kept::try_attach;

/// Whether this is the thread that Python's signal handlers run on, as far as can be told without
/// the interpreter.
fn is_main_thread() -> bool {
    #[cfg(target_os = "linux")]
    return rustix::thread::gettid() == rustix::process::getpid();
    #[cfg(not(target_os = "linux"))]
    true
}

/// The question that a wait asks after a signal: has a handler raised? Only the main thread ever
/// hears yes.
pub(crate) fn interrupted(raised: &mut Option<PyErr>) -> impl FnMut() -> bool {
    move || {
        if !is_main_thread() {
            return false; // nobody raises here, so there is no need for the interpreter
        }
        #[expect(
            clippy::redundant_closure_for_method_calls,
            reason = "the method by itself is not general enough over lifetimes"
        )]
        // `None`: the interpreter is going away, and this thread has nothing more to hear from it.
        let error = try_attach(|py| py.check_signals());
        *raised = error.and_then(Result::err);
        raised.is_some()
    }
}
