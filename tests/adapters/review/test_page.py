"""The review page over HTTP: who gets in, what an answer does to the log, and what a kill or a second person loses."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pytest

from selftrain.data.label_log import NONE_OF_THEM, read_log, standing
from selftrain.data.manifest import Split
from tests.adapters.review.served import Page
from tests.adapters.review.small_set import CLASSES, MARKUP, POOL, run_again


def log(folder: Path) -> pa.Table:
    return read_log(folder / "store")


def test_only_those_with_the_token_get_in_and_only_under_our_own_name(page: Page) -> None:
    assert page.ask("GET", page.path)[0] == 200
    for path in ("/", f"/{'x' * len(page.token)}/", f"/{page.token[:-1]}/queue", "/queue"):
        assert page.ask("GET", path)[0] == 403, path
    assert page.ask("GET", page.path, Host="evil.example")[0] == 403
    assert page.ask("GET", page.path, Host=f"evil.example:{urlsplit(page.address).port}")[0] == 403


def test_only_the_page_itself_can_write(page: Page, tmp_path: Path) -> None:
    body = json.dumps({"images": page.ids()[:1], "label": "cat", "who": "anna", "since": 0})
    json_type, token = {"Content_Type": "application/json"}, {"X_Review_Token": page.token}
    for headers, status in (
        (json_type, 403),
        ({**json_type, "X_Review_Token": "x"}, 403),
        ({**token, "Content_Type": "text/plain"}, 415),
        ({**token, **json_type, "Origin": "http://evil.example"}, 403),
    ):
        assert page.ask("POST", f"{page.path}answer", body, **headers)[0] == status
    assert page.ask("POST", f"{page.path}answer", "x" * 2_000_000, **json_type, **token)[0] == 413
    for broken in ("[1", body.replace('"since": 0', '"since": Infinity'), "[" * 100_000):
        assert page.ask("POST", f"{page.path}answer", broken, **json_type, **token)[0] == 400
    assert page.ask("GET", f"{page.path}news?since={'9' * 5000}")[0] == 200
    assert page.ask("POST", f"{page.path}answer", body.replace("cat", "cow"), **json_type, **token)[0] == 409
    assert log(tmp_path).num_rows == 0


def test_the_page_is_ours_alone_and_names_that_are_markup_stay_text(page: Page) -> None:
    _, headers, body = page.ask("GET", page.path)
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    assert MARKUP not in body.decode()
    assert b"&lt;img src=x" in body
    script = page.ask("GET", f"{page.path}page.js")[2].decode()
    assert not any(word in script for word in ("innerHTML", "insertAdjacentHTML", "document.write", "eval("))
    queue = page.queue()
    assert MARKUP in queue["classes"]
    assert any(MARKUP in each["path"] for each in queue["questions"])


def test_an_image_is_shown_as_a_picture_that_we_made(page: Page) -> None:
    status, headers, body = page.ask("GET", f"{page.path}image/{page.ids()[0]}?size=large")
    assert (status, headers["content-type"], body[8:12]) == (200, "image/webp", b"WEBP")
    assert page.ask("GET", f"{page.path}image/{'0' * 64}")[0] == 404


def test_an_answer_is_in_the_log_at_once_with_who_and_what_was_shown(page: Page, tmp_path: Path) -> None:
    first, second = page.queue()["questions"][:2]
    page.post("answer", [first["image_id"]], "cat")
    page.post("answer", [second["image_id"]], NONE_OF_THEM, who="ben")
    lines = log(tmp_path).to_pylist()
    assert [(each["image_id"], each["label"], each["who"], each["settles"]) for each in lines] == [
        (first["image_id"], "cat", "anna", False),
        (second["image_id"], None, "ben", True),
    ]
    assert [each["shown"] for each in lines] == [first["shown"], second["shown"]]
    page.post("answer", [first["image_id"]], "cat")
    assert log(tmp_path).num_rows == 2, "what was sent twice is written once"


def test_the_next_run_uses_answers_as_labels_and_leaves_out_what_is_none_of_the_classes(
    page: Page, tmp_path: Path
) -> None:
    labelled, none, undone, *_ = page.ids()
    page.post("answer", [labelled], "dog")
    page.post("answer", [none], NONE_OF_THEM)
    page.post("answer", [undone], "dog")
    page.post("undo", [undone], "dog")
    page.post("answer", [undone], "cat")
    manifest = run_again(tmp_path)
    rows = {each["image_id"]: each for each in manifest.table.select(["image_id", "split", "label"]).to_pylist()}
    names = manifest.label_map.names
    assert (rows[labelled]["split"], names[rows[labelled]["label"]]) == ("train", "dog")
    assert (rows[undone]["split"], names[rows[undone]["label"]]) == ("train", "cat")
    assert none not in rows
    assert len(manifest.rows(Split.UNLABELED)) == POOL - 3


def test_a_person_who_answers_again_corrects_herself_and_another_person_disagrees(page: Page, tmp_path: Path) -> None:
    image = page.ids()[0]
    page.post("answer", [image], "cat")
    page.post("answer", [image], "dog")
    assert standing(log(tmp_path)).agreed == {image: "dog"}
    news = page.post("answer", [image], "cat", who="ben")
    assert news[-1]["label"] == "cat"
    assert standing(log(tmp_path)).disputed == {image: ("dog", "cat")}
    page.post("undo", [image], "cat", who="ben")
    assert standing(log(tmp_path)).agreed == {image: "dog"}, "an undo takes back nobody else's label"


def test_two_people_at_once_lose_nothing(start: Callable[[], Page], tmp_path: Path) -> None:
    """Two servers over one data set, each with two people, all at the same time."""
    pages = [start(), start()]
    ids = pages[0].ids()

    def work(person: int) -> None:
        for image in ids[person::4]:
            pages[person % 2].post("answer", [image], CLASSES[person % 3], who=f"person {person}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    said = {each["image_id"]: (each["label"], each["who"]) for each in log(tmp_path).to_pylist()}
    assert log(tmp_path).num_rows == len(ids)
    assert said == {each: (CLASSES[row % 4 % 3], f"person {row % 4}") for row, each in enumerate(ids)}
    for page in pages:
        assert all(each["answer"] is not None for each in page.queue()["questions"]), "each sees what the others said"


def test_a_killed_server_loses_no_answer_and_the_next_one_goes_on(start: Callable[[], Page], tmp_path: Path) -> None:
    page = start()
    ids = page.ids()
    for image in ids[:7]:
        page.post("answer", [image], "cat")
    page.process.send_signal(signal.SIGKILL)
    page.process.wait()
    again = start()
    assert log(tmp_path)["image_id"].to_pylist() == ids[:7]
    assert again.ids() == ids[7:]
    again.process.send_signal(signal.SIGINT)
    assert again.process.wait(timeout=20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_stop_returns_so_that_what_follows_is_done(page: Page, number: signal.Signals) -> None:
    page.process.send_signal(number)
    assert page.process.wait(timeout=20) == 0
    assert page.process.stdout is not None
    assert page.process.stdout.read().strip() == "ended"


def test_many_images_are_answered_at_once_or_not_at_all(page: Page, tmp_path: Path) -> None:
    ids = page.ids()
    page.post("answer", ids[:20], MARKUP)
    assert len(standing(log(tmp_path)).agreed) == 20
    body = json.dumps({"images": [*ids[20:22], "0" * 64], "label": "cat", "who": "anna", "since": 0})
    headers = {"Content_Type": "application/json", "X_Review_Token": page.token}
    assert page.ask("POST", f"{page.path}answer", body, **headers)[0] == 409
    assert len(standing(log(tmp_path)).agreed) == 20
