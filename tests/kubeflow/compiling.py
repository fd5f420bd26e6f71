"""What Kubeflow Pipelines is asked for: our pipeline, compiled and submitted by ZenML itself to an API on loopback.

`python -m tests.kubeflow.compiling CONFIG` prints it as JSON, on the ZenML store of its environment. It needs kfp.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from zenml.client import Client
from zenml.enums import StackComponentType as Kind
from zenml.integrations.kubeflow.orchestrators import KubeflowOrchestrator
from zenml.pipelines.run_utils import create_placeholder_run
from zenml.utils import env_utils, source_utils

from pipelines.unrolled_pipeline import unrolled_pipeline

ROOT = Path(__file__).resolve().parents[2]
API = "/apis/v2beta1"
Object = dict[str, Any]


def main(config: str) -> None:
    """The pipeline's specification as it was written, as the schema reads it, and the run as the API got it."""
    with served() as (address, runs):
        orchestrator = activated(address)
        snapshot = unrolled_pipeline.with_options(config_path=config).create_snapshot("compiled")
        stack = Client().active_stack
        environments = {
            name: env_utils.get_runtime_environment(config=step.config, stack=stack)
            for name, step in snapshot.step_configurations.items()
        }
        orchestrator.submit_pipeline(snapshot, stack, {}, environments, create_placeholder_run(snapshot))
    (written,) = Path(orchestrator.pipeline_directory).glob("*.yaml")
    documents = list(yaml.safe_load_all(written.read_text()))
    spec = json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())  # raises for an unknown field
    read = json_format.MessageToDict(spec)
    sys.stdout.write(json.dumps({"documents": documents, "read": read, "runs": runs, "snapshot": str(snapshot.id)}))


def activated(address: str) -> KubeflowOrchestrator:
    """The orchestrator of a stack for Kubeflow at `address`; its artifact store is named, and never asked."""
    client = Client()
    made = {"kubeflow_hostname": address}
    client.create_stack_component("kubeflow", "kubeflow", Kind.ORCHESTRATOR, made)
    client.create_stack_component("images", "default", Kind.CONTAINER_REGISTRY, {"uri": "registry.example"})
    client.create_stack_component("builder", "local", Kind.IMAGE_BUILDER, {})
    client.create_stack_component("bucket", "s3", Kind.ARTIFACT_STORE, {"path": "s3://selftrain-data/artifacts"})
    parts = {Kind.ORCHESTRATOR: "kubeflow", Kind.CONTAINER_REGISTRY: "images", Kind.IMAGE_BUILDER: "builder"}
    client.create_stack("kubeflow", {**parts, Kind.ARTIFACT_STORE: "bucket"})
    client.activate_stack("kubeflow")
    orchestrator = client.active_stack.orchestrator
    assert isinstance(orchestrator, KubeflowOrchestrator)
    return orchestrator


@contextmanager
def served() -> Iterator[tuple[str, list[Object]]]:
    """A server that takes runs as Kubeflow Pipelines' API does, and runs nothing; its address, and what it got."""
    runs: list[Object] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({"multi_user": False} if self.path.startswith(f"{API}/healthz") else {})

        def do_POST(self) -> None:
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.startswith(f"{API}/runs"):
                runs.append(given)
                given = {**given, "run_id": "a-run"}
            self._answer({**given, "experiment_id": "an-experiment"})

        def _answer(self, answer: Object) -> None:
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", runs
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


if __name__ == "__main__":
    source_utils.set_custom_source_root(str(ROOT))
    main(sys.argv[1])
