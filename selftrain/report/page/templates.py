"""Templates: how a page becomes HTML; every text in it is escaped."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

HERE = Path(__file__).parent


def rendered(template: str, folder: Path = HERE, **values: object) -> str:
    """The page that `template` in `folder` makes of `values`, with the style of all reports as `css`."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=FileSystemLoader(folder, encoding="utf-8")
    )
    return environment.get_template(template).render(css=own_text("run.css"), **values)


def own_text(name: str) -> Markup:
    """One of our own files, which is not escaped."""
    return Markup((HERE / name).read_text(encoding="utf-8"))
