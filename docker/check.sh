#!/usr/bin/env bash
# Build the image, run it, and check what docs/cluster.md promises of it. Without a builder this says so and ends well.
# Where no registry can be reached, debootstrap makes the base image. CA names a bundle of certificates for the build, if it needs one.
# KEEP=1 keeps the image. BUILDERS are the commands that are tried, one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
base=${BASE:-python:3.11-slim} image=selftrain-check tag=cpu flags=${FLAGS:---network=host}

builder() {  # the first one that is there, answers and can build
  local each
  for each in ${BUILDERS:-"${BUILDER:-docker}" /usr/bin/docker podman}; do
    if command -v "$each" > /dev/null && printf 'FROM scratch\nLABEL a=b\n' | DOCKER_BUILDKIT=1 timeout 20 "$each" build --quiet - \
      > /dev/null 2>&1; then
      echo "$each"
      return
    fi
  done
}

b=$(builder)
if [ -z "$b" ]; then
  echo "docker/check.sh: NOT RUN, because there is no container builder here (docker or podman that answers)"
  exit 0
fi

work=$(mktemp -d)
servers=()
finish() {
  if [ ${#servers[@]} -gt 0 ]; then "$b" rm --force "${servers[@]}" > /dev/null 2>&1 || true; fi
  if [ -z "${KEEP:-}" ]; then "$b" rmi --force "$image:$tag" > /dev/null 2>&1 || true; fi
  rm -rf "$work"
}
trap finish EXIT

if ! "$b" image inspect "$base" > /dev/null 2>&1 && ! timeout 120 "$b" pull --quiet "$base" > /dev/null 2>&1; then
  command -v debootstrap > /dev/null || { echo "docker/check.sh: NOT RUN, because $base cannot be pulled and there is no debootstrap"; exit 0; }
  echo "making $base from Debian's packages"
  debootstrap --variant=minbase --include=python3.11,python3.11-venv,python3-pip,ca-certificates bookworm "$work/rootfs" > "$work/base.log"
  rm -rf "$work"/rootfs/var/cache/apt/* "$work"/rootfs/var/lib/apt/lists/*
  tar -C "$work/rootfs" -c . | "$b" import -c 'CMD ["python3"]' - "$base" > /dev/null
fi

failed=0
holds() {  # holds WHAT COMMAND...: print whether the command succeeds
  local what=$1
  shift
  if "$@" > "$work/said" 2>&1; then echo "ok    $what"; else echo "FAILS $what"; tail -20 "$work/said"; failed=1; fi
}
inside() { "$b" run --rm --network=none --read-only --tmpfs /tmp "$image:$tag" "$@"; }
build() { (cd "$1" && TARGET=cpu IMAGE="$image" TAG="$tag" BUILDER="$b" FLAGS="$flags" OUT="$work/out" docker/build.sh > "$work/build.log" 2>&1) ||
  { tail -30 "$work/build.log"; exit 1; }; }

# A copy, so that the second build can change the code without touching yours.
mkdir "$work/tree"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$work/tree"
# What people leave lying in a checkout. No layer of the image may hold it.
planted=planted-secret-$(date +%s%N)
mkdir -p "$work/tree/docker/secrets" "$work/tree/.aws"
for place in .env docker/secrets/mlflow_password .aws/credentials secrets.yaml; do echo "$planted" > "$work/tree/$place"; done
build "$work/tree"
echo "# a change that no build has seen: $(date +%s%N)" >> "$work/tree/selftrain/version.py"
started=$(date +%s.%N)
build "$work/tree"
echo "      rebuilt after a change to the code in $(awk "BEGIN {printf \"%.1f\", $(date +%s.%N) - $started}") s"

size=$("$b" image inspect --format '{{.Size}}' "$image:$tag")
code=$("$b" history --human=false --format '{{.Size}} {{.CreatedBy}}' "$image:$tag" | awk '/COPY .*\/opt\/selftrain/ {print $1; exit}')
echo "      $((size / 1000000)) MB unpacked, $((code / 1000)) kB of them code"
holds "is smaller than 3.2 GB" test "$size" -lt 3200000000
holds "has a code layer smaller than 5 MB" test "$code" -lt 5000000
holds "runs as uid and gid 10001" test "$(inside id -u):$(inside id -g)" = 10001:10001
holds "names its user by number" test "$("$b" image inspect --format '{{.Config.User}}' "$image:$tag")" = 10001:10001
holds "proves itself with a read-only root: selftrain doctor" inside selftrain doctor
holds "writes to /workspace, /app and /tmp only" inside sh -c \
  'touch /workspace/a /app/b /tmp/c && ! touch /opt/selftrain/d 2> /dev/null && ! touch /opt/venv/e 2> /dev/null'
holds "starts ZenML's entry points" inside python -m zenml.entrypoints.entrypoint --help
holds "imports the pipelines and steps from its own code" inside sh -c \
  'cd /app && selftrain --version && python -c "import importlib.util as u; print(u.find_spec(\"steps\").origin)" | grep -q ^/opt/selftrain/'
holds "has no compiler" inside sh -c '! command -v cc gcc g++ clang make ld as'
holds "has no cache of pip or uv" inside sh -c '! find / -xdev \( -path "*/.cache/pip" -o -path "*/.cache/uv" \) 2> /dev/null | grep .'
holds "has no settings of an installer or of a proxy" inside sh -c \
  '! env | grep -iE "^(pip_|uv_)|proxy|_cert|_bundle" && ! ls /etc/pip.conf /etc/xdg/pip /root/.config 2> /dev/null | grep .'
# All layers, the code as a sign that they can be searched: some builders compress them.
"$b" save "$image:$tag" | tar -xO | grep -aoE "$planted|a change that no build has seen" | sort -u > "$work/found" || true
if grep -q "a change that no build has seen" "$work/found"; then
  holds "holds no secret of the checkout, in any layer" sh -c "! grep -q $planted $work/found"
else
  echo "      NOT RUN: the search of all layers for secrets, because this builder compresses them"
fi
holds "holds no secret of the checkout among its files" inside sh -c "! grep -rqa $planted /opt/selftrain /workspace /app /root /home /etc"
holds "names no secret in its settings" sh -c "! $b history --no-trunc $image:$tag | grep -q $planted && ! $b inspect $image:$tag | grep -q $planted"
holds "has labels" sh -c "$b image inspect --format '{{json .Config.Labels}}' $image:$tag | grep -q org.opencontainers.image.revision"
holds "lists its packages, also beside it" grep -q '"name": "tensorflow"' "$work/out/selftrain-$tag.sbom.json"

# MLflow's server out of this image, as compose starts it, but with SQLite and a folder.
docker/secrets.sh "$work/secrets" > /dev/null
port=15000
server() {  # server HOSTS [ENVIRONMENT...]: start one in the background
  "$b" run --detach --network=host --read-only --tmpfs /tmp -v "$PWD/mlflow:/mlflow:ro" -v "$PWD/docker/with-secrets.sh:/with-secrets.sh:ro" \
    -v "$work/secrets:/run/secrets:ro" -v "$work/auth.ini:/auth.ini:ro" -e MLFLOW_BACKEND_STORE_URI=sqlite:////workspace/mlflow.db \
    -e MLFLOW_ARTIFACTS_DESTINATION=/workspace/artifacts -e MLFLOW_ALLOWED_HOSTS="127.0.0.1:$port" -e MLFLOW_AUTH_CONFIG_PATH=/auth.ini \
    -e MLFLOW_DISABLE_TELEMETRY=true "$image:$tag" sh /with-secrets.sh "$@" -- sh /mlflow/serve.sh --port "$port"
}
sed 's|^database_uri.*|database_uri = sqlite:////workspace/users.db|' mlflow/basic_auth.ini > "$work/auth.ini"
chmod 755 "$work" "$work/secrets"
servers+=("$(server MLFLOW_AUTH_ADMIN_PASSWORD=mlflow_password MLFLOW_FLASK_SERVER_SECRET_KEY=mlflow_secret_key)")
for _ in $(seq 90); do curl --silent --fail "http://127.0.0.1:$port/health" > /dev/null && break; sleep 1; done
password=$(cat "$work/secrets/mlflow_password")
search=http://127.0.0.1:$port/api/2.0/mlflow/experiments/search?max_results=1
status() { curl --silent --output /dev/null --write-out '%{http_code}' "$@"; }
holds "MLflow answers who has the password" test "$(status --user "admin:$password" "$search")" = 200
holds "MLflow refuses who has none" test "$(status "$search")" = 401
holds "MLflow refuses a wrong one" test "$(status --user admin:password1234 "$search")" = 401
holds "MLflow refuses another Host" test "$(status --user "admin:$password" -H 'Host: evil.example' "$search")" = 403
register='
import mlflow
client = mlflow.MlflowClient()
client.create_registered_model("m")
run = client.create_run(client.create_experiment("e"))
client.log_text(run.info.run_id, "text", "model/a.txt")
version = client.create_model_version("m", f"{run.info.artifact_uri}/model", run.info.run_id)
client.set_registered_model_alias("m", "champion", version.version)
print(client.get_model_version_by_alias("m", "champion").version, mlflow.artifacts.load_text(f"{run.info.artifact_uri}/model/a.txt"))
'
client() { "$b" run --rm --network=host --read-only --tmpfs /tmp -e MLFLOW_TRACKING_URI="http://127.0.0.1:$port" "$@"; }
holds "MLflow takes a registration and an artifact from a client with the password" client -e MLFLOW_TRACKING_USERNAME=admin \
  -e MLFLOW_TRACKING_PASSWORD="$password" "$image:$tag" python -c "$register"
holds "MLflow does not start without an administrator's password" sh -c \
  "! $b run --rm --network=none -v $PWD/mlflow:/mlflow:ro -e MLFLOW_FLASK_SERVER_SECRET_KEY=x $image:$tag sh /mlflow/serve.sh"

[ "$failed" = 0 ] && echo "docker/check.sh: the image is as promised"
exit "$failed"
