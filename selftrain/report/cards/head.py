"""The head of a model card: the YAML that the Hugging Face Hub reads, and what a reader must know of the data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Pipeline = Literal["image-classification", "object-detection"]
_NAMES = {"image-classification": "Image Classification", "object-detection": "Object Detection"}
_HEAD = re.compile(r"\A---\n.*?\n---\n+", re.DOTALL)
_LEFT_TO_YOU = """\
# license: not chosen; add one before you publish the model
# datasets: add the Hub's id of your images if they are there
"""
_SPLITS = {"train": "to train on", "validation": "for validation", "test": "for the test"}


@dataclass(frozen=True)
class TrainedOn:
    """What a card tells beside the model's own contract: the registered name, and the data.

    `images`: how many images each split holds, by its name.
    """

    model: str
    dataset: str
    images: Mapping[str, int]


@dataclass(frozen=True)
class Result:
    """A metric on test: the Hub's `type`, its name for people, and its value."""

    type: str
    name: str
    value: float


def head(made: TrainedOn, *, pipeline: Pipeline, results: Sequence[Result], manifest_digest: str) -> str:
    """The YAML head of a card, with its fences. License and the Hub's data set are left to the user."""
    import yaml

    facts: dict[str, Any] = {
        "library_name": "keras",
        "pipeline_tag": pipeline,
        "tags": ["selftrain", "self-training", "semi-supervised-learning"],
        "metrics": [each.type for each in results],
        "model-index": [
            {
                "name": made.model,
                "results": [
                    {
                        "task": {"type": pipeline, "name": _NAMES[pipeline]},
                        "dataset": {
                            "type": "imagefolder",
                            "name": made.dataset,
                            "split": "test",
                            "args": {"manifest": manifest_digest, "images": made.images.get("test", 0)},
                        },
                        "metrics": [
                            {"type": each.type, "name": each.name, "value": round(each.value, 6)} for each in results
                        ],
                    }
                ],
            }
        ],
    }
    return f"---\n{_LEFT_TO_YOU}{yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)}---"


def data_section(made: TrainedOn, manifest_digest: str) -> str:
    """The section on the images that the model was made from."""
    counts = [f"{made.images[split]:,} {what}" for split, what in _SPLITS.items() if split in made.images]
    name, unlabelled = made.dataset.replace("`", ""), made.images.get("unlabeled", 0)
    return (
        f"## Data\n\nData set `{name}`, manifest `{manifest_digest}`. Images with human labels: {', '.join(counts)}. "
        f"Images without: {unlabelled:,}. Each image is in one split. The test images were read after the training."
    )


def without_head(card: str) -> str:
    """`card` without its YAML head, for pages that show it as Markdown.

    >>> without_head("---\\nlibrary_name: keras\\n---\\n\\n# A model\\n")
    '# A model\\n'
    """
    return _HEAD.sub("", card, count=1)
