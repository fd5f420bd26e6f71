"""Registration: a stack and its components in ZenML, made or changed until they are as the addresses say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from selftrain.adapters.cluster.addresses import Addresses, secret_values
from selftrain.adapters.cluster.components import LABEL, Component, Secret, components_of, secrets_of
from selftrain.adapters.process.console import logs_to_stderr
from selftrain.adapters.process.settings import prepare_process
from selftrain.errors import StackError

if TYPE_CHECKING:
    from zenml.models import ComponentResponse, SecretResponse, StackResponse


class Deed(BaseModel):
    """One thing that was registered: what it is, and whether it was made, changed, removed or left as it is."""

    model_config = ConfigDict(frozen=True)

    what: str
    name: str
    done: str
    detail: str = ""


NO_TRACKER = Deed(
    what="experiment_tracker",
    name="-",
    done="left out",
    detail="ZenML wants --mlflow-user and --mlflow-password; selftrain records its runs without it",
)


def register(addresses: Addresses) -> list[Deed]:
    """Register the stack of `addresses`; what is there already and right is left as it is.

    Raises SecretError for a reference that leads to nothing, StackError where a name belongs to something that
    selftrain did not register, or ZenML refuses.
    """
    parts = components_of(addresses)
    secrets = [(secret, secret_values(secret.references)) for secret in secrets_of(addresses)]
    with _zenml():
        _refuse_foreign(addresses.name, parts)
        deeds = [_put_secret(secret, values) for secret, values in secrets if values]
        deeds += [_put_component(part) for part in parts]
        deeds += [] if any(part.kind == "experiment_tracker" for part in parts) else [NO_TRACKER]
        return [*deeds, _put_stack(addresses.name, parts)]


def unregister(name: str) -> list[Deed]:
    """Remove the registration of the stack `name`: its secrets in ZenML, its components and itself, and nothing else.

    Servers, buckets, runs and pods stay. Raises StackError for an unknown stack, the active one, or one that
    selftrain did not register.
    """
    with _zenml():
        from zenml.client import Client

        client, stack = Client(), _stack(name)
        if stack.id == client.active_stack_model.id:
            raise StackError(f"{name!r} is the active stack; activate another first: zenml stack set default")
        ours = [part for parts in stack.components.values() for part in parts if is_ours(part)]
        if not ours:
            raise StackError(f"selftrain did not register the stack {name!r}; use `zenml stack delete {name}`")
        client.delete_stack(stack.id)
        deeds = [Deed(what="stack", name=name, done="removed")]
        for part in ours:
            client.delete_stack_component(part.id, part.type)
            deeds.append(Deed(what=part.type.value, name=part.name, done="removed"))
        return deeds + [_drop_secret(f"{name}-{of}") for of in ("s3", "mlflow") if _secret(f"{name}-{of}")]


def registered(name: str) -> list[Deed]:
    """The components of the stack `name`, with their flavours and addresses. Raises StackError."""
    with _zenml():
        stack = _stack(name)
        return [
            Deed(what=kind.value, name=part.name, done=part.flavor_name, detail=_address(part))
            for kind, parts in sorted(stack.components.items())
            for part in parts
        ]


def component_of(name: str, kind: str) -> ComponentResponse | None:
    """The component of `kind` of the stack `name`, with its configuration; None if it has none. Raises StackError."""
    with _zenml():
        parts = [part for of, found in _stack(name).components.items() if of.value == kind for part in found]
    return parts[0] if parts else None


def parts_of(name: str) -> tuple[dict[str, str], dict[str, dict[str, object]]]:
    """Flavour and configuration of each component of the stack `name`, by ZenML's name of its kind.

    Secrets stand in them as ZenML's placeholders. Raises StackError.
    """
    with _zenml():
        parts = {kind.value: found[0] for kind, found in _stack(name).components.items()}
    flavors = {kind: str(part.flavor_name) for kind, part in parts.items()}
    return flavors, {kind: dict(part.configuration) for kind, part in parts.items()}


def is_ours(part: ComponentResponse) -> bool:
    """Whether selftrain registered this component."""
    return LABEL.items() <= (part.labels or {}).items()


def _address(part: ComponentResponse) -> str:
    fields = ("path", "uri", "tracking_uri", "kubernetes_namespace")
    return ", ".join(str(part.configuration[each]) for each in fields if each in part.configuration)


def _put_secret(secret: Secret, values: dict[str, str]) -> Deed:
    from zenml.client import Client

    there, what = _secret(secret.name), "secret"
    if there is None:
        Client().create_secret(secret.name, values)
        return Deed(what=what, name=secret.name, done="made")
    if there.secret_values == values:
        return Deed(what=what, name=secret.name, done="unchanged")
    gone = sorted(there.secret_values.keys() - values.keys())
    Client().update_secret(there.id, add_or_update_values=values, remove_values=gone)
    return Deed(what=what, name=secret.name, done="changed", detail="new values")


def _put_component(part: Component) -> Deed:
    from zenml.client import Client
    from zenml.enums import StackComponentType

    client, kind = Client(), StackComponentType(part.kind)
    there = _component(part)
    if there is None:
        client.create_stack_component(part.name, part.flavor, kind, part.configuration, labels=LABEL)
        return Deed(what=part.kind, name=part.name, done="made", detail=part.flavor)
    differing = sorted(
        key
        for key in there.configuration.keys() | part.configuration.keys()
        if there.configuration.get(key) != part.configuration.get(key)
    )
    if not differing:
        return Deed(what=part.kind, name=part.name, done="unchanged")
    wanted = {key: part.configuration.get(key) for key in differing}  # None takes a key out
    client.update_stack_component(there.id, kind, configuration=wanted)
    return Deed(what=part.kind, name=part.name, done="changed", detail=", ".join(differing))


def _put_stack(name: str, parts: tuple[Component, ...]) -> Deed:
    from zenml.client import Client
    from zenml.enums import StackComponentType

    wanted = {StackComponentType(part.kind): part.name for part in parts}
    there = _stack_or_none(name)
    if there is None:
        Client().create_stack(name, wanted, labels=LABEL)
        return Deed(what="stack", name=name, done="made")
    if {kind: found[0].name for kind, found in there.components.items()} == wanted:
        return Deed(what="stack", name=name, done="unchanged")
    dropped: dict[StackComponentType, list[str]] = {kind: [] for kind in there.components.keys() - wanted.keys()}
    Client().update_stack(there.id, component_updates={**dropped, **{kind: [each] for kind, each in wanted.items()}})
    return Deed(what="stack", name=name, done="changed", detail="its components")


def _drop_secret(name: str) -> Deed:
    from zenml.client import Client

    Client().delete_secret(name)
    return Deed(what="secret", name=name, done="removed")


def _refuse_foreign(name: str, parts: tuple[Component, ...]) -> None:
    for part in parts:
        there = _component(part)
        if there is not None and (not is_ours(there) or there.flavor_name != part.flavor):
            raise StackError(
                f"ZenML has {part.kind} {part.name!r} of flavour {there.flavor_name}, not made by selftrain; "
                "give another --name, or remove it"
            )
    stack = _stack_or_none(name)
    if stack is not None and not LABEL.items() <= (stack.labels or {}).items():
        raise StackError(f"ZenML has a stack {name!r} that selftrain did not register; give another --name")


def _component(part: Component) -> ComponentResponse | None:
    from zenml.client import Client
    from zenml.enums import StackComponentType

    kind = StackComponentType(part.kind)
    found = Client().list_stack_components(name=part.name, type=kind.value, hydrate=True).items
    return found[0] if found else None


def _secret(name: str) -> SecretResponse | None:
    from zenml.client import Client

    try:
        return Client().get_secret(name, allow_partial_name_match=False)
    except KeyError:
        return None


def _stack(name: str) -> StackResponse:
    from zenml.client import Client

    stack = _stack_or_none(name)
    if stack is None:
        names = ", ".join(sorted(each.name for each in Client().list_stacks().items))
        raise StackError(f"ZenML has no stack {name!r}; there are {names}; make one with `selftrain stack up`")
    return stack


def _stack_or_none(name: str) -> StackResponse | None:
    from zenml.client import Client

    found = Client().list_stacks(name=name, hydrate=True).items
    return found[0] if found else None


@contextmanager
def _zenml() -> Iterator[None]:
    """ZenML is ready in the block, and says what it refuses in one line."""
    prepare_process()
    logs_to_stderr()
    try:
        yield
    except StackError:
        raise
    except Exception as error:  # a dead server, no rights, a value refused: ZenML has an error for each
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise StackError(f"ZenML refused ({type(error).__name__}): {reason}; see `zenml status`") from error
