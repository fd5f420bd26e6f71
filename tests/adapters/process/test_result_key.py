"""Result keys: what changes a result changes its key, and nothing else does."""

from selftrain.adapters.process.result_key import result_key
from selftrain.config import Experiment, Machine
from selftrain.config.data import FolderSource, Splitting


def test_a_key_follows_from_settings_and_digests_and_not_from_where_or_how() -> None:
    base = result_key(Experiment(), "data", "code")
    elsewhere = Experiment(title="another", workspace="elsewhere", machine=Machine(workers=1))
    assert result_key(elsewhere, "data", "code") == base
    assert len({base, result_key(Experiment(seed=7), "data", "code"), result_key(Experiment(), "code", "data")}) == 3


def test_a_section_that_a_digest_stands_for_can_be_left_out() -> None:
    other = Experiment().model_copy(update={"source": FolderSource(labeled="photos")})
    assert result_key(other, "data") != result_key(Experiment(), "data")
    assert result_key(other, "data", leave_out={"source"}) == result_key(Experiment(), "data", leave_out={"source"})


def test_how_images_are_grouped_shows_in_the_manifest_and_its_digest_stands_for_it() -> None:
    grouped = Experiment().model_copy(update={"splitting": Splitting(group_from="parent", reserve=0.5)})
    assert result_key(grouped, "data") == result_key(Experiment(), "data")
    assert result_key(grouped, "data") != result_key(grouped, "other data")
