//! Run something in the background, later, and every so often.
//!
//! ```text
//! cargo run --example scheduler
//! ```
#![expect(
    clippy::print_stdout,
    reason = "an example that says nothing shows nothing"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use asynctask::{Every, OnFull, PostErrorKind, Scheduler, SchedulerHandle};

/// Counts the words of a text, in a task for each line.
fn count_words(workers: &SchedulerHandle, text: &'static str) -> Result<usize, asynctask::Error> {
    let lines: Vec<_> = text
        .lines()
        .map(|line| workers.post(move || line.split_whitespace().count()))
        .collect::<Result<_, _>>()?;
    let mut words = 0;
    for line in lines {
        words += line.join()?;
    }
    Ok(words)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scheduler = Scheduler::builder()
        .max_workers(2)
        .thread_name("example")
        .build()?;

    // In the background: a handle can be cloned, and given to whoever posts.
    let words = count_words(scheduler.handle(), "one two\nthree\nfour five six")?;
    println!("{words} words");

    // Later, and not at all.
    let begin = Instant::now();
    let later = scheduler.post_after(Duration::from_millis(50), move || begin.elapsed())?;
    let never = scheduler.post_after(Duration::from_secs(3600), || ())?;
    assert!(never.abort());
    println!("{:?} later", later.join()?);

    // Every so often, until it is stopped.
    let flushed = Arc::new(AtomicUsize::new(0));
    let flush = {
        let flushed = Arc::clone(&flushed);
        let every = Every::new(Duration::from_millis(10)).first(Duration::ZERO);
        scheduler.post_every(&every, move || flushed.fetch_add(1, Ordering::Relaxed))?
    };
    flush.wait_for_runs(3, Some(Duration::from_secs(10)))?;
    flush.stop();
    println!("flushed {} times", flushed.load(Ordering::Relaxed));

    // A callback that panics costs one task, and says why.
    let failed = scheduler.post(|| panic!("no such file"))?.join();
    println!(
        "{}",
        failed.map(|(): ()| "no panic").expect_err("it panics")
    );

    // The end: what is queued runs first.
    scheduler.shutdown();

    // A full queue gives the closure back.
    let busy = Scheduler::builder()
        .max_workers(1)
        .queue_size(0)
        .on_full(OnFull::Refuse)
        .build()?;
    let (go_on, gone_on) = std::sync::mpsc::channel::<()>();
    let first = busy.post(move || gone_on.recv().is_err())?;
    let refused = busy.post(|| "here instead");
    let refused = refused.expect_err("the only worker is busy");
    assert_eq!(refused.kind(), PostErrorKind::QueueFull);
    println!("run {}", refused.into_inner()());
    drop(go_on);
    assert!(first.join()?);
    Ok(())
}
