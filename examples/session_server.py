"""A TCP server with a few thousand sessions, each with an idle timeout, and a heartbeat.

What a service that keeps sessions needs a clock for, and how asynctask does it:

- *An idle timeout for each session* is one delay task, which `reschedule` puts off whenever the
  client says something. A few thousand of them wait on the timing wheel at no cost.
- *Requests* are tasks that run now. The pool's workers answer them while the main thread reads on.
- *The heartbeat* is an interval task. It prints a line every second and does not drift.
- *The watchdog* is one more delay task: should anything hang, it ends the demonstration.

The file reads from top to bottom: the protocol, the session server, the report, the program. The
main thread alone accepts, reads and closes sockets, in a plain selector loop. Workers answer, and
end a session by shutting its connection down, which the loop then sees as its end.

The clients are `session_load.py`, a process of its own. Half of them go silent, and their sessions
must expire; the other half keep talking, and theirs must not. At the end both sides' counts must
agree, and no task may have run before its deadline.

Run it with ``python examples/session_server.py``, on Linux or macOS. It takes about 16 seconds, and
exits with 1 if a check fails.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from asynctask import AsyncTaskPool, DelayTask, IntervalTask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from asynctask import AsyncTask, PoolStats

HEARTBEAT = 1.0
WATCHDOG = 50.0
SPARE_FILES = 64
"""File descriptors that are not sessions."""


# The protocol: a request is a line `NUMBER VERB ARGUMENTS`, and so is its reply, under the same
# number, for workers may finish a client's requests in another order.


def answer(line: bytes) -> bytes:
    """Work out the reply to a request."""
    number, _, request = line.decode(errors="replace").strip().partition(" ")
    verb, *arguments = request.split() or [""]
    try:
        match verb:
            case "SUM":
                result = f"OK {sum(map(int, arguments))}"
            case "HASH":
                result = f"OK {hashlib.sha256(' '.join(arguments).encode()).hexdigest()}"
            case "FACTOR":
                result = f"OK {' '.join(map(str, factors(int(arguments[0]))))}"
            case _:
                result = f"ERROR unknown verb {verb}"
    except (ValueError, IndexError):
        result = f"ERROR bad arguments for {verb}"
    return f"{number} {result}\n".encode()


def factors(number: int) -> list[int]:
    """Factor a number by trial division, a real if small piece of work."""
    if not 0 < number < 10**9:
        raise ValueError(number)
    found = []
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return [*found, number] if number > 1 else found


@dataclass(slots=True, eq=False)
class Session:
    """One client's connection."""

    socket: socket.socket
    deadline: int = 0
    """When it expires unless the client says something, in monotonic nanoseconds."""
    timeout: AsyncTask[None] = field(init=False)
    unread: bytes = b""
    """The beginning of a line whose end has not arrived."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held to use the socket on a worker, and to close it: a closed socket's number may be given
    to another client at once, who must not get this one's reply."""


@dataclass
class Tally:
    """What happened. Each number is written by one thread only, or under the lock."""

    opened: int = 0
    left: int = 0
    """Sessions that the client ended."""
    received: int = 0
    answered: int = 0
    unsent: int = 0
    too_late: int = 0
    """Requests that met with an expired session."""
    lateness: list[int] = field(default_factory=list)
    """Of each session that expired: start of the task minus its deadline, in nanoseconds."""
    beats: list[int] = field(default_factory=list)
    """When the heartbeat's runs started."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def expired(self) -> int:
        """The number of sessions that expired."""
        return len(self.lateness)


class SessionServer:
    """Serves sessions on 127.0.0.1 with the workers and timers of a pool."""

    def __init__(self, pool: AsyncTaskPool, idle_timeout: float) -> None:
        self.pool = pool
        self.idle_timeout = idle_timeout
        self.tally = Tally()
        self.sessions: set[Session] = set()
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.listener.setblocking(False)
        self.port: int = self.listener.getsockname()[1]
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        self.last_beat = (time.monotonic_ns(), 0)

    # On the main thread.

    def serve(self, load: IO[bytes]) -> bytes:
        """Serve until the load at the other end of a pipe has ended, and every session has.

        Returns what the load wrote.
        """
        written = bytearray()

        def read_load() -> None:
            chunk = os.read(load.fileno(), 1 << 16)
            written.extend(chunk)
            if not chunk:
                self.selector.unregister(load)

        self.selector.register(load, selectors.EVENT_READ, read_load)
        while self.sessions or load in self.selector.get_map():
            for key, _ in self.selector.select():
                key.data()
        return bytes(written)

    def accept(self) -> None:
        """Begin a session for each client at the door."""
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self.listener.accept()
                connection.setblocking(False)
                # Noted before the post, so it is never after the deadline that asynctask keeps.
                session = Session(connection, self.next_deadline())
                session.timeout = self.pool.post_task(
                    self.expire, DelayTask(self.idle_timeout), args=(session,)
                )
                self.sessions.add(session)
                self.tally.opened += 1
                read = partial(self.read, session)
                self.selector.register(connection, selectors.EVENT_READ, read)

    def next_deadline(self) -> int:
        """Say when a session expires whose client has just been heard of."""
        return time.monotonic_ns() + round(self.idle_timeout * 1e9)

    def read(self, session: Session) -> None:
        """Read what a client says: put its timeout off, and post its requests."""
        try:
            heard = session.socket.recv(4096)
        except BlockingIOError:
            return
        except OSError:  # the client is gone
            heard = b""
        if not heard:
            self.end(session)
            return
        *lines, session.unread = (session.unread + heard).split(b"\n")
        deadline = self.next_deadline()
        if not session.timeout.reschedule(self.idle_timeout):
            self.tally.too_late += len(lines)  # it has expired in this very moment
            return
        session.deadline = deadline
        for line in lines:
            self.tally.received += 1
            self.pool.submit(self.reply, session, line)

    def end(self, session: Session) -> None:
        """End a session: the client has hung up, or the timeout has shut the connection down."""
        if session.timeout.cancel():  # false if it has run
            self.tally.left += 1
        self.selector.unregister(session.socket)
        self.sessions.remove(session)
        with session.lock:
            session.socket.close()

    def close(self) -> None:
        """Close every socket, even in the middle of something: Ctrl-C may come at any time."""
        for session in self.sessions:
            with session.lock:
                session.socket.close()
        self.listener.close()
        self.selector.close()

    # On a worker.

    def reply(self, session: Session, line: bytes) -> None:
        """Answer a request."""
        reply = answer(line)
        try:
            with session.lock:
                session.socket.sendall(reply)
        except OSError:  # the client is gone, or does not read what it asked for
            with self.tally.lock:
                self.tally.unsent += 1
        else:
            with self.tally.lock:
                self.tally.answered += 1

    def expire(self, session: Session) -> None:
        """End a session whose client has said nothing for too long."""
        self.tally.lateness.append(time.monotonic_ns() - session.deadline)
        with session.lock, contextlib.suppress(OSError):
            session.socket.shutdown(socket.SHUT_RDWR)

    def beat(self) -> None:
        """Print a line about the second that has passed."""
        now, received = time.monotonic_ns(), self.tally.received
        self.tally.beats.append(now)
        then, received_then = self.last_beat
        self.last_beat = (now, received)
        rate = (received - received_then) * 1e9 / (now - then)
        print(
            f"{len(self.tally.beats):>4}{len(self.sessions):>10}{rate:>12.0f}"
            f"{self.tally.expired:>10}    {spread(self.tally.lateness)}",
            flush=True,
        )


# The report.


def spread(nanoseconds: Sequence[int]) -> str:
    """Sum latenesses up."""
    if not nanoseconds:
        return "-"
    ordered = sorted(nanoseconds)
    p50, p99 = (ordered[int((len(ordered) - 1) * share)] / 1e6 for share in (0.50, 0.99))
    return f"p50 {p50:.3f}   p99 {p99:.3f}   max {ordered[-1] / 1e6:.3f} ms"


def report(tally: Tally, posted: int, stats: PoolStats, seen: dict[str, Any]) -> bool:
    """Print the table and the checks, and say whether all of them hold.

    Args:
        tally: What the server counted.
        posted: When the heartbeat was posted.
        stats: What the pool counted.
        seen: What the clients saw.
    """
    interval = round(HEARTBEAT * 1e9)
    early_beats = sum(
        start < posted + number * interval for number, start in enumerate(tally.beats, start=1)
    )
    early = sum(late < 0 for late in tally.lateness) + early_beats
    # By how much each beat came after its own deadline, be there beats that were skipped or not.
    phases = [(start - posted) % interval for start in tally.beats]
    drift = statistics.median(phases[-5:]) - statistics.median(phases[:5]) if phases else 0.0
    skipped = stats.skipped_runs + stats.missed_runs
    seen_late = [round(ms * 1e6) for ms in seen["closed_after_ms"]]

    print(f"""
sessions          {tally.opened} opened, {tally.expired} expired, {tally.left} left by the client
requests          {tally.received} received, {tally.answered} answered
session timeouts  lateness {spread(tally.lateness)}
  as clients see  lateness {spread(seen_late)}
heartbeat         lateness {spread(phases)}
  over {len(phases):>3} beats  drift {drift / 1e6:+.3f} ms, {skipped} skipped
early runs        {early}
""")
    checks = {
        "no task ran before its deadline": early == 0,
        "no client was hung up on before its time": seen["expired_early"] == 0,
        "every request was sent, received, answered, and answered right": (
            seen["planned"]
            == seen["sent"]
            == tally.received
            == tally.answered
            == stats.successful - tally.expired
            == seen["right"]
        ),
        "every quiet client's session expired, and no other": (
            seen["quiet"] == tally.expired == seen["expired"]
        ),
        "every talker hung up by itself": seen["talkers"] == tally.left == seen["hung_up"],
        "no session was left over": tally.opened == tally.expired + tally.left,
        "nothing failed, was refused, or came to nothing": not any(
            [tally.too_late, tally.unsent, stats.failed, stats.dropped]
            + [seen[what] for what in ("wrong", "cut_off", "never_expired")]
        ),
        "every task that was posted is accounted for": (
            stats.submitted == stats.completed + stats.cancelled
        ),
    }
    for what, holds in checks.items():
        print(f"{'ok    ' if holds else 'FAILED'}  {what}")
    if not all(checks.values()):
        del seen["closed_after_ms"]
        print(f"\nserver: {tally.too_late=} {tally.unsent=}\npool: {stats}\nclients: {seen}")
        if early == 0 and tally.expired > seen["quiet"]:
            print("talkers expired, but none early: is the machine too busy for so many clients?")
    return all(checks.values())


# The program.


def room_for(clients: int) -> int:
    """Raise the limit on open files as far as needed, and say how many clients it lets in."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = clients + SPARE_FILES
    if soft == resource.RLIM_INFINITY:
        return clients
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < needed:
        print(f"only {soft} files may be open: {soft - SPARE_FILES} clients, not {clients}")
    return min(clients, soft - SPARE_FILES)


@contextlib.contextmanager
def started_load(port: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start the clients; they are gone at the end of the block, whatever happens in it."""
    script = Path(__file__).with_name("session_load.py")
    with subprocess.Popen(
        [sys.executable, script, f"--port={port}", *options],
        stdout=subprocess.PIPE,
        process_group=0,  # Ctrl-C is for the server, which ends the clients
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def main() -> int:
    """Serve one load, and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=3000)
    parser.add_argument("--idle", type=float, default=4.0, help="the idle timeout, in seconds")
    parser.add_argument("--period", type=float, default=1.0, help="seconds between two requests")
    args = parser.parse_args()
    clients = room_for(args.clients)
    options = f"--clients={clients}", f"--idle={args.idle}", f"--period={args.period}"
    # Leaving the pool's block runs what is queued, and cancels timers and series. Leaving the
    # others before it closes the sockets and ends the clients.
    with (
        AsyncTaskPool(8, thread_name_prefix="worker") as pool,
        contextlib.closing(SessionServer(pool, args.idle)) as server,
        started_load(server.port, *options) as load,
    ):
        print(f"{clients} clients on 127.0.0.1:{server.port}, idle timeout {args.idle} s\n")
        print("beat  sessions  requests/s   expired    lateness of the timeouts so far", flush=True)
        pool.post_task(load.terminate, DelayTask(WATCHDOG), name="watchdog")
        posted = time.monotonic_ns()
        heartbeat = pool.post_task(server.beat, IntervalTask(HEARTBEAT), name="heartbeat")
        written = server.serve(cast("IO[bytes]", load.stdout))
        heartbeat.stop_and_wait(timeout=5)
        load.wait(timeout=5)
    if load.returncode != 0:
        print(f"\nFAILED  the clients ended with code {load.returncode}")
        return 1
    return 0 if report(server.tally, posted, pool.stats(), json.loads(written)) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the same as Ctrl-C
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted")
        sys.exit(130)
