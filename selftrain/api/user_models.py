"""A user's model: a Keras model, a torch module, a saved folder or any callable, ready to be asked."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from selftrain.adapters.process.quiet_start import start_keras
from selftrain.autolabeling.user_model import UserModel, open_model
from selftrain.data.inputs.images import Array
from selftrain.files.places import user_path
from selftrain.learn.models.loading import load


def open_user_model(model: object) -> tuple[UserModel, tuple[str, ...] | None]:
    """`model` ready to be asked, and its class names if it says them: the folder of a model saved here does.

    Raises PredictionError for what is no model, UntrustedFileError for a folder that is none of ours.
    """
    if isinstance(model, str | os.PathLike):
        start_keras()
        loaded, contract = load(user_path(model))
        return open_model(loaded), contract.class_names
    if _is_torch(model):
        return UserModel(_torch_answer(model)), None
    return open_model(model), None


def _is_torch(model: object) -> bool:
    torch = sys.modules.get("torch")  # a module of torch cannot be there without it
    return torch is not None and isinstance(model, torch.nn.Module)


def _torch_answer(module: Any) -> Callable[[Array], object]:
    """A torch module as a function of numpy batches: in evaluation mode, without gradients, on its own device."""
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
