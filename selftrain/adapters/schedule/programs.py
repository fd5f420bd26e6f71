"""Programs of the system: crontab and systemctl, asked with a time-out and in plain words."""

from __future__ import annotations

import os
import subprocess

from selftrain.errors import ScheduleError

TIMEOUT_S = 30.0


def ask(*command: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run `command` and return how it ended; `given` is its standard input.

    Raises ScheduleError if it cannot be started or does not end.
    """
    plain = {**os.environ, "LC_ALL": "C"}
    stdin = subprocess.DEVNULL if given is None else None
    try:
        return subprocess.run(command, input=given, stdin=stdin, capture_output=True, timeout=TIMEOUT_S, env=plain)
    except OSError as error:
        raise ScheduleError(f"{command[0]} cannot be started: {error.strerror}; use --foreground") from None
    except subprocess.TimeoutExpired:
        raise ScheduleError(f"{command[0]} did not answer within {TIMEOUT_S:g} s; use --foreground") from None


def insist(*command: str, given: bytes | None = None) -> bytes:
    """As `ask`; returns what it printed. Raises ScheduleError if it ends with an error, in its own words."""
    ended = ask(*command, given=given)
    if ended.returncode != 0:
        said = " ".join(ended.stderr.decode(errors="replace").split()) or f"exit code {ended.returncode}"
        raise ScheduleError(f"`{' '.join(command)}` failed: {said}; mend that, or use --foreground")
    return ended.stdout
