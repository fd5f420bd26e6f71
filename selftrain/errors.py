"""The errors a user can meet: each says what came in, what was allowed, and what to do."""

import click


class SelftrainError(click.ClickException):
    """Root of every expected error; printed as one line by the command line, exit code 1."""

    exit_code = 1


class InputError(SelftrainError):
    """What the user gave is wrong; exit code 2."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration has an unknown key or a value that is not allowed."""


class SourceError(InputError):
    """The images or labels a source names are missing, contradictory or too few."""


class QuarantineError(InputError):
    """More source files were quarantined than the configured share allows."""


class ManifestError(InputError):
    """A manifest breaks one of its invariants or does not have the schema."""


class ValidationError(InputError):
    """An expectation on the manifest with severity `stop` was not met."""


class BackboneError(InputError):
    """A backbone is unknown, or its weights do not fit it."""


class UntrustedFileError(InputError):
    """A model file's digest or format is not what its contract says; it was not loaded."""


class TrainingDivergedError(SelftrainError):
    """The loss became NaN or infinite; the message names the step."""


class NoFallError(SelftrainError):
    """A range test saw the loss fall by no more than chance at every learning rate."""


class TrainingHeldError(SelftrainError):
    """The same training runs in another process; the message names its folder."""


class ImageError(InputError):
    """One image cannot be read; `reason` is its quarantine code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RegistryError(SelftrainError):
    """The model registry refused, or does not hold what was asked of it."""


class NotRegisteredError(RegistryError, InputError):
    """The registry answers, and has no model or version of that name or number; exit code 2."""


class WithdrawnError(RegistryError):
    """A model was withdrawn, or was taught by one that was: it may neither teach nor become champion."""


class PredictionError(SelftrainError):
    """Class probabilities are not finite, do not sum to one, or do not fit the labels or classes."""


class SnapshotError(SelftrainError):
    """DVC could not save or restore a dataset version."""
