"""Errors that a user can meet: each says what came in, what is allowed, and what to do."""

import click


class SelftrainError(click.ClickException):
    """Root of every expected error; the command line prints it as one line, with exit code 1."""

    exit_code = 1


class InputError(SelftrainError):
    """What the user gave is wrong; exit code 2."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration has an unknown key or a value that is not allowed."""


class SourceError(InputError):
    """The images or labels of a source are missing, contradictory or too few."""


class QuarantineError(InputError):
    """More source files are unusable than the configured share allows."""


class ManifestError(InputError):
    """A manifest breaks one of its invariants, or its columns differ from the schema."""


class ValidationError(InputError):
    """An expectation on the manifest with severity `stop` was not met."""


class BackboneError(InputError):
    """A backbone is unknown, or its weights do not fit it."""


class UntrustedFileError(InputError):
    """The digest or format of a model file differs from its contract; the file was not loaded."""


class TrainingDivergedError(SelftrainError):
    """The loss became NaN or infinite; the message names the step."""


class NoFallError(SelftrainError):
    """In a learning-rate range test, the loss did not fall by more than chance at any rate."""


class TrainingHeldError(SelftrainError):
    """Another process runs the same training; the message names its folder."""


class BusyError(SelftrainError):
    """A run is alive in the workspace; the message names it."""


class ImageError(InputError):
    """One image cannot be read; `reason` is its quarantine code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RegistryError(SelftrainError):
    """The model registry refused a request, or lacks the model or version that was asked for."""


class NotRegisteredError(RegistryError, InputError):
    """The registry has no model or version of that name or number; exit code 2."""


class WithdrawnError(RegistryError):
    """A model was withdrawn, or descends from one that was; it can neither teach nor become champion."""


class PredictionError(SelftrainError):
    """Class probabilities are not finite, do not sum to one, or do not fit the labels or classes."""


class SnapshotError(SelftrainError):
    """DVC could not save or restore a version of a data set."""
