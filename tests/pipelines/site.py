"""A site: a real local ZenML store and workspace in a temporary folder, and the commands run against them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.pipelines.forked import Forked

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
FORKED = Forked()
NETWORK = "wide_resnet_16_1"  # the one that is traced fastest
TINY: dict[str, Any] = {
    "name": "tiny",
    "teacher": {"steps": 24, "validate_every": 12, "augmentation": "digits", "backbone": NETWORK},
    "student": {"steps": 24, "validate_every": 12, "augmentation": "digits", "backbone": NETWORK},
    "pseudo_label": {"threshold": {"kind": "fixed", "value": 0.2}},
    "gate": {"target": 0.05, "min_rounds": 1, "max_rounds": 1},
    "registry": {
        "model_name": "tiny",
        "floors": {"accuracy": 0.01},
        "first_champion": "any",
        "trial_images": 0,
    },  # a trial takes seconds
}


@dataclass
class Site:
    """A machine's stores of its own: ZenML's, and a workspace; commands run from `root`, a copy of the repository."""

    folder: Path
    experiment: dict[str, Any] = field(default_factory=lambda: dict(TINY))
    root: Path = ROOT
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def workspace(self) -> Path:
        return self.root / self.experiment.get("workspace", self.folder / "workspace")

    def config(self, **changes: Any) -> Path:
        """A configuration file of the tiny experiment with `changes` to its sections."""
        path = self.folder / "experiment.yaml"
        experiment = {"workspace": str(self.workspace), **self.experiment, **changes}
        path.write_text(yaml.safe_dump({"parameters": {"experiment": experiment}}))
        return path

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "ZENML_CONFIG_PATH": str(self.folder / "zenml"),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.root),
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
            "COLUMNS": "200",
            **self.variables,
        }

    def run(self, *command: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a command to its end: Python's in a fork that spends no time on importing what every one imports."""
        environment = self.environment()
        if Path(shutil.which(command[0], path=environment["PATH"]) or "").parent == BIN:
            return FORKED.run(command, cwd=self.root, environment=environment, timeout_s=timeout_s)
        return subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own."""
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def status(self) -> dict[str, Any]:
        """`selftrain status --json`."""
        shown = self.run("selftrain", "status", "--json")
        assert shown.returncode == 0, shown.stderr
        found: dict[str, Any] = json.loads(shown.stdout)
        return found

    def ask(self, code: str) -> Any:
        """What `code` prints as JSON, run against this site's ZenML store."""
        shown = self.run(sys.executable, "-c", code)
        assert shown.returncode == 0, shown.stderr
        return json.loads(shown.stdout.strip().splitlines()[-1])

    def steps(self, run_id: str) -> dict[str, str]:
        """Status of each step of a run."""
        code = (
            "import json\nfrom zenml.client import Client\n"
            f"run = Client().get_pipeline_run({run_id!r})\n"
            "print(json.dumps({name: step.status.value for name, step in run.steps.items()}))"
        )
        found: dict[str, str] = self.ask(code)
        return found

    def mlflow(self, address: str = "") -> dict[str, Any]:
        """Runs by ZenML run id, and all versions, as the server at `address` or the embedded MLflow store has them."""
        address = address or f"sqlite:///{self.workspace / 'mlflow' / 'mlflow.db'}"
        code = f"""
import json
from mlflow import MlflowClient
client = MlflowClient("{address}")
runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
print(json.dumps({{
    "runs": {{
        r.data.tags["selftrain.run_id"]: {{"tags": r.data.tags, "status": r.info.status, "metrics": r.data.metrics}}
        for r in runs if "selftrain.run_id" in r.data.tags
    }},
    "versions": {{v.version: v.tags for v in client.search_model_versions()}},
}}, default=str))
"""
        found: dict[str, Any] = self.ask(code)
        return found

    def run_states(self) -> list[str]:
        """Status of every run there is, newest first."""
        code = (
            "import json\nfrom zenml.client import Client\n"
            "page = Client().list_pipeline_runs(size=100, sort_by='desc:created')\n"
            "print(json.dumps([run.status.value for run in page.items]))"
        )
        found: list[str] = self.ask(code)
        return found


def copy_of_repository(folder: Path) -> Path:
    """Every file of the working tree that git would keep, copied to `folder`."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def kill_group(process: subprocess.Popen[str]) -> None:
    """kill -9 for a process and all its children."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def models_read(record: dict[str, Any]) -> int:
    """How many models a run without control and champion reads test with: final, first teacher and baseline."""
    return 3 if any(each["kept"] for each in record["rounds"][1:]) else 2
