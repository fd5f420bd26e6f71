"""Worker processes: plain interpreters that get tasks over a pipe. They end with their parent, however it ends.

`multiprocessing` is not used, because its workers import the parent's main module again. ZenML's command line takes
2 s each time, and a user's script without a main guard would start itself. Workers of `multiprocessing` also outlive a
parent that was killed.
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
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(function: str, tasks: Sequence[Json], *, workers: int, inherit: tuple[int, ...] = ()) -> Iterator[int]:
    """Run `function` ("package.module:name") with each task as keyword arguments; yield its position when it is done.

    This process is the first worker and works while the others start. Tasks are JSON; the function writes its results
    to disk. The workers hold the file descriptors `inherit`, such as a lock's, until they end. The first task that
    fails in a worker ends all workers and raises SelftrainError.
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
        for worker in started:  # this ends the tasks that are running
            worker.stop()
        threads.shutdown(wait=True)
        for worker in started:  # one more may have started meanwhile
            worker.stop()


class _Worker:
    """One interpreter that answers each line of JSON with one line."""

    def __init__(self, function: str, inherit: tuple[int, ...]) -> None:
        # One thread per process: the processes already fill the cores.
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
                f"a worker process ended with code {self._process.wait()} during its work, perhaps for lack of "
                "memory; free some, or set machine.workers lower, and run the same command again"
            )
        error = json.loads(answer)
        if error:
            raise SelftrainError(f"a worker process failed: {error}; repair the cause and run the same command again")

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
    """Answer the tasks from stdin until it closes: with an empty string for success, else with the error's text."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent handles Ctrl-C and ends its workers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # What a library prints must not be taken for an answer.
    call = _find(function)
    for line in sys.stdin:
        error = ""
        try:
            call(**json.loads(line))
        except Exception as raised:  # the parent reports every failure
            error = f"{type(raised).__name__}: {raised}"
        try:
            print(json.dumps(error), file=answers, flush=True)
        except OSError:
            return


if __name__ == "__main__":
    _serve(sys.argv[1])
