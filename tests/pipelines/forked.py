"""Forked commands: a process that has imported the heavy libraries, and forks for each command that a test runs.

A fresh Python spends seconds importing TensorFlow, SciPy and MLflow before a command begins. A fork of a process that
has them begins at once. Neither ZenML, Keras nor selftrain is imported beforehand: they read the environment then.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

LIBRARIES = (
    "tensorflow",
    "scipy.optimize",
    "scipy.stats",
    "mlflow.pyfunc",
    "dvc.repo",
    "fontTools.ttLib",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "sqlalchemy.orm",
    "pandas",
    "pyarrow.parquet",
    "fastapi",
    "networkx",
)


class Forked:
    """Runs Python commands one after the other, each in a fork of one process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` with captured text; `command` is a script of this environment, or Python itself."""
        program = shutil.which(command[0], path=environment["PATH"])
        assert program, f"there is no command {command[0]}"
        with tempfile.TemporaryDirectory() as folder:
            out, error = Path(folder, "out"), Path(folder, "error")
            task = {
                "command": [program, *command[1:]],
                "cwd": str(cwd),
                "environment": dict(environment),
                "out": str(out),
                "error": str(error),
            }
            process = self._started(environment)
            assert process.stdin
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            pid, code = self._answer(60), None
            try:
                code = self._answer(timeout_s)
            finally:
                if code is None:
                    os.killpg(pid, signal.SIGKILL)
                    self._answer(60)
            return subprocess.CompletedProcess(list(command), code, out.read_text(), error.read_text())

    def _started(self, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={name: value for name, value in environment.items() if name != "PYTHONPATH"},
            )
            self._answer(120)
        return self._process

    def _answer(self, timeout_s: float) -> int:
        assert self._process
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            raise subprocess.TimeoutExpired("a forked command", timeout_s)
        return int(self._process.stdout.readline())


def _serve() -> dict[str, object]:
    """Fork for each line of the input. Only a fork returns, with the task that is its own."""
    _tell(os.getpid())
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            task: dict[str, object] = json.loads(line)
            return task
        _tell(pid)
        _, status = os.waitpid(pid, 0)
        _tell(os.waitstatus_to_exitcode(status))
    os._exit(0)


def _tell(number: int) -> None:
    """Answer the process that asked."""
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _become(task: dict[str, object]) -> None:
    """Take the environment, folder and files of the task, and run its script, module or code as Python would."""
    os.setpgid(0, 0)
    for number, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, str(task["out"]), os.O_WRONLY | os.O_CREAT),
        (2, str(task["error"]), os.O_WRONLY | os.O_CREAT),
    ):
        os.dup2(os.open(name, flags, 0o644), number)
    os.environ.clear()
    os.environ.update(task["environment"])  # type: ignore[call-overload]  # it was made of strings
    os.chdir(str(task["cwd"]))
    program, *rest = task["command"]  # type: ignore[misc]  # a list, by `Forked.run`
    if Path(program).resolve() == Path(sys.executable).resolve():
        program, *rest = rest
    sys.path[0:1] = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if program == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - a test's own code
    elif program == "-m":
        sys.argv = rest
        sys.path[0] = os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [program, *rest]
        sys.path[0] = str(Path(program).parent.resolve())
        runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    for library in LIBRARIES:
        __import__(library)
    _become(_serve())
