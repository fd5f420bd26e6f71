#!/usr/bin/env bash
# Build one target of the Dockerfile, and write the list of its packages beside it. `make image` calls this with its variables:
#   TARGET    cpu or gpu
#   IMAGE     name without a tag; a registry in front of it is where you push
#   TAG       default: the package's version and the target
#   BASE, REGISTRY   the base image, and where it is pulled from
#   BUILDER   docker, podman or buildah, or a path to one of them
#   CA, PIP_CONFIG, UV_CONFIG    a bundle of certificates, a pip.conf and a uv.toml that only the build sees
#   FLAGS     more flags of the builder, such as --network=host
set -euo pipefail
cd "$(dirname "$0")/.."

TARGET=${TARGET:-cpu} IMAGE=${IMAGE:-selftrain} BUILDER=${BUILDER:-docker} OUT=${OUT:-build/image}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
TAG=${TAG:-$version-$TARGET}

case $TARGET in cpu | gpu) ;; *) echo "TARGET=$TARGET is not a target; use cpu or gpu" >&2; exit 2 ;; esac
command -v "$BUILDER" > /dev/null || { echo "BUILDER=$BUILDER is not installed; use docker, podman or buildah" >&2; exit 2; }

read -ra arguments <<< "${FLAGS:-}"
arguments+=(-f docker/Dockerfile --target "$TARGET" -t "$IMAGE:$TAG")
arguments+=(--build-arg "VERSION=$version" --build-arg "REVISION=$(git rev-parse HEAD 2> /dev/null || echo unknown)")
if [ -n "${BASE:-}" ]; then arguments+=(--build-arg "BASE=$BASE"); fi
if [ -n "${REGISTRY:-}" ]; then arguments+=(--build-arg "REGISTRY=$REGISTRY"); fi
if [ -n "${CA:-}" ]; then arguments+=(--secret "id=ca,src=$CA"); fi
if [ -n "${PIP_CONFIG:-}" ]; then arguments+=(--secret "id=pip,src=$PIP_CONFIG"); fi
if [ -n "${UV_CONFIG:-}" ]; then arguments+=(--secret "id=uv,src=$UV_CONFIG"); fi

mkdir -p "$OUT"
sbom=$OUT/selftrain-$TAG.sbom.json
if [ "$(basename "$BUILDER")" = buildah ]; then
  "$BUILDER" build "${arguments[@]}" .
  container=$("$BUILDER" from --pull-never "$IMAGE:$TAG")
  trap '"$BUILDER" rm "$container" > /dev/null' EXIT
  cat "$("$BUILDER" mount "$container")/opt/venv/sbom.json" > "$sbom"
else
  DOCKER_BUILDKIT=1 "$BUILDER" build "${arguments[@]}" .
  container=$("$BUILDER" create "$IMAGE:$TAG")
  trap '"$BUILDER" rm --volumes "$container" > /dev/null' EXIT
  "$BUILDER" cp "$container:/opt/venv/sbom.json" "$sbom"
fi
echo "built $IMAGE:$TAG; its packages: $sbom"
