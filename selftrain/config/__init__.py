"""The configuration: one frozen Experiment, parsed once; unknown keys name the nearest valid one."""

from selftrain.config.data import (
    EXPECTATIONS,
    Checks,
    DigitsSource,
    FolderSource,
    Ingest,
    KerasDatasetSource,
    Place,
    Severity,
    Source,
    Splitting,
    TableSource,
)
from selftrain.config.decisions import Gate, GuardAction, GuardName, Guards, Metric, Registry, check_model_name
from selftrain.config.experiment import Experiment, parse
from selftrain.config.recipes import Augmentation, Consistency, Method, Recipe, Student, Teacher, learns_in_training
from selftrain.config.section import Machine, Section, Share
from selftrain.config.selection import Adaptive, Fixed, PerClass, PseudoLabel, Quantile, TargetPrecision, Threshold

__all__ = [
    "EXPECTATIONS",
    "Adaptive",
    "Augmentation",
    "Checks",
    "Consistency",
    "DigitsSource",
    "Experiment",
    "Fixed",
    "FolderSource",
    "Gate",
    "GuardAction",
    "GuardName",
    "Guards",
    "Ingest",
    "KerasDatasetSource",
    "Machine",
    "Method",
    "Metric",
    "PerClass",
    "Place",
    "PseudoLabel",
    "Quantile",
    "Recipe",
    "Registry",
    "Section",
    "Severity",
    "Share",
    "Source",
    "Splitting",
    "Student",
    "TableSource",
    "TargetPrecision",
    "Teacher",
    "Threshold",
    "check_model_name",
    "learns_in_training",
    "parse",
]
