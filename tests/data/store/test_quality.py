"""Image quality: which images have a hint, and which sets must have none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFilter

from selftrain import config
from selftrain.data.ingest.ingest import ingest
from selftrain.data.sources.source import open_source
from selftrain.data.store import quality as module
from selftrain.data.store.image_store import ImageStore
from selftrain.data.store.quality import Hint, QualityReport, measure, quality

Images = npt.NDArray[np.uint8]
BROKEN: dict[str, tuple[Hint, Callable[[Image.Image], Image.Image]]] = {
    "plain": (Hint.PLAIN, lambda image: image.point(lambda value: 118 + value // 64)),
    "dark": (Hint.DARK, lambda image: image.point(lambda value: value // 4)),
    "bright": (Hint.BRIGHT, lambda image: image.point(lambda value: 240 + value // 17)),
    "blurred": (Hint.BLURRED, lambda image: image.filter(ImageFilter.GaussianBlur(5))),
    "shape": (Hint.SHAPE, lambda image: image.resize((40, 160))),
    "size": (Hint.SIZE, lambda image: image.resize((700, 700))),
}


def photo(seed: int, side: int = 96) -> Image.Image:
    """A picture with the spectrum of photographs, 1/f, in three shades."""
    rng = np.random.default_rng(seed)
    distance = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None]) + 1 / side
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(side, side))) / distance).real
    gray = 128 + 45 * (noise - noise.mean()) / noise.std()
    shades = gray[..., None] * rng.uniform(0.85, 1.0, 3)
    return Image.fromarray(np.clip(shades, 0, 255).astype(np.uint8))


def looked_at(folder: Path, images: Mapping[str, Image.Image]) -> QualityReport:
    """The report on these images, stored as a run stores them."""
    for index, (name, image) in enumerate(images.items()):
        path = folder / "labeled" / f"class{index % 2}" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    source, store = open_source(config.FolderSource(labeled=str(folder / "labeled"))), ImageStore(folder / "store")
    settings = config.Ingest(max_quarantine=1.0)
    done = ingest(source, source.scan(), store, settings=settings, splitting=config.Splitting(), workers=1)
    assert len(done.manifest) == len(images)
    return quality(done.manifest, store)


def hinted(report: QualityReport) -> dict[str, set[Hint]]:
    found: dict[str, set[Hint]] = {}
    for kind in report.kinds:
        for image in kind.worst:
            found.setdefault(Path(image.origin).stem, set()).add(kind.hint)
    return found


def test_each_kind_of_bad_image_has_its_hint_and_good_ones_have_none(tmp_path: Path) -> None:
    images = {f"good{index}": photo(index) for index in range(24)}
    images |= {name: spoil(photo(100 + at)) for at, (name, (_, spoil)) in enumerate(BROKEN.items())}
    report = looked_at(tmp_path, images)
    assert hinted(report) == {name: {hint} for name, (hint, _) in BROKEN.items()}
    assert {kind.images for kind in report.kinds} == {1}
    assert (report.images, report.looked_at, report.too_small) == (30, 30, 0)
    assert report.share == pytest.approx(6 / 30)


def test_pictures_of_a_phone_that_was_held_upright_have_no_odd_shape(tmp_path: Path) -> None:
    sides = {f"{at:02}": (64, 112) if at % 5 < 2 else (112, 64) for at in range(20)}
    images = {name: photo(int(name)).resize(size) for name, size in sides.items()}
    report = looked_at(tmp_path, {**images, "panorama": photo(50).resize((400, 64))})
    assert hinted(report).get("panorama") == {Hint.SHAPE}
    assert not any(Hint.SHAPE in hints for name, hints in hinted(report).items() if name != "panorama")


def test_small_pictures_with_little_in_them_have_no_hint(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    digits = [Image.fromarray((each * 15).astype(np.uint8)) for each in load_digits().images[:60]]
    report = looked_at(tmp_path, {f"digit{index}": each for index, each in enumerate(digits)})
    assert report.kinds == ()
    assert report.too_small == report.looked_at == 60


def test_a_set_that_is_smooth_by_nature_is_not_blurred(tmp_path: Path) -> None:
    smooth = {f"scan{index}": photo(index).filter(ImageFilter.GaussianBlur(3)) for index in range(20)}
    assert looked_at(tmp_path, smooth).kinds == ()


def test_in_a_set_that_is_dark_by_nature_only_the_darkest_are(tmp_path: Path) -> None:
    cells = {f"cell{index}": photo(index).point(lambda value: value // 4) for index in range(20)}
    night = {"night": photo(50).point(lambda value: value // 16)}
    assert hinted(looked_at(tmp_path, cells | night)) == {"night": {Hint.DARK}}


def test_above_the_most_a_draw_by_id_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PIXELS", 5 * 96 * 96)
    images = {f"plain{index}": photo(index).point(lambda value: 100 + value // 64) for index in range(20)}
    report = looked_at(tmp_path, images)
    assert (report.looked_at, report.kinds[0].images, report.share) == (5, 5, 1.0)


def test_sharpness_is_the_variance_of_the_laplacian_over_that_of_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    gray = image[0] @ np.array([0.299, 0.587, 0.114])
    edges = [
        gray[y - 1, x] + gray[y + 1, x] + gray[y, x - 1] + gray[y, x + 1] - 4 * gray[y, x]
        for y in range(1, 31)
        for x in range(1, 31)
    ]
    low, fifth, high, sharpness = measure(image)[0]
    assert sharpness == pytest.approx(np.var(edges) / np.var(gray), rel=1e-3)
    assert [low, fifth, high] == pytest.approx(np.percentile(gray, [1, 5, 99]), abs=0.01)


def test_less_contrast_does_not_make_an_image_blurred() -> None:
    image = np.asarray(photo(0, 64))[None]
    faint = (100 + image / 8).astype(np.uint8)
    assert measure(faint)[0, 3] == pytest.approx(measure(image)[0, 3], rel=0.3)
