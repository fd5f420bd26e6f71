"""Load: clients that ask a server over HTTP, each its next request as soon as it has its answer.

Run as a process of its own (`python -m benchmarks.load`), it prints what it measured as JSON.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import ROOT


@dataclass(frozen=True)
class Load:
    """Requests per second, seconds that half and 19 of 20 took at most, and how many were not answered with 200."""

    per_s: float
    p50: float
    p95: float
    failed: int
    count: int


def start(
    port: int, route: str, bodies: list[Path], *, kind: str, clients: int, seconds: float
) -> subprocess.Popen[str]:
    """`clients` that ask for `seconds`, each in turn with the next of `bodies`; in a process of their own."""
    options = ["--port", port, "--route", route, "--kind", kind, "--clients", clients, "--seconds", seconds]
    command = [sys.executable, "-m", "benchmarks.load", *map(str, [*options, *bodies])]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> Load:
    """What the clients measured, once they are done."""
    said, _ = process.communicate()
    return Load(**json.loads(said))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    for name, of in (("--port", int), ("--route", str), ("--kind", str), ("--clients", int), ("--seconds", float)):
        parser.add_argument(name, type=of, required=True)
    parser.add_argument("bodies", nargs="+", type=Path)
    given = parser.parse_args()
    bodies = [path.read_bytes() for path in given.bodies]
    latencies: list[float] = []
    failed: list[str] = []
    begun = time.perf_counter()
    ends = begun + given.seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", given.port, timeout=60)
        place = number
        while (asked := time.perf_counter()) < ends:
            place += 1
            try:
                connection.request("POST", given.route, bodies[place % len(bodies)], {"Content-Type": given.kind})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    failed.append(str(answer.status))
            except (OSError, http.client.HTTPException) as error:
                failed.append(str(error))
                connection.close()
            latencies.append(time.perf_counter() - asked)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(given.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cuts = statistics.quantiles(latencies, n=20)
    took = time.perf_counter() - begun
    print(json.dumps(Load(len(latencies) / took, cuts[9], cuts[18], len(failed), len(latencies)).__dict__))


if __name__ == "__main__":
    main()
