//! The binding: Python's view of the core, and the only folder that names pyo3. The crate is the native
//! module `asynctask._asynctask`, which the package in `python/asynctask` is written around.
//!
//! It holds no logic: a method checks its arguments, lets go of the interpreter if it may wait, calls the
//! core and maps the error. Lock rules are on the core's front page.
//!
//! Files use each other downwards: each uses others of its own group and of groups below it, and none is
//! used by what it uses, but for `task.rs` and `task/job.rs`, a handle and its runs.
//!
//! | what Python sees   |                                                                         |
//! |--------------------|-------------------------------------------------------------------------|
//! | `install.rs`       | what the package calls when it is imported                              |
//! | `default.rs`       | the default pool, and the functions of the module                       |
//! | `pool.rs`, `pool/` | `PoolBase`, the native half of `AsyncTaskPool`: `arguments.rs` what it is told, `post.rs` how it posts, `methods.rs` what Python sees |
//! | `task.rs`, `task/` | `TaskBase`, the native half of `AsyncTask`: `job.rs` its runs, `wait.rs` waiting for it, `elsewhere.rs` runs on loops and executors, `methods.rs` what Python sees |
//! | `plan.rs`          | when a task is to run, as its options say together                      |
//! | `options.rs`       | `DelayTask`, `IntervalTask`, `IntervalWithDelayTask`                    |
//! | `deadline.rs`      | the deadline of a group, on its pool's clock                            |
//! | `ticks.rs`         | the ticks of a series, each given out once                              |
//! | `testing.rs`       | `ManualClock`                                                           |
//!
//! | life and death     |                                                                         |
//! |--------------------|-------------------------------------------------------------------------|
//! | `fork.rs`          | what is done at each fork                                               |
//! | `exit.rs`          | what happens to pools when the interpreter goes away                    |
//! | `runner.rs`        | a worker's life: attach once, run, let others have the interpreter      |
//! | `unseen.rs`        | failures that nobody has looked at when their handles end               |
//! | `attach.rs`        | how a thread of ours comes to Python, and how it leaves for good        |
//! | `gil.rs`           | what pools do where there is a GIL, and where there is none             |
//! | `nudge.rs`         | asks a main thread that computes to let a worker have its turn          |
//! | `gate.rs`          | keeps forks apart from threads that come and go                         |
//!
//! | ground             |                                                                         |
//! |--------------------|-------------------------------------------------------------------------|
//! | `coroutine.rs`     | whether calling something gives a coroutine                             |
//! | `hooks.rs`         | what the binding asks of Python's side, found by name at the import     |
//! | `context.rs`       | contexts: taken at the post, entered by the run                         |
//! | `signals.rs`       | what a wait asks after a signal                                         |
//! | `kept.rs`          | references that are let go of attached                                  |
//! | `callback.rs`      | calls of Python that survive the end of the interpreter                 |
//! | `thread.rs`        | what belongs to a thread: is it a worker, which callbacks is it in      |
//! | `stack.rs`         | how much stack a thread of Python's would have                          |
//! | `convert.rs`       | arguments: durations, counts, words, flags                              |
//! | `errors.rs`        | the core's errors as Python's exceptions                                |
//!
//! `unsafe` stands where CPython has no safe door: in `callback.rs`, `kept.rs`, `attach.rs`, `context.rs`,
//! `coroutine.rs`, `thread.rs`, `stack.rs`, `task.rs`, `task/job.rs`, `nudge.rs`, `fork.rs` and `unseen.rs`.
//! Each block has its numbered reasons. What was measured is in `docs/design/binding.md`.

#![allow(
    clippy::doc_markdown,
    reason = "many of these comments are docstrings, which are not Markdown"
)]
#![allow(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    clippy::used_underscore_items,
    reason = "the name and shape of a method that Python calls are given"
)]

mod attach;
mod callback;
mod context;
mod convert;
mod coroutine;
mod deadline;
mod default;
mod errors;
mod exit;
mod fork;
mod gate;
mod gil;
mod hooks;
mod install;
mod kept;
mod nudge;
mod options;
mod plan;
mod pool;
mod runner;
mod signals;
mod stack;
mod task;
mod testing;
mod thread;
mod ticks;
mod unseen;

/// The extension module: a table of contents.
#[pyo3::pymodule(gil_used = false)]
mod _asynctask {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::convert::_seconds;
    #[pymodule_export]
    use crate::deadline::Deadline;
    #[pymodule_export]
    use crate::default::{
        _reset_default_pool, _wait_and_exit, check_cancelled, current_task, get_async_task,
        post_task, set_work_pool_options, sleep,
    };
    #[pymodule_export]
    use crate::exit::{_drain_at_exit, _log_alive, _stop_at_exit};
    #[pymodule_export]
    use crate::fork::{_after_fork_in_child, _after_fork_in_parent, _before_fork};
    #[pymodule_export]
    use crate::install::_install;
    #[pymodule_export]
    use crate::nudge::{_nudge_state, _stay_at_list};
    #[pymodule_export]
    use crate::options::{_remake_option, DelayTask, IntervalTask, IntervalWithDelayTask};
    #[pymodule_export]
    use crate::task::wait::_lend;
    #[pymodule_export]
    use crate::testing::ManualClock;

    #[pymodule_export]
    use crate::ticks::Ticks;

    /// Under names of their own, for they bear those of the public classes.
    #[pymodule_init]
    fn bases(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        module.add("PoolBase", py.get_type::<crate::pool::PoolBase>())?;
        module.add("TaskBase", py.get_type::<crate::task::TaskBase>())
    }
}
