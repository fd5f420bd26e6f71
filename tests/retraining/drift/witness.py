"""Digits as a small classifier sees them: real pictures, features and probabilities without a training."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from selftrain.retraining.drift.summaries import Reference, Summary, describe, refer, space_of

Change = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Witness:
    """Principal components (32) of `known` digits as features; probabilities fall with the distance to class means."""

    images: np.ndarray  # (n, 64) 0-1
    labels: np.ndarray  # (n,)
    basis: np.ndarray  # (64, 32)
    means: np.ndarray  # (classes, 32)

    @classmethod
    def of(cls, known: int = 10) -> "Witness":
        """Of the digits below `known`."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        images = (images / 16).astype(np.float32)
        seen = images[labels < known]
        basis = np.linalg.svd(seen - seen.mean(axis=0), full_matrices=False)[2][:32].T
        means = np.stack([images[labels == digit].mean(axis=0) @ basis for digit in range(known)])
        return cls(images, labels, basis, means)

    def see(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, 32) and probabilities (n, classes)."""
        features = images @ self.basis
        gaps = ((features[:, None] - self.means[None]) ** 2).sum(axis=2)
        odds = np.exp(-2 * (gaps - gaps.min(axis=1, keepdims=True)))
        return features, odds / odds.sum(axis=1, keepdims=True)

    def window(self, rows: np.ndarray, reference: Reference, change: Change = np.array) -> Summary:
        """The summary of the digits `rows`, changed by `change`."""
        return describe([self.see(change(self.images[rows]))], reference)

    def reference(self, rows: np.ndarray) -> Reference:
        """The reference that the digits `rows` make."""
        seen = self.see(self.images[rows])
        return refer([seen], space_of([seen[0]], model="digits", classes=len(self.means)))


def blurred(images: np.ndarray) -> np.ndarray:
    """Each pixel (n, 64) averaged with its neighbours in the row and column."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(images.reshape(-1, 8, 8), (0, 0.8, 0.8)).reshape(-1, 64)


def darker(images: np.ndarray) -> np.ndarray:
    """Half as bright."""
    return images / 2


def renamed(summary: Summary, model: str) -> Summary:
    """The summary as another model's."""
    return summary.model_copy(update={"space": summary.space.model_copy(update={"model": model})})
