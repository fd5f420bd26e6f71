"""Errors that a user can meet: each says what came in, what is allowed, and what to do."""

import click

INTERRUPTED = 75
"""Exit code of a step that was told to stop and saved its state: run it again, and it continues."""
NO_DEVICE = 69
"""Exit code of a step that was promised an accelerator and finds no driver: another node may have one."""
OUT_OF_MEMORY = 71
"""Exit code of a step whose accelerator or process ran out of memory: running it again as it is would not help."""


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


class SecretError(InputError):
    """A reference to a secret leads to nothing; the message names the reference, never a value."""


class InboxError(SelftrainError):
    """The inbox cannot be listed or read: its folder, bucket, server or key."""


class MirrorError(SelftrainError):
    """The store of checkpoints cannot be read or written."""


class QuarantineError(InputError):
    """More source files are unusable than the configured share allows."""


class LabelLogError(InputError):
    """Labels given later do not fit the data set, or its label log is damaged; nothing was written."""


class ManifestError(InputError):
    """A manifest breaks one of its invariants, or its columns differ from the schema."""


class ValidationError(InputError):
    """An expectation on the manifest with severity `stop` was not met."""


class BackboneError(InputError):
    """A backbone is unknown, or its weights do not fit it."""


class UntrustedFileError(InputError):
    """The digest or format of a model file differs from its contract; the file was not loaded."""


class TrainingInterruptedError(SelftrainError):
    """A training was told to stop, and saved its state; run it again, and it continues."""

    exit_code = INTERRUPTED


class OutOfMemoryError(SelftrainError):
    """A training step did not fit the device's memory; the message says what was tried, and what to lower.

    `halves_may_fit` is True if the training may go on with halves of its batches.
    """

    exit_code = OUT_OF_MEMORY

    def __init__(self, message: str, *, halves_may_fit: bool) -> None:
        super().__init__(message)
        self.halves_may_fit = halves_may_fit


class RunCutOffError(SelftrainError):
    """The pod of a run was lost during one of its steps; the next run takes finished steps from the cache."""


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


class DiskFullError(SelftrainError):
    """A disk is full; the message names it. What was being written is not there, and repeating continues."""


class LeaseHeldError(SelftrainError):
    """Another process does what only one may do at a time; the message names it."""


class LeaseLostError(SelftrainError):
    """This process stopped renewing its claim for too long, and another may have begun; nothing was changed."""


class WithdrawnError(RegistryError):
    """A model was withdrawn, or descends from one that was; it can neither teach nor become champion."""


class PredictionError(SelftrainError):
    """Class probabilities are not finite, do not sum to one, or do not fit the labels or classes."""


class ExportError(SelftrainError):
    """A model cannot be written in another format, or does not answer there as it should; nothing was left behind."""


class SnapshotError(SelftrainError):
    """DVC could not save or restore a version of a data set."""


class ScheduleError(SelftrainError):
    """What starts a schedule on this machine (systemd, cron, ZenML) refused, or cannot do what was asked."""


class StackError(SelftrainError):
    """A stack of ZenML is not there, is not ours to change, or its cluster does not answer."""


class DriftError(InputError):
    """Summaries of images are damaged, or come from different models, so they cannot be compared."""


class ServingError(SelftrainError):
    """The server cannot start; the message says what is in its way."""


class OverloadedError(SelftrainError):
    """Too many images wait for an answer; the request may be sent again later."""


class RequestError(InputError):
    """A request that the server refuses; `status` is its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
