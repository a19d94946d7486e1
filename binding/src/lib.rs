//! The binding: Python's view of the core. The only folder that names pyo3.
//!
//! | file           | what it is                                                       |
//! |----------------|------------------------------------------------------------------|
//! | `task.rs`      | `TaskBase`, the native half of `AsyncTask`                       |
//! | `task/job.rs`  | `PyJob`, a handle on its way, and what a run does to it          |
//! | `unseen.rs`    | failures that nobody has looked at when their handles end        |
//! | `pool.rs`      | `PoolBase`, the native half of `AsyncTaskPool`                   |
//! | `runner.rs`    | a worker's life: attach once, run, yield                         |
//! | `options.rs`   | `DelayTask`, `IntervalTask`, `IntervalWithDelayTask`             |
//! | `deadline.rs`  | the deadline of a group, on its pool's clock                     |
//! | `default.rs`   | the default pool and the functions of the module                 |
//! | `ticks.rs`     | the ticks of a series, each given out once                       |
//! | `exit.rs`      | what happens when the interpreter goes away                      |
//! | `testing.rs`   | `ManualClock`                                                    |
//! | `convert.rs`   | durations, in and out                                            |
//! | `errors.rs`    | the core's errors as Python's exceptions                         |
//! | `callback.rs`  | calling Python from a worker; the only `unsafe` for finalization |
//! | `nudge.rs`     | asks a main thread that computes to let a worker have its turn   |
//! | `gate.rs`      | keeps forks apart from threads that come and go                  |
//! | `stack.rs`     | how much stack a thread of Python's would have                   |
//! | `hooks.rs`     | what the binding asks of the package's Python files              |
//!
//! It holds no logic: a method checks its arguments, lets go of the interpreter if it may wait,
//! calls the core and maps the error. Lock rules are on the crate's front page.

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

    /// Under names of their own, for they bear those of the public classes.
    #[pymodule_init]
    fn bases(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        module.add("PoolBase", py.get_type::<crate::pool::PoolBase>())?;
        module.add("TaskBase", py.get_type::<crate::task::TaskBase>())
    }
    #[pymodule_export]
    use crate::ticks::Ticks;
}
