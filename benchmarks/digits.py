"""The digits run of `make run`: what digits_seeds and digits_labels repeat, and training times."""

from __future__ import annotations

from selftrain.config import DigitsSource, Experiment, Recipe


def experiment(seed: int, *, labeled: int = 100, steps: int | None = None) -> Experiment:
    """The default Experiment with another draw of labels and other weights to begin with; 0 is the default itself.

    Seeds of models lie apart, so that no student repeats another run's teacher. `steps` shortens all trainings.
    """
    default = Experiment(source=DigitsSource(seed=seed, labeled=labeled), seed=100 * seed)
    if steps is None:
        return default
    return default.model_copy(
        update={"teacher": shortened(default.teacher, steps), "student": shortened(default.student, steps)}
    )


def shortened(recipe: Recipe, steps: int) -> Recipe:
    """The recipe with so many steps and two looks at validation."""
    return recipe.model_copy(update={"steps": steps, "validate_every": -(-steps // 2)})
