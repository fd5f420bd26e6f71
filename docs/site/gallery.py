"""The gallery: runs whose pages the documentation shows, and the pictures of those pages.

    .venv/bin/python docs/site/gallery.py                       # all of them, some ten minutes on two cores
    .venv/bin/python docs/site/gallery.py harm --folder FOLDER  # one; a run that FOLDER has is not trained again

The pages come into `build/gallery`, from where `make docs` takes them, and the pictures, which Chromium draws, into
`docs/gallery`.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {"digits": ROOT / "configs" / "digits.yaml", "harm": ROOT / "docs" / "site" / "harm.yaml"}
SECTIONS = {"digits": ("", "space"), "harm": ("",)}
"""What pictures show of each page: its top, or a section."""
MISSED = 3  # the exit code of a run that ended below its target, as one that harms does
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTH, HEIGHT, SHOWN = 1280, 1100, 960
"""Of the window, and the width of the picture that is kept, in pixels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(EXAMPLES)}; all of them if none is named")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "gallery", help="where runs and pages lie")
    asked = parser.parse_args()
    unknown = sorted(set(asked.names) - set(EXAMPLES))
    if unknown:
        parser.error(f"{', '.join(unknown)}: not one of {', '.join(EXAMPLES)}")
    if CHROMIUM is None:
        parser.error("Chromium is not installed, and nothing else draws the pictures")
    for name in asked.names or EXAMPLES:
        page = page_of(name, asked.folder.resolve())
        sys.stdout.write(f"{page}\n")
        for section in SECTIONS[name]:
            picture = ROOT / "docs" / "gallery" / f"{'-'.join(filter(None, (name, section)))}.webp"
            picture.parent.mkdir(exist_ok=True)
            draw(page, picture, section=section)
            sys.stdout.write(f"{picture}\n")


def page_of(name: str, folder: Path) -> Path:
    """The page of the example `name`, whose run is made in `folder` unless it is there."""
    home, page = folder / name, folder / f"{name}.html"
    home.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "ZENML_CONFIG_PATH": str(home / "zenml"), "PYTHONPATH": str(ROOT)}
    command = str(Path(sys.executable).with_name("selftrain"))
    if not (home / ".selftrain").exists():
        done = subprocess.run([command, "run", "--config", str(EXAMPLES[name])], cwd=home, env=environment)
        if done.returncode not in (0, MISSED):
            raise SystemExit(f"the run of {name} failed; see above")
    subprocess.run([command, "report", "--out", str(page)], cwd=home, env=environment, check=True)
    return page


def draw(page: Path, picture: Path, *, section: str) -> None:
    """Write `picture`: the top of `page`, or its `section` alone, as a browser shows it."""
    with tempfile.TemporaryDirectory() as folder:
        shot, shown = Path(folder) / "shot.png", Path(folder) / "page.html"
        alone = f"header, main > section:not([aria-labelledby='{section}']) {{ display: none; }}" if section else ""
        shown.write_text(page.read_text(encoding="utf-8").replace("</style>", f"{alone}</style>", 1), encoding="utf-8")
        command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}"]
        subprocess.run([*command, shown.as_uri()], check=True, capture_output=True, timeout=120)
        image = Image.open(io.BytesIO(shot.read_bytes())).convert("RGB")
    image.resize((SHOWN, round(image.height * SHOWN / image.width)), Image.Resampling.LANCZOS).save(
        picture, "WEBP", quality=80, method=6
    )


if __name__ == "__main__":
    main()
