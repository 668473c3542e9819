"""Templates of the pages: one layout, one set of macros, a template for each kind of page."""

from __future__ import annotations

from importlib.resources import files
from typing import Any


def render(name: str, **values: Any) -> str:
    """Fill the template of a page.

    Args:
        name: File of the template in this package.
        **values: What it shows; text is escaped.

    Returns:
        The page.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files("pyrolvm.report")
    environment = Environment(
        loader=FunctionLoader(lambda file: folder.joinpath(file).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(values)
