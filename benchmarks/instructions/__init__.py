"""Instructions per operation, and their bounds: ``python -m benchmarks.instructions``.

A count of instructions does not depend on how busy the machine is, so it can be a test where a time
cannot. It is no time either: a cache miss costs nothing here. The rest of `benchmarks` has those.

- `__main__` runs programs under callgrind, prints the table, compares it with `bounds.toml`, and
  writes that file.
- `binding` is the program whose operations are the module's; `benches/instructions.rs` the one
  whose operations are the core's.
"""
