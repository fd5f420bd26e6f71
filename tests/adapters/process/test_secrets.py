import os
import subprocess
import sys
from pathlib import Path

import pytest

from selftrain.adapters.process.secrets import resolve
from selftrain.errors import SecretError


def refused(reference: str) -> str:
    with pytest.raises(SecretError) as caught:
        resolve(reference)
    return caught.value.message


def test_a_secret_is_read_from_the_environment_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INBOX_KEY", "one")
    assert resolve("env:INBOX_KEY") == "one"
    monkeypatch.setenv("INBOX_KEY", "two")
    assert resolve("env:INBOX_KEY") == "two"


def test_a_secret_in_a_file_ends_before_its_last_line_break(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(" k3y \n")
    assert resolve(f"file:{tmp_path / 'key'}") == " k3y "


def test_a_secret_that_is_missing_is_named_by_its_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("INBOX_KEY", raising=False)
    assert "'env:INBOX_KEY' is not set; set INBOX_KEY" in refused("env:INBOX_KEY")
    assert "cannot be read (No such file or directory)" in refused(f"file:{tmp_path / 'none'}")


def test_an_empty_secret_and_one_that_is_not_text_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INBOX_KEY", "")
    assert "is empty" in refused("env:INBOX_KEY")
    (tmp_path / "key").write_bytes(b"\xff\xfe\x00")
    assert "it is not text" in refused(f"file:{tmp_path / 'key'}")


def test_a_value_given_for_a_reference_is_refused_and_not_repeated() -> None:
    said = refused("hunter2")
    assert "env:NAME, file:/absolute/path or zenml:SECRET.KEY" in said
    assert "hunter2" not in said


@pytest.mark.slow
@pytest.mark.pipeline
def test_a_secret_of_zenml_is_read_by_its_name_and_key(tmp_path: Path) -> None:
    code = """
from zenml.client import Client
from selftrain.adapters.process.secrets import resolve
from selftrain.errors import SecretError
Client().create_secret("inbox", {"key": "k3y"})
print(resolve("zenml:inbox.key"))
for reference in ("zenml:inbox.other", "zenml:nothing.key"):
    try:
        resolve(reference)
    except SecretError as error:
        print(error.message)
"""
    environment = {**os.environ, "ZENML_CONFIG_PATH": str(tmp_path / "zenml")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    value, no_key, no_secret = done.stdout.strip().splitlines()[-3:]
    assert value == "k3y"
    assert no_key == "the secret 'zenml:inbox.other' has no key 'other'; its keys are key"
    assert "'zenml:nothing.key' is not to be had from ZenML (KeyError)" in no_secret
