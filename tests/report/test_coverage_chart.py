"""The picture of coverage and precision: the right numbers, the chosen threshold, and every kind of curve."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from selftrain.config import Fixed, PerClass, PseudoLabel, TargetPrecision, Threshold
from selftrain.errors import PredictionError
from selftrain.evaluate.coverage import HeldOut
from selftrain.report import drawing
from selftrain.report.coverage import precision_by_coverage
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select

NAMES = ("cat", "dog", "elk")


def labels_of(threshold: Threshold, *, pool: int = 400, held: int = 300) -> PseudoLabels:
    """Answers of a calibrated teacher: right as often as it says."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(3, 0.2), pool + held).astype(np.float32)
    labels = np.array([rng.choice(3, p=row / row.sum()) for row in probs[pool:].astype(np.float64)])
    return select(
        [f"{index:064x}" for index in range(pool)],
        probs[:pool],
        PseudoLabel(threshold=threshold),
        round_index=2,
        teacher="t",
        class_names=NAMES,
        held_out=HeldOut(probs[pool:], labels),
    )


def colours(path: Path) -> set[tuple[int, int, int]]:
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        return {colour for _, colour in image.convert("RGB").getcolors(maxcolors=1 << 24)}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved, so that a test can read what they say."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *args: object, **kwargs: object) -> None:
        figures.append(self)
        save(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def test_the_curve_and_the_chosen_threshold_are_drawn_and_said(tmp_path: Path, drawn: list[Figure]) -> None:
    labels = labels_of(Fixed(value=0.9))
    path = precision_by_coverage(labels, tmp_path / "new" / "precision.png")
    assert {tuple(int(name[at : at + 2], 16) for at in (1, 3, 5)) for name in (drawing.BLUE, drawing.VERMILION)} <= (
        colours(path)
    )
    measured = labels.measured
    assert measured is not None
    assert measured.precision is not None
    said = drawn[0].get_suptitle()
    assert said.startswith(f"Round 2: threshold 0.9\naccepts {100 * measured.coverage:.0f} % of the pool")
    assert f"{measured.right} of {measured.images} held-out images are right: {100 * measured.precision:.1f} %" in said
    left, right = drawn[0].axes
    curve, chosen = left.lines
    assert curve.get_xdata()[-1] == pytest.approx(1.0)
    assert chosen.get_xdata()[0] == pytest.approx(measured.coverage)
    assert right.lines[1].get_xdata()[0] == pytest.approx(0.9)


def test_each_class_threshold_has_a_line(tmp_path: Path, drawn: list[Figure]) -> None:
    precision_by_coverage(labels_of(PerClass(values={"dog": 0.5}, default=0.75)), tmp_path / "precision.png")
    assert [line.get_xdata()[0] for line in drawn[0].axes[1].lines[1:]] == pytest.approx([0.5, 0.75])


def test_where_nothing_is_accepted_no_threshold_is_drawn(tmp_path: Path, drawn: list[Figure]) -> None:
    precision_by_coverage(labels_of(TargetPrecision(target=0.99), held=40), tmp_path / "precision.png")
    assert drawn[0].get_suptitle() == "Round 2: threshold precision 0.99 accepts none of 40 held-out images"
    assert [len(axes.lines) for axes in drawn[0].axes] == [1, 1]


@pytest.mark.parametrize(("pool", "held"), [(0, 5), (5, 1), (1, 300)])
def test_tiny_pools_and_tiny_held_out_sets_can_be_drawn(tmp_path: Path, pool: int, held: int) -> None:
    colours(precision_by_coverage(labels_of(Fixed(value=None), pool=pool, held=held), tmp_path / "precision.png"))


def test_labels_without_a_curve_are_refused(tmp_path: Path) -> None:
    unmeasured = select(["a"], [[0.9, 0.1]], PseudoLabel(), round_index=1, teacher="t", class_names=("cat", "dog"))
    with pytest.raises(PredictionError, match="not measured on held-out labels"):
        precision_by_coverage(unmeasured, tmp_path / "precision.png")
