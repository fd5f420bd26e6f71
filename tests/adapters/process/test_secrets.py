"""Secrets behind references: found where they are, and never quoted."""

from pathlib import Path

import pytest

from selftrain.adapters.process.secrets import resolve
from selftrain.errors import ConfigError


def test_a_secret_is_read_from_the_environment_and_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "one")
    (tmp_path / "key").write_text("two\n")
    assert (resolve("env:HOOK"), resolve(f"file:{tmp_path}/key")) == ("one", "two")


@pytest.mark.parametrize("reference", ["env:NO_SUCH_SECRET", "file:/no/such/secret", "file:/"])
def test_the_error_names_the_reference(reference: str) -> None:
    with pytest.raises(ConfigError, match=reference):
        resolve(reference)


def test_a_secret_that_was_given_in_place_of_a_reference_is_not_quoted() -> None:
    with pytest.raises(ConfigError) as error:
        resolve("s3cr3t")
    assert "s3cr3t" not in str(error.value)


def test_a_file_that_is_not_text_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfesecret")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        resolve(f"file:{tmp_path}/key")
