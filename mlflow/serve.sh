#!/bin/sh
# Start MLflow's tracking server with passwords on. The environment says the rest:
#   MLFLOW_BACKEND_STORE_URI        the database
#   MLFLOW_ARTIFACTS_DESTINATION    where the server keeps artifacts, which clients send to it
#   MLFLOW_ALLOWED_HOSTS            names under which clients may ask, with ports, separated by commas
#   MLFLOW_AUTH_CONFIG_PATH         basic_auth.ini
#   MLFLOW_AUTH_ADMIN_PASSWORD, MLFLOW_FLASK_SERVER_SECRET_KEY    secrets without a default
# More options may follow, such as --port.
set -eu
for name in MLFLOW_BACKEND_STORE_URI MLFLOW_ARTIFACTS_DESTINATION MLFLOW_ALLOWED_HOSTS MLFLOW_AUTH_CONFIG_PATH \
    MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY; do
    eval "value=\${$name:-}"
    if [ -z "$value" ]; then
        echo "$name is not set; the server does not start without it" >&2
        exit 2
    fi
done
# The server's own jobs (scorers, archives) are not used here, and each of their processes costs 300 MB.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION="${MLFLOW_SERVER_ENABLE_JOB_EXECUTION:-false}"
# A worker that a busy machine starts slowly is not dead yet.
export UVICORN_TIMEOUT_WORKER_HEALTHCHECK="${UVICORN_TIMEOUT_WORKER_HEALTHCHECK:-60}"
exec mlflow server --host 0.0.0.0 --port 5000 --workers "${MLFLOW_WORKERS:-2}" \
    --app-name basic-auth --serve-artifacts --allowed-hosts "$MLFLOW_ALLOWED_HOSTS" "$@"
