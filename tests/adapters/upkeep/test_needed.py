"""What a workspace still needs: the decision, on facts written by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from selftrain.adapters.upkeep.needed import Facts, PastRun, PastVersion, needed
from selftrain.evaluate.promotion import Action, Change


def run(start: int, *, experiment: str = "a", finished: bool = True, model: tuple[str, int] | None = None) -> PastRun:
    return PastRun(f"{experiment}{start}", experiment, start, finished, f"{start}.dir" if finished else None, model)


def change(action: Action, previous: int | None, to: int) -> Change:
    return Change(number=1, when="now", who="me", action=action, previous=previous, to=to, why="so")


def test_the_newest_finished_runs_of_each_experiment_are_kept() -> None:
    runs = [*(run(start) for start in range(5)), *(run(start, experiment="b") for start in range(2))]
    assert needed(Facts(runs), 2).runs == {"a3", "a4", "b0", "b1"}


def test_a_failed_run_after_the_oldest_kept_one_is_kept_because_it_may_be_continued() -> None:
    runs = [run(0), run(1, finished=False), run(2), run(3, finished=False)]
    assert needed(Facts(runs), 1).runs == {"a2", "a3"}


def test_an_experiment_without_enough_finished_runs_loses_none() -> None:
    assert needed(Facts([run(0, finished=False), run(1)]), 2).runs == {"a0", "a1"}


def test_a_model_with_an_alias_a_former_champion_and_the_model_of_a_kept_run_stay() -> None:
    versions = [PastVersion("m", number, "", run=f"a{number}") for number in range(1, 8)]
    versions[1] = PastVersion("m", 2, "", aliases=("staging",), run="a2")
    log = [change("promote", 3, 4), change("refuse", 4, 5), change("rollback", 4, 3)]
    runs = [*(run(start) for start in range(1, 7)), run(7, model=("m", 1))]  # it found version 1 again
    assert needed(Facts(runs, versions, {"m": log}), 1).models == {("m", number) for number in (1, 2, 3, 4, 7)}


def test_data_sets_of_kept_runs_registered_models_and_decisions_stay() -> None:
    versions = [PastVersion("m", 1, "", dataset_version="1.dir")]
    facts = Facts([run(start) for start in range(5)], versions, decided_on=frozenset({"p.dir"}))
    assert needed(facts, 1).datasets == {"4.dir", "1.dir", "p.dir"}


@given(
    st.lists(st.tuples(st.integers(1, 99), st.booleans(), st.sampled_from("ab")), unique_by=lambda each: each[0]),
    st.integers(1, 9),
)
def test_to_keep_more_runs_never_loses_anything(made: list[tuple[int, bool, str]], keep: int) -> None:
    facts = Facts([run(start, experiment=name, finished=ended) for start, ended, name in made])
    fewer, more = needed(facts, keep), needed(facts, keep + 1)
    assert fewer.runs <= more.runs
    assert fewer.datasets <= more.datasets
