#!/usr/bin/env bash
# MLflow's client writes two lines to stdout when a run ends, if the tracking store is an HTTP server. That breaks a
# program whose stdout is data, such as JSON.
#
# Seen with MLflow 3.17.2 on Python 3.11, 2026-12-01. The program below prints one line of JSON; its stdout was:
#     🏃 View run a-run at: http://127.0.0.1:PORT/#/experiments/0/runs/...
#     🧪 View experiment at: http://127.0.0.1:PORT/#/experiments/0
#     {"accuracy": 0.5}
# MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT=true switches the lines off, and stdout is the JSON alone.
#
# Exit code 0: both are still so. 1: MLflow behaves otherwise now.
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server"; rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "mlflow==3.17.2"
cd "$folder"

port=$("$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$folder/venv/bin/mlflow" server --host 127.0.0.1 --port "$port" --workers 1 \
  --backend-store-uri "sqlite:///$folder/runs.db" --artifacts-destination "$folder/files" > server.log 2>&1 &
server=$!
for _ in $(seq 600); do
  "$folder/venv/bin/python" -c "import socket; socket.create_connection(('127.0.0.1', $port))" 2> /dev/null && break
  sleep 1
done

cat > program.py <<'END'
import json

import mlflow

with mlflow.start_run(run_name="a-run"):
    mlflow.log_metric("accuracy", 0.5)
print(json.dumps({"accuracy": 0.5}))
END
run() { env NO_PROXY=127.0.0.1 MLFLOW_TRACKING_URI="http://127.0.0.1:$port" "$@" "$folder/venv/bin/python" program.py 2> /dev/null; }

printed=$(run)
silent=$(run MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT=true)
echo "stdout by default:"
echo "$printed"
echo "stdout with MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT=true:"
echo "$silent"
grep -q "View run a-run at: http://127.0.0.1:$port" <<< "$printed" || { echo "CHANGED: no address is printed"; exit 1; }
test "$silent" = '{"accuracy": 0.5}' || { echo "CHANGED: the variable does not silence it"; exit 1; }
