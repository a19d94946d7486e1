"""Benchmarks beside the peers: ``python -m benchmarks``.

Every peer takes turns with us in one run, so that a busy moment of the machine hits all of them;
what is compared is the ratio within a round. Each workload counts what it did and checks it.

- `harness` times, takes turns, and finds quiet rounds; it knows no workload.
- `report` makes the table and the JSON.
- `workloads` has one module for each workload; `child` is the program of those that need a process
  of their own.
"""
