"""selftrain: self-training for images, from a few labelled and many unlabelled ones."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from selftrain.version import __version__

if TYPE_CHECKING:
    from .api.calls import (
        analyze_data_then_save_to,
        autolabel,
        fit,
        held_out,
    )
    from .api.detection import autolabel_boxes, fit_detector
    from .api.learning import distill, learn_augmentation, learn_optimization
    from .api.loading import as_grain, as_numpy, as_torch, load_from
    from .learn.models.ensemble import ensemble
    from .learn.pretraining.representation import learn_representation

__all__ = [
    "__version__",
    "analyze_data_then_save_to",
    "as_grain",
    "as_numpy",
    "as_torch",
    "autolabel",
    "autolabel_boxes",
    "distill",
    "ensemble",
    "fit",
    "fit_detector",
    "held_out",
    "learn_augmentation",
    "learn_optimization",
    "learn_representation",
    "load_from",
]
_ELSEWHERE = {
    "as_grain": "api.loading",
    "as_numpy": "api.loading",
    "as_torch": "api.loading",
    "distill": "api.learning",
    "autolabel_boxes": "api.detection",
    "fit_detector": "api.detection",
    "ensemble": "learn.models.ensemble",
    "learn_augmentation": "api.learning",
    "learn_optimization": "api.learning",
    "learn_representation": "learn.pretraining.representation",
    "load_from": "api.loading",
}


def __getattr__(name: str) -> Any:
    """Import a function of the API when it is first used, so that `import selftrain` alone is cheap."""
    if name not in __all__:
        raise AttributeError(f"module 'selftrain' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'api.calls')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
