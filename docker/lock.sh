#!/usr/bin/env bash
# Resolve what the images hold beyond requirements.lock, so that it fits to it. `make lock` calls this after its own work.
#   servers.lock   what MLflow's server needs for passwords and PostgreSQL
#   gpu.lock       NVIDIA's libraries for TensorFlow
#   kubeflow.lock  what ZenML needs for Kubeflow Pipelines; its kfp wants an older protobuf than requirements.lock has
#   builder.lock   what builds the image, and stays out of it
set -euo pipefail
cd "$(dirname "$0")"
uv=${UV:-../.venv/bin/uv}
resolve() {
  "$uv" pip compile --no-config --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet "$@"
}
missing() {  # the packages that requirements.lock lacks
  awk 'NR == FNR { split($1, at, "=="); known[at[1]] = 1; next } /^[a-z]/ { split($1, at, "=="); new = !(at[1] in known) } new' \
    <(grep '^[a-z]' ../requirements.lock) -
}
printf '%s\n' 'flask-wtf<2' psycopg2-binary | resolve - --constraint ../requirements.lock | missing > servers.lock
tensorflow=$(sed -n 's/^tensorflow==\([^ ]*\).*/\1/p' ../requirements.lock)
echo "tensorflow[and-cuda]==$tensorflow" | resolve - --constraint ../requirements.lock | missing > gpu.lock
kept=$(mktemp)
trap 'rm -f "$kept"' EXIT
grep '^[a-z]' ../requirements.lock | sed 's/ *\\$//' | grep -v '^protobuf==' > "$kept"
printf '%s\n' 'kfp>=2.6.0' 'kfp-kubernetes>=1.1.0' > "$kept.in"
resolve ../pyproject.toml --extra cluster --extra serve --extra search "$kept.in" --constraint "$kept" |
  awk 'NR == FNR { known[$1] = 1; next } /^[a-z]/ { new = !($1 in known) } new' "$kept" - > kubeflow.lock
rm -f "$kept.in"
printf '%s\n' setuptools uv | resolve - > builder.lock
