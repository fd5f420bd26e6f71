"""Champions: one alias that moves, and a log of every change that only grows."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import CoordinationV1Api

from selftrain.adapters.cluster.kube import api_client
from selftrain.adapters.cluster.lease import KubernetesLease
from selftrain.adapters.registry import champions as p
from selftrain.adapters.registry import versions as r
from selftrain.adapters.registry.turn import champion_lease, champions_turn
from selftrain.adapters.tracking.store import Tracking, open_tracking
from selftrain.errors import LeaseHeldError, LeaseLostError, RegistryError
from selftrain.evaluate.promotion import PromotionDecision
from selftrain.files.lease import held
from selftrain.files.workspace import Workspace
from tests.adapters.cluster.api_server import served

PROMOTE = ("promote", "--force", "--why", "by hand", "--model-name", "m")
ROLLBACK = ("rollback", "--model-name", "m")

# mlflow's SQL store leaves cursors to the garbage collector.
pytestmark = [pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a registry with the versions 1 to 4 of `m`; making one takes MLflow seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        workspace = Workspace(tmp_path_factory.mktemp("made"))
        tracking = open_tracking(workspace.root, stack=lambda: None)
        tracking.client.create_registered_model("m")
        for key in "abcd":
            tracking.client.create_model_version("m", (workspace.root / key).as_uri(), tags={r.RUN_KEY: key})
        return workspace.mlflow_database


@pytest.fixture
def store(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracking:
    """A registry with the versions 1 to 4 of `m`, none of them judged."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    shutil.copy(database, Workspace(tmp_path).ensure().mlflow_database)
    return open_tracking(tmp_path, stack=lambda: None)


def allow(store: Tracking, number: int, *, over: int | None, promote: bool = True) -> None:
    decision = PromotionDecision(promote=promote, reasons=("judged",), against=over)
    p.record_decision(store, r.get_version(store, name="m", number=number), decision, who="run")


def log(store: Tracking) -> list[tuple[str, int | None, int]]:
    return [(one.action, one.previous, one.to) for one in p.history(store, "m")]


def test_promotions_and_rollbacks_move_one_alias_and_are_all_logged(store: Tracking) -> None:
    for number, over in ((1, None), (2, 1), (3, 2)):
        allow(store, number, over=over)
        p.promote(store, "m", number, who="ada")
    assert p.rollback(store, "m", who="ada", why="worse in production").number == 2
    assert p.rollback(store, "m", who="ada").number == 1
    with pytest.raises(RegistryError, match="version 1 is the first champion"):
        p.rollback(store, "m", who="ada")
    champion = r.champion(store, "m")
    assert champion is not None
    assert champion.uri == "models:/m/1"
    assert log(store) == [
        ("promote", None, 1),
        ("promote", 1, 2),
        ("promote", 2, 3),
        ("rollback", 3, 2),
        ("rollback", 2, 1),
    ]
    assert [one.number for one in p.history(store, "m")] == [1, 2, 3, 4, 5]
    assert p.history(store, "m")[3].why == "worse in production"
    assert p.history(store, "m")[0].who == "ada"


def test_a_rollback_after_a_rollback_and_a_promotion_goes_to_the_champion_before(store: Tracking) -> None:
    for number in (1, 2):
        p.promote(store, "m", number, who="ada", why="by hand", force=True)
    p.rollback(store, "m", who="ada")
    p.promote(store, "m", 3, who="ada", why="by hand", force=True)
    assert p.rollback(store, "m", who="ada").number == 1


def test_promoting_the_champion_again_changes_nothing(store: Tracking) -> None:
    allow(store, 1, over=None)
    p.promote(store, "m", 1, who="ada")
    p.promote(store, "m", 1, who="ada")
    assert log(store) == [("promote", None, 1)]


def test_a_promotion_killed_between_its_two_aliases_is_finished(store: Tracking) -> None:
    allow(store, 1, over=None)
    p.promote(store, "m", 1, who="ada")
    store.client.set_registered_model_alias("m", r.CHALLENGER, "1")
    assert p.promote(store, "m", 1, who="ada").aliases == ("champion",)
    assert r.challenger(store, "m") is None
    assert log(store) == [("promote", None, 1)]


def test_a_promoted_challenger_is_no_challenger_any_more(store: Tracking) -> None:
    store.client.set_registered_model_alias("m", r.CHALLENGER, "2")
    allow(store, 2, over=None)
    assert p.promote(store, "m", who="ada").aliases == ("champion",)
    with pytest.raises(RegistryError, match="no challenger"):
        p.promote(store, "m", who="ada")


def test_a_version_is_promoted_only_if_its_recorded_decision_still_holds(store: Tracking) -> None:
    with pytest.raises(RegistryError, match="never judged"):
        p.promote(store, "m", 1, who="ada")
    allow(store, 1, over=None, promote=False)
    with pytest.raises(RegistryError, match=r"judged\. Run again, or force"):
        p.promote(store, "m", 1, who="ada")
    allow(store, 2, over=None)
    allow(store, 3, over=None)
    p.promote(store, "m", 2, who="ada")
    with pytest.raises(RegistryError, match="compared with champion None, and the champion is 2"):
        p.promote(store, "m", 3, who="ada")
    assert log(store) == [("refuse", None, 1), ("promote", None, 2)]


def test_force_promotes_what_was_refused_but_only_with_a_reason(store: Tracking) -> None:
    with pytest.raises(RegistryError, match="needs a reason"):
        p.promote(store, "m", 4, who="ada", force=True)
    assert p.promote(store, "m", 4, who="ada", force=True, why="the test set is wrong").number == 4
    assert p.history(store, "m")[-1].why == "the test set is wrong"


def test_the_same_refusal_is_logged_once(store: Tracking) -> None:
    for _ in range(3):
        allow(store, 1, over=None, promote=False)
    assert log(store) == [("refuse", None, 1)]


def test_a_promotion_killed_before_its_alias_was_set_is_finished_not_logged_twice(store: Tracking) -> None:
    allow(store, 1, over=None)
    p.promote(store, "m", 1, who="ada")
    allow(store, 2, over=1)
    p.promote(store, "m", 2, who="ada")
    store.client.set_registered_model_alias("m", r.CHAMPION, "1")  # as if the kill had come between log and alias
    assert p.promote(store, "m", 2, who="ada").number == 2
    assert log(store) == [("promote", None, 1), ("promote", 1, 2)]
    p.rollback(store, "m", who="ada")
    store.client.set_registered_model_alias("m", r.CHAMPION, "2")
    assert p.rollback(store, "m", who="ada").number == 1
    assert log(store)[2:] == [("rollback", 2, 1)]


def cut_short(store: Tracking, action: p.Action, previous: int | None, to: int) -> None:
    """The log's line of a change whose alias a kill left unset."""
    there = p.history(store, "m")
    change = p.Change(
        number=len(there) + 1, when="2026-11-20", who="ada", action=action, previous=previous, to=to, why="judged"
    )
    store.client.set_registered_model_tag("m", f"{p.LOG_TAG}{change.number:06d}.cut", change.model_dump_json())


def test_a_rollback_after_a_promotion_cut_short_goes_back_from_the_version_that_has_the_alias(store: Tracking) -> None:
    for number in (1, 2):
        p.promote(store, "m", number, who="ada", why="by hand", force=True)
    cut_short(store, "promote", 2, 3)
    allow(store, 4, over=2, promote=False)  # what is refused meanwhile hides nothing
    assert p.rollback(store, "m", who="ada").number == 1
    assert log(store)[2:] == [("promote", 2, 3), ("refuse", 2, 4), ("rollback", 3, 2), ("rollback", 2, 1)]
    assert "cut short" in p.history(store, "m")[-2].why
    with pytest.raises(RegistryError, match="version 1 is the first champion"):
        p.rollback(store, "m", who="ada")


def test_a_rollback_with_nothing_to_go_back_to_leaves_a_promotion_cut_short_to_be_finished(store: Tracking) -> None:
    p.promote(store, "m", 1, who="ada", why="by hand", force=True)
    cut_short(store, "promote", 1, 2)
    with pytest.raises(RegistryError, match="version 1 is the first champion"):
        p.rollback(store, "m", who="ada")
    assert p.promote(store, "m", 2, who="ada", why="by hand", force=True).number == 2
    assert log(store) == [("promote", None, 1), ("promote", 1, 2)]


def test_another_promotion_after_one_cut_short_takes_that_one_back_first(store: Tracking) -> None:
    for number in (1, 2):
        p.promote(store, "m", number, who="ada", why="by hand", force=True)
    cut_short(store, "promote", 2, 3)
    p.promote(store, "m", 4, who="ada", why="by hand", force=True)
    cut_short(store, "rollback", 4, 2)
    assert p.promote(store, "m", 4, who="ada").number == 4  # to keep it after all
    assert log(store)[3:] == [("rollback", 3, 2), ("promote", 2, 4), ("rollback", 4, 2), ("promote", 2, 4)]
    assert [p.rollback(store, "m", who="ada").number for _ in range(2)] == [2, 1]


def test_a_rollback_cut_short_is_finished_though_a_refusal_came_after_it(store: Tracking) -> None:
    for number in (1, 2):
        p.promote(store, "m", number, who="ada", why="by hand", force=True)
    cut_short(store, "rollback", 2, 1)
    allow(store, 3, over=2, promote=False)
    assert p.rollback(store, "m", who="ada").number == 1
    assert log(store)[2:] == [("rollback", 2, 1), ("refuse", 2, 3)]


def test_an_alias_moved_by_other_means_is_gone_back_to(store: Tracking) -> None:
    p.promote(store, "m", 1, who="ada", why="by hand", force=True)
    store.client.set_registered_model_alias("m", r.CHAMPION, "4")
    p.promote(store, "m", 2, who="ada", why="by hand", force=True)
    assert log(store)[-1] == ("promote", 4, 2)
    assert p.rollback(store, "m", who="ada").number == 4


def test_an_unknown_version_names_the_known_ones_and_an_unknown_model_has_no_history(store: Tracking) -> None:
    with pytest.raises(RegistryError, match="no version 9; there are: 1, 2, 3, 4"):
        p.promote(store, "m", 9, who="ada")
    assert p.history(store, "nobody") == []
    assert r.champion(store, "nobody") is None


def test_a_promotion_waits_for_the_turn_of_another_and_is_carried_out_afterwards(store: Tracking) -> None:
    allow(store, 1, over=None)
    promotion = threading.Thread(target=p.promote, args=(store, "m", 1), kwargs={"who": "ada"})
    with champions_turn(store, "m", who="run 7"):
        promotion.start()
        promotion.join(0.5)
        assert promotion.is_alive()
        assert log(store) == []
    promotion.join()
    assert log(store) == [("promote", None, 1)]


def test_who_has_the_turn_is_said_and_another_model_has_its_own(store: Tracking) -> None:
    with champions_turn(store, "m", who="run 7"):
        with pytest.raises(LeaseHeldError, match=r"run 7 \(process"), champions_turn(store, "m", who="ada", wait_s=0):
            pass
        with champions_turn(store, "another/model", who="ada", wait_s=0):
            pass


def test_who_has_lost_the_turn_changes_neither_alias_nor_log(store: Tracking) -> None:
    p.promote(store, "m", 1, who="ada", why="by hand", force=True)
    hung = champion_lease(store, "m", "hung")
    assert hung.take() is None
    hung.path.unlink()
    with champions_turn(store, "m", who="next"), pytest.raises(LeaseLostError, match=r"next \(process .* has it since"):
        p.promote(store, "m", 2, who="hung", why="by hand", force=True, turn=hung)
    hung.release()
    champion = r.champion(store, "m")
    assert champion is not None
    assert champion.number == 1
    assert log(store) == [("promote", None, 1)]


def test_by_hand_on_an_empty_disk_the_champion_changes_in_turn_with_the_pods_of_the_cluster(
    selftrain: Callable[..., Any], store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Workspace(tmp_path).mlflow_database}")
    monkeypatch.setenv("SELFTRAIN_NAMESPACE", "selftrain")
    monkeypatch.setattr("selftrain.adapters.registry.turn.BY_HAND_S", 1.0)
    with served(tmp_path) as (api, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        of_run = KubernetesLease(CoordinationV1Api(api_client(None)), "selftrain", "champion-m", "run 7")
        with held(of_run):
            refused = [selftrain(*command) for command in (PROMOTE, ROLLBACK)]
            assert [ended.code for ended in refused] == [1, 1]
            assert all("run 7 is at it since" in ended.err for ended in refused)
        assert log(store) == []
        for number in ("1", "2"):
            assert selftrain(*PROMOTE, number).code == 0
        assert selftrain(*ROLLBACK).out.startswith("m: champion 1")
        assert [path for path in api.objects if "leases" in path] == []
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
        unknown = selftrain(*ROLLBACK)
    assert unknown.code == 1
    assert "set KUBECONFIG, or do it in a pod" in unknown.err
    assert log(store) == [("promote", None, 1), ("promote", 1, 2), ("rollback", 2, 1)]


def test_a_rollback_in_a_turn_that_is_held_already_does_not_wait_for_itself(store: Tracking) -> None:
    for number, over in ((1, None), (2, 1)):
        allow(store, number, over=over)
        p.promote(store, "m", number, who="ada")
    with champions_turn(store, "m", who="ada") as mine:
        assert p.rollback(store, "m", who="ada", turn=mine).number == 1
