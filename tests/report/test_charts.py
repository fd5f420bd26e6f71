"""Charts: each becomes a readable PNG, says the right numbers, and survives every kind of name and pool."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure
from PIL import Image

from selftrain.config import Fixed, PerClass, PseudoLabel, Quantile, Threshold
from selftrain.evaluate.evaluation import EvaluationReport, evaluate
from selftrain.report import charts, drawing
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select

AWKWARD = ("$x^2$ or $", "猫", "_under_ %s {x}", "a" * 80)


def probabilities(images: int, classes: int) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.full(classes, 0.2), size=images)


def pool(images: int, names: tuple[str, ...], threshold: Threshold, *, quota: int | None = None) -> PseudoLabels:
    settings = PseudoLabel(threshold=threshold, max_per_class=quota)
    ids = [f"{index:064x}" for index in range(images)]
    probs = probabilities(images, len(names))
    return select(ids, probs, settings, round_index=1, teacher="t", class_names=names)


def report_on(names: tuple[str, ...], images: int) -> EvaluationReport:
    probs = probabilities(images, len(names))
    labels = np.where(np.arange(images) % 3 == 0, 0, probs.argmax(axis=1))
    return evaluate(labels, probs, class_names=names)


def colours(path: Path) -> set[tuple[int, int, int]]:
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        return {colour for _, colour in image.convert("RGB").getcolors(maxcolors=1 << 24)}


def rgb(name: str) -> tuple[int, int, int]:
    return tuple(int(name[start : start + 2], 16) for start in (1, 3, 5))  # type: ignore[return-value]


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


def titles(figure: Figure) -> str:
    return "\n".join([figure.get_suptitle(), *(axes.get_title(loc="left") for axes in figure.axes)])


def test_the_overall_chart_draws_the_threshold_and_counts_the_accepted(tmp_path: Path, drawn: list[Figure]) -> None:
    labels = pool(300, ("cat", "dog", "elk"), Fixed(value=0.75), quota=60)
    path = charts.confidence_overall(labels, tmp_path / "new" / "overall.png")
    assert {rgb(drawing.BLUE), rgb(drawing.ORANGE), rgb(drawing.PALE), rgb(drawing.VERMILION)} <= colours(path)
    assert f"{labels.accepted.num_rows:,} of 300 images accepted" in titles(drawn[0])
    assert drawn[0].axes[0].lines[0].get_xdata()[0] == pytest.approx(0.75)
    stairs = [patch.get_data() for patch in drawn[0].axes[0].patches]
    bars = sum((each.values - each.baseline).sum() for each in stairs)
    assert bars == 300


def test_without_a_threshold_none_is_drawn(tmp_path: Path, drawn: list[Figure]) -> None:
    charts.confidence_overall(pool(50, ("cat", "dog"), Fixed(value=None)), tmp_path / "overall.png")
    assert not drawn[0].axes[0].lines
    assert "50 of 50 images accepted (100 %), threshold none" in titles(drawn[0])


def test_each_class_has_its_own_threshold_and_counts(tmp_path: Path, drawn: list[Figure]) -> None:
    names = ("cat", "dog", "elk", "fox", "gnu", "hen")
    labels = pool(400, names, PerClass(values={"dog": 0.5}, default=0.9))
    charts.confidence_per_class(labels, tmp_path / "classes.png")
    panels = [axes for axes in drawn[0].axes if axes.get_visible()]
    assert [panel.lines[0].get_xdata()[0] for panel in panels] == pytest.approx([0.9, 0.5, 0.9, 0.9, 0.9, 0.9])
    accepted = labels.accepted_per_class()
    pools = np.bincount(labels.table["label"].to_numpy(), minlength=6)
    assert [panel.get_title(loc="left") for panel in panels] == [
        f"{name}  {taken} of {all_}" for name, taken, all_ in zip(names, accepted, pools, strict=True)
    ]


def test_no_bar_is_cut_off(tmp_path: Path, drawn: list[Figure]) -> None:
    charts.confidence_per_class(pool(400, ("cat", "dog", "elk"), Fixed(value=0.9)), tmp_path / "classes.png")
    for panel in drawn[0].axes:
        tops = np.concatenate([patch.get_data().values for patch in panel.patches]).tolist()
        assert max(tops) < panel.get_ylim()[1]


def test_many_classes_become_rows_of_one_picture(tmp_path: Path, drawn: list[Figure]) -> None:
    names = tuple(f"class {index}" for index in range(51))
    charts.confidence_per_class(pool(1000, names, Quantile(start=0.4)), tmp_path / "rows.png")
    assert len(drawn[0].axes) == 2
    assert drawn[0].axes[0].get_images()[0].get_array().sum() == 1000
    assert len(drawn[0].axes[0].get_yticks()) <= charts.MOST_NAMES


@pytest.mark.parametrize("threshold", [Fixed(value=None), Quantile()])
def test_an_empty_pool_can_be_drawn(tmp_path: Path, threshold: Threshold) -> None:
    for names in (("cat", "dog"), tuple(f"class {index}" for index in range(31))):
        colours(charts.confidence_overall(pool(0, names, threshold), tmp_path / "overall.png"))
        colours(charts.confidence_per_class(pool(0, names, threshold), tmp_path / "classes.png"))


def test_awkward_class_names_are_drawn_as_they_are(tmp_path: Path, drawn: list[Figure]) -> None:
    labels = pool(60, AWKWARD, PerClass(values={AWKWARD[0]: 0.5, AWKWARD[3]: 0.6}))
    colours(charts.confidence_overall(labels, tmp_path / "overall.png"))
    colours(charts.confidence_per_class(labels, tmp_path / "classes.png"))
    colours(charts.confusion_matrix(report_on(AWKWARD, 200), tmp_path / "confusion.png"))
    shown = drawn[-1].axes[0].get_yticklabels()
    assert [text.get_text() for text in shown] == [drawing.plain(name) for name in AWKWARD]
    assert len(shown[3].get_text()) == drawing.LONGEST_NAME


def test_the_confusion_matrix_writes_every_count_of_few_classes(tmp_path: Path, drawn: list[Figure]) -> None:
    report = report_on(("cat", "dog", "elk"), 200)
    charts.confusion_matrix(report, tmp_path / "confusion.png")
    written = {tuple(int(end) for end in text.get_position()): text.get_text() for text in drawn[0].axes[0].texts}
    expected = {
        (column, row): f"{count:,}"
        for row, counts in enumerate(report.confusion)
        for column, count in enumerate(counts)
        if count
    }
    assert written == expected
    assert f"Accuracy {100 * report.accuracy:.1f} % of 200 images" in titles(drawn[0])


def test_a_class_without_test_images_leaves_its_row_empty(tmp_path: Path, drawn: list[Figure]) -> None:
    report = evaluate([0, 0], [[0.9, 0.1], [0.2, 0.8]], class_names=("cat", "dog"))
    charts.confusion_matrix(report, tmp_path / "confusion.png")
    shares = drawn[0].axes[0].get_images()[0].get_array()
    assert shares[0].tolist() == [0.5, 0.5]
    assert shares.mask[1].all()


def test_many_classes_fit_a_confusion_matrix_without_counts(tmp_path: Path, drawn: list[Figure]) -> None:
    names = tuple(f"class {index}" for index in range(60))
    charts.confusion_matrix(report_on(names, 600), tmp_path / "confusion.png")
    assert not drawn[0].axes[0].texts


def curve(accuracies: list[float], losses: list[float], *, kept: int | None = None) -> pa.Table:
    steps = [120 * (index + 1) for index in range(len(accuracies))]
    return pa.table(
        {
            "step": steps,
            "loss": losses,
            "validation_loss": losses,
            "validation_accuracy": accuracies,
            "learning_rate": [1e-3] * len(steps),
            "kept": [index == kept for index in range(len(steps))],
        }
    )


def test_the_training_curve_names_the_kept_look(tmp_path: Path, drawn: list[Figure]) -> None:
    charts.training_curves(curve([0.5, 0.9, 0.9, 0.8], [1.0, 0.5, 0.4, 0.6], kept=2), tmp_path / "training.png")
    assert titles(drawn[0]).startswith("Kept: step 360, validation accuracy 90.0 %")


@pytest.mark.parametrize("accuracies", [[0.5], [float("nan"), float("nan")], []])
def test_a_short_or_broken_training_can_be_drawn(tmp_path: Path, accuracies: list[float]) -> None:
    colours(charts.training_curves(curve(accuracies, accuracies), tmp_path / "training.png"))


def test_the_same_values_give_the_same_bytes_whatever_the_users_style(tmp_path: Path) -> None:
    labels = pool(100, ("cat", "dog"), Fixed())
    first = charts.confidence_overall(labels, tmp_path / "first.png").read_bytes()
    with mpl.rc_context({"axes.facecolor": "black", "font.size": 30.0}):
        assert charts.confidence_overall(labels, tmp_path / "second.png").read_bytes() == first
        assert mpl.rcParams["font.size"] == 30.0
