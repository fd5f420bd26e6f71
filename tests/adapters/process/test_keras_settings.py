"""Which backend Keras is told to use, and what is said where that cannot work."""

from pathlib import Path

import pytest

from selftrain.adapters.process.keras_settings import backend_of, check_backend
from selftrain.errors import ConfigError


def home(folder: Path, text: str) -> dict[str, str]:
    (folder / "keras.json").write_text(text)
    return {"KERAS_HOME": str(folder)}


def test_an_unknown_backend_is_refused_with_the_file_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="theano") as raised:
        check_backend(home(tmp_path, '{"backend": "theano", "image_data_format": "channels_first"}'))
    assert str(tmp_path / "keras.json") in raised.value.message
    assert "\n" not in raised.value.message
    assert raised.value.exit_code == 2


def test_an_unknown_backend_in_the_environment_is_refused_by_the_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^KERAS_BACKEND sets Keras's backend to 'mxnet'"):
        check_backend(home(tmp_path, "{}") | {"KERAS_BACKEND": "mxnet"})


def test_a_backend_that_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="'jax', which is not installed"):
        check_backend(home(tmp_path, '{"backend": "jax"}'))


@pytest.mark.parametrize("text", ["{}", "not JSON", "[]", '{"image_data_format": "channels_first"}'])
def test_a_file_that_names_no_backend_means_tensorflow(tmp_path: Path, text: str) -> None:
    environment = home(tmp_path, text)
    assert backend_of(environment)[0] == "tensorflow"
    check_backend(environment)


def test_the_variable_goes_before_the_file(tmp_path: Path) -> None:
    check_backend(home(tmp_path, '{"backend": "theano"}') | {"KERAS_BACKEND": "tensorflow"})
