"""Worker processes: plain interpreters fed over a pipe, which end with their parent, however it ends.

Not `multiprocessing`, because its workers import the parent's main module again. ZenML's command line takes 2 s each
time, and a user's script without a main guard would start itself. Its workers also outlive a parent that was killed.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial

from selftrain.errors import SelftrainError

Json = Mapping[str, object]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(function: str, tasks: Sequence[Json], *, workers: int, inherit: tuple[int, ...] = ()) -> Iterator[int]:
    """Run `function` ("package.module:name") on every task, its keyword arguments; yields their positions when done.

    This process is the first worker and works while the others start. Tasks are JSON; the function leaves its results
    on disk. The workers hold the file descriptors `inherit` (a lock's) until they end. Raises SelftrainError for the
    first task that fails in a worker, and ends all workers.
    """
    own = threading.local()
    own_lane = threading.Lock()
    started: list[_Worker] = []

    def call(position: int) -> int:
        if not hasattr(own, "call"):
            if own_lane.acquire(blocking=False):
                own.call = partial(_call, _find(function))
            else:
                started.append(_Worker(function, inherit))
                own.call = started[-1].call
        own.call(tasks[position])
        return position

    threads = ThreadPoolExecutor(max(1, min(workers, len(tasks))))
    try:
        for future in as_completed([threads.submit(call, position) for position in range(len(tasks))]):
            yield future.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in started:  # ends the tasks that run
            worker.stop()
        threads.shutdown(wait=True)
        for worker in started:  # one may have been starting
            worker.stop()


class _Worker:
    """One interpreter that answers each line of JSON with one line."""

    def __init__(self, function: str, inherit: tuple[int, ...]) -> None:
        # One thread a process: the processes already fill the cores.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "selftrain.data.workers", function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            pass_fds=inherit,
            text=True,
            encoding="utf-8",
        )

    def call(self, task: Json) -> None:
        if self._process.stdin is None or self._process.stdout is None:
            raise SelftrainError("a worker process has no pipes; this is a defect of selftrain")
        try:
            self._process.stdin.write(json.dumps(task) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except (OSError, ValueError):
            answer = ""
        if not answer:
            raise SelftrainError(
                f"a worker process ended with code {self._process.wait()} during its work (killed "
                "for memory?); free some, or set machine.workers lower, and run the same command again"
            )
        error = json.loads(answer)
        if error:
            raise SelftrainError(f"a worker process failed: {error}; repair it and run the same command again")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # a half-written task
                    pipe.close()


def _find(function: str) -> Callable[..., object]:
    module, _, name = function.partition(":")
    task_function: Callable[..., object] = getattr(importlib.import_module(module), name)
    return task_function


def _call(function: Callable[..., object], task: Json) -> None:
    function(**task)


def _serve(function: str) -> None:
    """Answer tasks from stdin until it closes: an empty string for success, else the text of the error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it ends us.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # What a library prints must not look like an answer.
    call = _find(function)
    for line in sys.stdin:
        error = ""
        try:
            call(**json.loads(line))
        except Exception as raised:  # every failure is the parent's to report
            error = f"{type(raised).__name__}: {raised}"
        try:
            print(json.dumps(error), file=answers, flush=True)
        except OSError:
            return


if __name__ == "__main__":
    _serve(sys.argv[1])
