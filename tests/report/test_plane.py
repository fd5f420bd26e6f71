"""Planes: similar vectors lie together, whatever the method, and the same vectors give the same picture."""

from __future__ import annotations

import numpy as np
import pytest

from selftrain.report.plane import NEIGHBOURS, has_umap, planes


def clusters(images: int = 90, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    names = np.arange(images) % 3
    return (rng.normal(size=(3, width))[names] * 4 + rng.normal(size=(images, width))).astype(np.float32), names


def test_clusters_stay_apart_in_every_plane_and_all_lie_within_it() -> None:
    vectors, names = clusters()
    for at in planes(vectors).values():
        assert at.shape == (90, 2)
        assert at.min() >= 0
        assert at.max() <= 1
        centres = np.stack([at[names == each].mean(axis=0) for each in range(3)])
        nearest = np.linalg.norm(at[:, None] - centres, axis=2).argmin(axis=1)
        assert (nearest == names).mean() > 0.95


def test_pca_is_the_projection_on_the_two_main_axes() -> None:
    vectors, _ = clusters()
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    naive = centred @ axes[:2].T
    found = planes(vectors)["PCA"]
    for axis in range(2):
        assert abs(np.corrcoef(naive[:, axis], found[:, axis])[0, 1]) > 0.99


def test_the_same_vectors_give_the_same_picture() -> None:
    vectors, _ = clusters()
    first, second = planes(vectors), planes(vectors)
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("vectors", [np.ones((20, 1)), np.zeros((20, 5)), np.eye(3)])
def test_few_or_equal_vectors_have_a_plane_too(vectors: np.ndarray) -> None:
    for at in planes(vectors.astype(np.float32)).values():
        assert at.shape == (len(vectors), 2)
        assert np.isfinite(at).all()


def test_two_images_have_no_plane() -> None:
    with pytest.raises(ValueError, match="three vectors or more"):
        planes(np.eye(2, dtype=np.float32))


@pytest.mark.skipif(not has_umap(), reason="NOT LAID OUT BY UMAP: umap-learn is not installed")
def test_umap_comes_first_where_there_are_more_images_than_neighbours() -> None:
    assert list(planes(clusters()[0])) == ["UMAP", "PCA"]
    assert list(planes(clusters(NEIGHBOURS)[0])) == ["PCA"]
