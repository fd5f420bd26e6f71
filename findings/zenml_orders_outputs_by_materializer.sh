#!/usr/bin/env bash
# ZenML 0.98.0, dynamic pipelines: `a, b = step()` gives b and a where only b's materializer is named.
#
# A step returns a tuple of two annotated outputs, "first" and "second". Its decorator names a materializer for "second"
# alone (`output_materializers={"second": ...}`). One would expect that the call unpacks in the order of the return
# annotation. It unpacks "second" and then "first": outputs whose materializer is named come before the others. Without
# `output_materializers`, the order is that of the annotation. Nothing is said; a wrong type shows later, if at all.
#
# Seen with zenml[local] 0.98.0 and Python 3.11 on Linux, 2026-12-02:
#   plain: first second
#   named: second first
# The script fails once that changes.
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "zenml[local]==0.98.0"
cat > "$folder/order.py" <<'PYTHON'
from typing import Annotated

from zenml import pipeline, step
from zenml.materializers.built_in_materializer import BuiltInMaterializer


@step(enable_cache=False)
def plain() -> tuple[Annotated[int, "first"], Annotated[str, "second"]]:
    return 1, "two"


@step(enable_cache=False, output_materializers={"second": BuiltInMaterializer})
def named() -> tuple[Annotated[int, "first"], Annotated[str, "second"]]:
    return 1, "two"


@pipeline(dynamic=True, enable_cache=False)
def both() -> None:
    for each in (plain, named):
        outputs = each()
        print("ORDER", f"{each.name}:", *(output.output_name for output in outputs))


both()
PYTHON
cd "$folder"
export ZENML_CONFIG_PATH="$folder/zenml" ZENML_ANALYTICS_OPT_IN=false ZENML_LOGGING_VERBOSITY=ERROR
said=$("$folder/venv/bin/python" order.py 2>&1 | grep -o "ORDER .*" | sed 's/ORDER //')
echo "$said"
[ "$said" = $'plain: first second\nnamed: second first' ] || { echo "this has changed"; exit 1; }
