"""Benchmarks beside the peers: ``python -m benchmarks``.

Every peer takes turns with us in one run, so that a busy moment of the machine hits all of them;
what is compared is the ratio within a round. Each workload counts what it did and checks it.

- `harness` times, takes turns, and finds quiet rounds; it knows no workload. `progress` says how
  far it is.
- `results` are what a run found, as JSON; `machine` is what it ran on; `report` makes the text.
- `headlines` chooses the figures that README shows, and compares two runs by them; `render` writes
  the documents, with `markdown` and `plots`.
- `workloads` has one module for each workload; `child` and `ticking` are the programs of those that
  need a process of their own, and `native` has the core's and its peers in Rust, Go and Java.
- `instructions` counts instructions instead of time, for tests.
"""
