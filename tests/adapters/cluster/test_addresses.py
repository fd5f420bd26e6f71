"""Addresses: what is wrong with an option is said in one line, and a key never stands in it."""

from typing import Any

import pytest

from selftrain.adapters.cluster.addresses import Site, addresses_of
from selftrain.adapters.cluster.components import components_of
from selftrain.adapters.cluster.pods import environment
from selftrain.adapters.snapshots.repository import CACHE_VARIABLE, REMOTE_VARIABLE
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
        ("s3_region", "EU Central", "--s3-region: 'EU Central' is not a region; give its name alone, such as eu"),
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


def test_a_cache_that_all_pods_share_is_mounted_where_dvc_is_told_to_look_for_it() -> None:
    orchestrator = components_of(addresses_of(Site.KUBERNETES, cache_claim="dvc-cache"))[0].configuration
    for kind in ("pod_settings", "orchestrator_pod_settings"):
        settings = orchestrator[kind]
        assert isinstance(settings, dict)
        (name,) = (each["name"] for each in settings["volumes"] if _claim_of(each) == "dvc-cache")
        (path,) = (each["mountPath"] for each in settings["volume_mounts"] if each["name"] == name)
        assert {"name": CACHE_VARIABLE, "value": path} in settings["env"]
    alone = components_of(addresses_of(Site.KUBERNETES))[0].configuration
    assert CACHE_VARIABLE not in str(alone)
    assert REMOTE_VARIABLE in str(alone)


def _claim_of(volume: dict[str, dict[str, str]]) -> str:
    return volume.get("persistentVolumeClaim", {}).get("claimName", "")


def test_with_compose_the_steps_run_here() -> None:
    assert [part.flavor for part in components_of(addresses_of(Site.COMPOSE))] == ["local", "s3"]


def test_the_region_of_a_bucket_reaches_zenmls_store_and_each_pod() -> None:
    orchestrator, store, *_ = components_of(addresses_of(Site.KUBERNETES, s3_region="eu-central-1"))
    assert store.configuration["client_kwargs"] == {
        "endpoint_url": "http://store.selftrain.svc:9000",
        "region_name": "eu-central-1",
    }
    for kind in ("pod_settings", "orchestrator_pod_settings"):
        pod: Any = orchestrator.configuration[kind]
        variables = {each["name"]: each.get("value") for each in pod["env"]}
        assert (variables["AWS_DEFAULT_REGION"], variables["AWS_REGION"]) == ("eu-central-1", "eu-central-1")


def test_without_a_region_the_pods_have_one_and_the_store_takes_that_of_its_client() -> None:
    addresses = addresses_of(Site.KUBERNETES)
    variables: list[Any] = environment(addresses)
    assert {each["name"]: each.get("value") for each in variables}["AWS_REGION"] == "us-east-1"
    assert components_of(addresses)[1].configuration["client_kwargs"] == {"endpoint_url": addresses.s3_endpoint}
