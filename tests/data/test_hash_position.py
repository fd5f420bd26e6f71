import numpy as np

from selftrain.data.hash_position import hash_position
from selftrain.data.inputs.held_out import held_out_mask


def test_positions_are_golden_numbers() -> None:
    assert [round(hash_position(image_id, seed=seed), 12) for image_id, seed in ((b"a1", 0), (b"cat", 3))] == [
        0.800770246111,
        0.290638336701,
    ]


def test_a_share_of_the_images_is_held_out_and_another_seed_holds_out_others() -> None:
    ids = np.array([f"{number:064x}" for number in range(2000)], "S64")
    mask, other = (held_out_mask(ids, share=0.2, seed=seed) for seed in (0, 1))
    assert 0.17 < mask.mean() < 0.23
    assert 0.17 < other.mean() < 0.23
    assert 0.02 < (mask & other).mean() < 0.06
    np.testing.assert_array_equal(held_out_mask(ids[::-1], share=0.2, seed=0), mask[::-1])
