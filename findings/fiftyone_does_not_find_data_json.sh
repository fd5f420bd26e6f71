#!/usr/bin/env bash
# FiftyOne does not find the manifest of a data set by itself, though its importers say that `data_path` defaults to
# "whichever of data/ or data.json exists". Whoever writes data.json beside labels.json, so that images stay where they
# are, must have people give data_path="data.json" to Dataset.from_dir.
#
# Seen with fiftyone 1.22.1 on Python 3.11, 2026-12-03. It looks for "data/", and for that name with ".json" at its end,
# which is "data/.json". The importer of the program below raised
#     ValueError: Data directory '.../set/data/' does not exist
# and with data_path="data.json" it gave the image and its label. No database is needed for that.
#
# Exit code 0: both are still so. 1: FiftyOne behaves otherwise now.
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "fiftyone==1.22.1"
cd "$folder"

cat > program.py <<'END'
import json
import sys
from pathlib import Path

from fiftyone.utils.data import importers
from PIL import Image

Path("photos").mkdir(exist_ok=True)
Path("set").mkdir(exist_ok=True)
Image.new("RGB", (20, 10)).save("photos/a.png")
Path("set/data.json").write_text(json.dumps({"one": str(Path("photos/a.png").absolute())}))
Path("set/labels.json").write_text(json.dumps({"classes": ["cat", "dog"], "labels": {"one": {"label": "cat"}}}))
given = dict(each.split("=") for each in sys.argv[1:])
kind = importers.FiftyOneImageClassificationDatasetImporter
print("says:", "whichever of ``data/`` or" in kind.__doc__)
try:
    found = kind(dataset_dir="set", **given)
    found.setup()
    print("found:", [(Path(path).name, label.label) for path, _, label in found])
except ValueError as error:
    print("refused:", str(error).replace(str(Path.cwd()), "..."))
END
run() { env FIFTYONE_DO_NOT_TRACK=true "$folder/venv/bin/python" program.py "$@" 2> /dev/null; }

alone=$(run)
given=$(run data_path=data.json)
echo "by default:"
echo "$alone"
echo "with data_path=data.json:"
echo "$given"
grep -q "^says: True" <<< "$alone" || { echo "CHANGED: the importer says something else"; exit 1; }
grep -q "^refused: Data directory '.*/set/data/' does not exist" <<< "$alone" || { echo "CHANGED: it is found"; exit 1; }
grep -qx "found: \[('a.png', 'cat')\]" <<< "$given" || { echo "CHANGED: data_path does not help"; exit 1; }
