"""The templates of pages, and how they are filled in."""

from collections.abc import Callable, Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined

from spinbench.report.pages.document import Document


def fill_in(
    name: str, document: Document, filters: Mapping[str, Callable[..., str]], escapes: bool, **more: str
) -> str:
    """The page that the template `name` makes of a document and `more` texts.

    With `escapes`, values are escaped as in HTML, save those that are Markup.
    """
    environment = Environment(
        loader=PackageLoader("spinbench.report"),
        autoescape=escapes,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(filters)
    return environment.get_template(name).render(document=document, **more)
