"""Addresses: where a stack's servers are and whom its pods run as, as a frozen value that is checked once."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from selftrain.adapters.process.secrets import ALLOWED, resolve
from selftrain.errors import InputError

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?")
BUCKET = re.compile(r"[a-z0-9][-.a-z0-9]{1,61}[a-z0-9]")


class Site(StrEnum):
    """Where the steps of a stack run: in pods of a cluster, or on this machine beside the servers of compose."""

    KUBERNETES = "kubernetes"
    COMPOSE = "compose"


class Addresses(BaseModel):
    """What a stack is registered with. `workspace_claim` names a volume that the orchestrator's pods share over time.

    `cache_claim` names one for DVC's cache, which all pods share at once.

    `s3_region` is that of the bucket. Empty: a store of one's own has none, and each client takes its own default.

    Keys and passwords are references (`selftrain.adapters.process.secrets`), never values. Without them, each process
    takes its credentials from its own environment.
    """

    model_config = ConfigDict(frozen=True)

    site: Site
    name: str
    bucket: str
    s3_endpoint: str
    s3_region: str = ""
    mlflow: str
    registry: str = ""
    namespace: str = "selftrain"
    context: str = ""
    workspace_claim: str = ""
    cache_claim: str = ""
    s3_key: str | None = None
    s3_secret: str | None = None
    mlflow_user: str | None = None
    mlflow_password: str | None = None

    @field_validator("name", "namespace")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError(f"{value!r} is not a name; use up to 42 lower-case letters, digits and inner hyphens")
        return value

    @field_validator("bucket")
    @classmethod
    def _is_a_bucket(cls, value: str) -> str:
        if not BUCKET.fullmatch(value):
            raise ValueError(f"{value!r} is not a bucket; give its name alone, such as selftrain-data")
        return value

    @field_validator("s3_endpoint", "mlflow")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[^/\s@]+(/\S*)?", value):
            raise ValueError(f"{value!r} is not an address; give http://HOST:PORT or https://HOST, without a password")
        return value.rstrip("/")

    @field_validator("s3_region")
    @classmethod
    def _is_a_region(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", value):
            raise ValueError(f"{value!r} is not a region; give its name alone, such as eu-central-1")
        return value

    @field_validator("registry")
    @classmethod
    def _is_a_registry(cls, value: str) -> str:
        if "://" in value or "@" in value:
            raise ValueError(f"{value!r} is not a registry; give HOST:PORT or HOST/PATH, without http://")
        return value

    @field_validator("s3_key", "s3_secret", "mlflow_user", "mlflow_password")
    @classmethod
    def _is_a_reference(cls, value: str | None) -> str | None:
        if value is not None and value.partition(":")[0] not in ("env", "file", "zenml"):
            raise ValueError(f"a key or password is not a reference; allowed are {ALLOWED}")
        return value

    @model_validator(mode="after")
    def _credentials_come_in_pairs(self) -> Self:
        for one, other, what in (
            (self.s3_key, self.s3_secret, "--s3-key and --s3-secret"),
            (self.mlflow_user, self.mlflow_password, "--mlflow-user and --mlflow-password"),
        ):
            if (one is None) != (other is None):
                raise ValueError(f"{what} belong together; give both, or none of them")
        return self

    @property
    def artifacts(self) -> str:
        """Where ZenML keeps what steps return."""
        return f"s3://{self.bucket}/artifacts"

    @property
    def datasets(self) -> str:
        """The DVC remote."""
        return f"s3://{self.bucket}/dvc"

    @property
    def state(self) -> str:
        """What a nightly run needs of the night before: its journal, the intake and the label log."""
        return f"s3://{self.bucket}/state"

    @property
    def checkpoints(self) -> str:
        """Where interrupted trainings leave their checkpoints."""
        return f"s3://{self.bucket}/checkpoints"


DEFAULTS: dict[Site, dict[str, str]] = {
    Site.KUBERNETES: {
        "name": "selftrain",
        "bucket": "selftrain-data",
        "s3_endpoint": "http://store.selftrain.svc:9000",
        "mlflow": "http://mlflow.selftrain.svc:5000",
        "registry": "registry.selftrain.svc:5000",
    },
    Site.COMPOSE: {
        "name": "selftrain-compose",
        "bucket": "selftrain-data",
        "s3_endpoint": "http://127.0.0.1:9000",
        "mlflow": "http://127.0.0.1:5000",
    },
}


def addresses_of(site: Site, **given: str | None) -> Addresses:
    """The addresses of a stack at `site`: what was `given` (None: not), and the site's defaults.

    Raises InputError, which names the option and what it allows.
    """
    values = DEFAULTS[site] | {key: value for key, value in given.items() if value is not None}
    try:
        return Addresses.model_validate({"site": site, **values})
    except ValidationError as error:
        first = error.errors()[0]
        option = "".join(f"--{str(part).replace('_', '-')}: " for part in first["loc"])
        raise InputError(f"{option}{first['msg'].removeprefix('Value error, ')}") from None


def secret_values(references: dict[str, str | None]) -> dict[str, str]:
    """The values behind those `references` that ZenML does not hold itself. Raises SecretError."""
    return {
        key: resolve(reference)
        for key, reference in references.items()
        if reference is not None and not reference.startswith("zenml:")
    }
