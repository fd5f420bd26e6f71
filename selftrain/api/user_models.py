"""User models: a Keras model, a torch module, a saved folder or any callable, opened for labelling."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from selftrain.adapters.process.quiet_start import start_keras
from selftrain.autolabeling.user_model import UserModel, open_model
from selftrain.data.inputs.images import Array
from selftrain.files.places import user_path
from selftrain.learn.adoption.formats import is_brought, open_brought
from selftrain.learn.models.loading import load


def open_user_model(model: object) -> tuple[UserModel, tuple[str, ...] | None]:
    """`model` as a UserModel, and its class names if selftrain saved it, otherwise None.

    A path may hold a model in any `Format`. Raises PredictionError where `model` cannot be called. Raises
    UntrustedFileError for a folder that holds no model, and as `open_brought` does.
    """
    if isinstance(model, str | os.PathLike):
        start_keras()
        path = user_path(model)
        if is_brought(path):
            return open_model(open_brought(path)), None
        loaded, contract = load(path)
        return replace(open_model(loaded), bits=contract.bits), contract.class_names
    if _is_torch(model):
        return UserModel(_torch_answer(model)), None
    return open_model(model), None


def refuse_withdrawn(teacher: Path, workspace: Path) -> None:
    """Raise WithdrawnError where the recall log of `workspace` names the model in the folder or file `teacher`."""
    from selftrain.adapters.registry.recall_log import ANOTHER_TEACHER, descent_at, refuse_file

    if teacher.exists():  # loading anything else fails with its own message
        refuse_file(descent_at(teacher), str(teacher), workspace, advice=ANOTHER_TEACHER)


def _is_torch(model: object) -> bool:
    torch = sys.modules.get("torch")  # a torch module exists only where torch is already imported
    return torch is not None and isinstance(model, torch.nn.Module)


def _torch_answer(module: Any) -> Callable[[Array], object]:
    """A function that runs `module` on numpy batches, in evaluation mode and without gradients, on its own device."""
    torch = importlib.import_module("torch")
    device = next((each.device for each in module.parameters()), torch.device("cpu"))

    def answer(images: Array) -> object:
        training = module.training
        module.eval()
        try:
            with torch.inference_mode():
                return module(torch.tensor(images, device=device))
        finally:
            module.train(training)

    return answer
