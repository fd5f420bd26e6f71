"""The gallery: runs whose pages the documentation shows, and the pictures of those pages.

    .venv/bin/python docs/site/gallery.py                       # all of them, some ten minutes on two cores
    .venv/bin/python docs/site/gallery.py harm --folder FOLDER  # one; a run that FOLDER has is not trained again

The pages come into `build/gallery`, from where `make docs` takes them, and the pictures, which Chromium draws, into
`docs/gallery`. The flowers are in no package: they are shown only where the environment variable SELFTRAIN_DATA names a
folder with `tf_flowers_s160.zip` and published weights of MobileNetV2.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {"digits": ROOT / "configs" / "digits.yaml", "harm": ROOT / "docs" / "site" / "harm.yaml"}
FLOWERS = "flowers"
SECTIONS = {"digits": ("", "space"), "harm": ("",), FLOWERS: ("next",)}
"""What pictures show of each page: its top, or a section."""
MISSED = 3  # the exit code of a run that ended below its target, as one that harms does
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTH, HEIGHT, SHOWN = 1280, 1100, 960
"""Of the window, and the width of the picture that is kept, in pixels."""
LABELLED, POOL = 60, 100
"""Flowers of each class with and without labels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("SELFTRAIN_DATA")
    known = [*EXAMPLES, *([FLOWERS] if data else [])]
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(known)}; all of them if none is named")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "gallery", help="where runs and pages lie")
    asked = parser.parse_args()
    unknown = sorted(set(asked.names) - set(known))
    if unknown:
        parser.error(f"{', '.join(unknown)}: not one of {', '.join(known)}")
    if CHROMIUM is None:
        parser.error("Chromium is not installed, and nothing else draws the pictures")
    for name in asked.names or known:
        home = asked.folder.resolve() / name
        page = page_of(home, EXAMPLES[name] if name in EXAMPLES else flowers(home, Path(str(data)).resolve()))
        sys.stdout.write(f"{page}\n")
        for section in SECTIONS[name]:
            picture = ROOT / "docs" / "gallery" / f"{'-'.join(filter(None, (name, section)))}.webp"
            picture.parent.mkdir(exist_ok=True)
            draw(page, picture, section=section)
            sys.stdout.write(f"{picture}\n")


def page_of(home: Path, config: Path) -> Path:
    """The page of the example of `config`, whose run is made in the folder `home` unless it is there."""
    page = home.with_suffix(".html")
    home.mkdir(parents=True, exist_ok=True)
    environment = environment_of(home)
    command = str(Path(sys.executable).with_name("selftrain"))
    if not (home / ".selftrain").exists():
        done = subprocess.run([command, "run", "--config", str(config)], cwd=home, env=environment)
        if done.returncode not in (0, MISSED):
            raise SystemExit(f"the run of {home.name} failed; see above")
    subprocess.run([command, "report", "--out", str(page)], cwd=home, env=environment, check=True)
    return page


def environment_of(home: Path) -> dict[str, str]:
    """What the commands of an example run with: this checkout, and a ZenML of its own."""
    return {**os.environ, "ZENML_CONFIG_PATH": str(home / "zenml"), "PYTHONPATH": str(ROOT)}


def flowers(home: Path, data: Path) -> Path:
    """The configuration in `home` that `selftrain init` writes for LABELLED flowers of each class and a pool."""
    config = home / "flowers.yaml"
    if config.exists():
        return config
    with zipfile.ZipFile(data / "tf_flowers_s160.zip") as packed:
        photos = sorted(name for name in packed.namelist() if name.endswith(".jpg"))
        for name in sorted({Path(each).parent.name for each in photos}):
            own = [each for each in photos if Path(each).parent.name == name][: LABELLED + POOL]
            for at, each in enumerate(own):
                folder = home / "labelled" / name if at < LABELLED else home / "pool"
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{name}-{Path(each).name}").write_bytes(packed.read(each))
    command = [str(Path(sys.executable).with_name("selftrain")), "init", "--out", config.name]
    command += ["--labeled", "labelled", "--unlabeled", "pool"]
    command += ["--teacher-weights", str(data / "mobilenet_v2_0.35_224_notop.h5")]
    command += ["--student-weights", str(data / "mobilenet_v2_1.0_224_tf1qat_notop.h5")]
    command += ["--teacher-backbone", "mobilenet_v2_035", "--student-backbone", "mobilenet_v2_100"]
    subprocess.run(command, cwd=home, env=environment_of(home), check=True)
    return config


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
