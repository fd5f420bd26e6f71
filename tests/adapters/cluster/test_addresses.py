"""Addresses: what is wrong with an option is said in one line, and a key never stands in it."""

import pytest

from selftrain.adapters.cluster.addresses import Site, addresses_of
from selftrain.adapters.cluster.components import components_of
from selftrain.errors import InputError, SecretError


def test_without_options_a_stack_has_the_addresses_of_our_manifests() -> None:
    found = addresses_of(Site.KUBERNETES)
    assert (found.artifacts, found.datasets) == ("s3://selftrain-data/artifacts", "s3://selftrain-data/dvc")
    assert found.mlflow == "http://mlflow.selftrain.svc:5000"


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("name", "My Stack", "--name: 'My Stack' is not a name; use up to 42"),
        ("bucket", "s3://data", "--bucket: 's3://data' is not a bucket; give its name alone"),
        ("s3_endpoint", "minio:9000", "--s3-endpoint: 'minio:9000' is not an address; give http://HOST:PORT"),
        ("registry", "http://r:5000", "--registry: 'http://r:5000' is not a registry; give HOST:PORT"),
    ],
)
def test_a_wrong_option_is_named_with_what_it_allows(option: str, value: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        addresses_of(Site.KUBERNETES, **{option: value})
    assert said in raised.value.message
    assert "\n" not in raised.value.message


def test_a_key_in_place_of_a_reference_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError) as raised:
        addresses_of(Site.KUBERNETES, s3_key="AKIA123", s3_secret="env:SECRET")
    assert "a key or password is not a reference; allowed are env:NAME" in raised.value.message
    assert "AKIA123" not in raised.value.message


def test_a_password_in_an_address_is_refused() -> None:
    with pytest.raises(InputError, match="without a password"):
        addresses_of(Site.KUBERNETES, mlflow="http://me:word@mlflow:5000")


def test_half_of_a_pair_of_keys_is_refused() -> None:
    with pytest.raises(InputError, match="--s3-key and --s3-secret belong together"):
        addresses_of(Site.KUBERNETES, s3_key="env:KEY")


def test_a_reference_that_leads_to_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from selftrain.adapters.cluster.registration import register

    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(SecretError, match="'env:NO_KEY' is not set"):
        register(addresses_of(Site.COMPOSE, s3_key="env:NO_KEY", s3_secret="env:NO_KEY"))


def test_a_volume_that_outlives_pods_is_the_orchestrators_alone() -> None:
    orchestrator = components_of(addresses_of(Site.KUBERNETES, workspace_claim="keeps"))[0].configuration
    claim = {"name": "workspace", "persistentVolumeClaim": {"claimName": "keeps"}}
    settings = {key: orchestrator[key] for key in ("pod_settings", "orchestrator_pod_settings")}
    kept = {key: claim in value["volumes"] for key, value in settings.items() if isinstance(value, dict)}
    assert kept == {"pod_settings": False, "orchestrator_pod_settings": True}


def test_with_compose_the_steps_run_here() -> None:
    assert [part.flavor for part in components_of(addresses_of(Site.COMPOSE))] == ["local", "s3"]
