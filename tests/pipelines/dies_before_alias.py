"""Runs a command, and kills a server before it is asked for an alias: `dies_before_alias.py PID ALIAS COMMAND...`.

PID leads the server's process group. The server dies once. The request is then sent as MLflow sends it.
"""

import contextlib
import os
import runpy
import shutil
import signal
import sys
from typing import Any

from mlflow import MlflowClient

PID, ALIAS, *COMMAND = sys.argv[1:]
ask = MlflowClient.set_registered_model_alias


def deadly(client: MlflowClient, name: str, alias: str, version: str) -> Any:
    if alias == ALIAS:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(PID), signal.SIGKILL)
    return ask(client, name, alias, version)


MlflowClient.set_registered_model_alias = deadly
script = str(shutil.which(COMMAND[0]))
sys.argv = [script, *COMMAND[1:]]
sys.path[0] = os.path.dirname(script)
runpy.run_path(script, run_name="__main__")
