//! Answers requests on its standard input, one a line: a workload, a contestant, and numbers. Each
//! answer is a line of JSON with the figures.

use std::io::{self, BufRead, Write};

use asynctask::Scheduler;
use asynctask_benchmarks::containers::{Delays, HashWheel, Heap, TimingWheel, Tree};
use asynctask_benchmarks::services::{HashWheelThread, OurScheduler, PausedSleeps, Sleeps};
use asynctask_benchmarks::workloads::{Figures, churn, expire, held, insert, pool, storm};

fn answer(workload: &str, contestant: &str, numbers: &[usize]) -> Option<Figures> {
    Some(match (workload, contestant, numbers) {
        ("insert", name, &[pending, count]) => (match name {
            "Wheel" => insert::<TimingWheel>,
            "BTreeMap" => insert::<Tree>,
            "BinaryHeap" => insert::<Heap>,
            "DelayQueue" => insert::<Delays>,
            "hash-wheel" => insert::<HashWheel>,
            "Scheduler" => insert::<OurScheduler>,
            "tokio" => insert::<Sleeps<false>>,
            "hash-wheel-thread" => insert::<HashWheelThread>,
            _ => return None,
        })(pending, count),
        ("churn", name, &[pending, count]) => (match name {
            "Wheel" => churn::<TimingWheel>,
            "BTreeMap" => churn::<Tree>,
            "DelayQueue" => churn::<Delays>,
            "hash-wheel" => churn::<HashWheel>,
            "Scheduler" => churn::<OurScheduler>,
            "tokio" => churn::<Sleeps<false>>,
            "hash-wheel-thread" => churn::<HashWheelThread>,
            _ => return None,
        })(pending, count),
        ("expire", name, &[count]) => (match name {
            "Wheel" => expire::<TimingWheel>,
            "BTreeMap" => expire::<Tree>,
            "BinaryHeap" => expire::<Heap>,
            "DelayQueue" => expire::<Delays>,
            "hash-wheel" => expire::<HashWheel>,
            "tokio" => expire::<PausedSleeps>,
            _ => return None,
        })(count),
        ("storm", name, &[count]) => (match name {
            "Scheduler" => storm::<Scheduler>,
            "tokio" => storm::<tokio::runtime::Runtime>,
            "hash-wheel-thread" => storm::<HashWheelThread>,
            _ => return None,
        })(count as u64),
        ("held", "Scheduler", &[count]) => held(count as u64),
        ("pool", name, &[producers, count]) => (match name {
            "Scheduler" => pool::<Scheduler>,
            "rayon" => pool::<rayon::ThreadPool>,
            "threadpool" => pool::<threadpool::ThreadPool>,
            _ => return None,
        })(producers, count),
        _ => return None,
    })
}

fn main() -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [workload, contestant, numbers @ ..] = words.as_slice() else {
            panic!("a workload and a contestant, not {line:?}");
        };
        let numbers: Vec<usize> = numbers
            .iter()
            .map(|number| number.parse().expect("a number"))
            .collect();
        let figures = answer(workload, contestant, &numbers)
            .unwrap_or_else(|| panic!("no such workload or contestant: {line:?}"));
        let fields: Vec<String> = figures
            .iter()
            .map(|(name, values)| format!("\"{name}\": {values:?}"))
            .collect();
        writeln!(io::stdout(), "{{{}}}", fields.join(", "))?;
        io::stdout().flush()?;
    }
    Ok(())
}
