"""The clients of `session_server.py`: a few thousand of them, in one asyncio loop.

Clients take turns at being one of two kinds. A *talker* sends a request every period until the end
and then hangs up; its session must never expire, though it lasts longer than the idle timeout. A
*quiet* client sends from none to eight requests, one a period, and then says nothing more; the
server must hang up on it, after the idle timeout and not before.

Who sends what is fixed beforehand, so that client and server can compare their counts to the last
one. The counts go to stdout at the end, as one line of JSON. Started by the server, as
``session_load.py --port PORT --clients N --idle SECONDS --period SECONDS``. It uses no asynctask:
what checks the library must not depend on it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass, field

RAMP = 2
"""Periods over which the clients arrive; it spreads all that follows evenly over the seconds."""
TALKER_REQUESTS = 15
QUIET_REQUESTS = 9
"""Quiet clients send fewer than this many."""
PATIENCE = 10.0
"""Seconds by which the server may be late before a client gives up."""


@dataclass
class Report:
    """What the clients were to do, and what they saw."""

    talkers: int
    quiet: int
    planned: int
    """Requests that are to be sent."""
    sent: int = 0
    right: int = 0
    wrong: int = 0
    hung_up: int = 0
    """Talkers that got through to their end."""
    cut_off: int = 0
    """Clients that lost the connection while they still had requests to send."""
    expired: int = 0
    """Quiet clients on which the server hung up after the idle timeout."""
    expired_early: int = 0
    """Quiet clients on which it did so before."""
    never_expired: int = 0
    """Quiet clients on which it did not."""
    closed_after_ms: list[float] = field(default_factory=list)
    """How long after the idle timeout each of them saw the end of its connection."""


def requests_of(client: int) -> int:
    """Give the number of requests that a client sends; even numbers are talkers."""
    return TALKER_REQUESTS if client % 2 == 0 else client // 2 % QUIET_REQUESTS


def request(client: int, number: int) -> tuple[bytes, bytes]:
    """Make a request, and the reply that it must get."""
    match (client + number) % 4:
        case 0:
            asked, answer = f"SUM {client} {number} 7", f"OK {client + number + 7}"
        case 1:
            text = f"client-{client}"
            asked, answer = f"HASH {text}", f"OK {hashlib.sha256(text.encode()).hexdigest()}"
        case 2:
            asked, answer = f"FACTOR {641 * 997}", "OK 641 997"
        case _:
            asked, answer = "JUMP high", "ERROR unknown verb JUMP"
    return f"{number} {asked}\n".encode(), f"{number} {answer}\n".encode()


async def client(number: int, start: float, args: argparse.Namespace, report: Report) -> None:
    """Be one client, from its connection to its end."""
    await asyncio.sleep(start - time.monotonic())
    spoke = time.monotonic()
    requests = requests_of(number)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", args.port)
    except OSError:
        report.cut_off += 1
        return
    try:
        for turn in range(requests):
            await asyncio.sleep(start + turn * args.period - time.monotonic())
            asked, expected = request(number, turn)
            spoke = time.monotonic()
            writer.write(asked)
            report.sent += 1
            reply = await reader.readline()
            if not reply:
                report.cut_off += 1
                return
            if reply == expected:
                report.right += 1
            else:
                report.wrong += 1
        if requests == TALKER_REQUESTS:
            report.hung_up += 1
        else:
            await be_quiet(reader, spoke + args.idle, report)
    except ConnectionError:
        report.cut_off += 1
    finally:
        writer.close()


async def be_quiet(reader: asyncio.StreamReader, deadline: float, report: Report) -> None:
    """Wait for the server to hang up, which it may do from *deadline* on."""
    try:
        async with asyncio.timeout(deadline + PATIENCE - time.monotonic()):
            rest = await reader.read()
    except TimeoutError:
        report.never_expired += 1
        return
    late = time.monotonic() - deadline
    if rest:
        report.wrong += 1
    if late < 0:
        report.expired_early += 1
    else:
        report.expired += 1
    report.closed_after_ms.append(round(late * 1e3, 3))


async def all_clients(args: argparse.Namespace) -> Report:
    """Run all clients to their ends."""
    requests = [requests_of(number) for number in range(args.clients)]
    talkers = requests.count(TALKER_REQUESTS)
    report = Report(talkers=talkers, quiet=args.clients - talkers, planned=sum(requests))
    start = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(args.clients):
            arrival = start + number * RAMP * args.period / args.clients
            group.create_task(client(number, arrival, args, report))
    return report


def main() -> int:
    """Run the clients and print their report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--idle", type=float, required=True, help="the idle timeout, in seconds")
    parser.add_argument("--period", type=float, required=True, help="seconds between two requests")
    args = parser.parse_args()
    try:
        print(json.dumps(asdict(asyncio.run(all_clients(args)))), flush=True)
    except (KeyboardInterrupt, BrokenPipeError):  # the server has gone, or is about to
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
