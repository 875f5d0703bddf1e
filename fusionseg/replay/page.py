"""One self-contained HTML file: tables and templates, everything escaped, nothing fetched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fusionseg.files import atomic_write
from fusionseg.replay import charts

NONE = "-"
TIGHT = "\u00a0"
"""Between a value and its unit, where no line may end."""


@dataclass(frozen=True)
class Cell:
    """A value of a table with something to see beside the text.

    Attributes:
        text: what is written.
        shade: strength of its background, in [0, 1].
        bar: length of a bar below it, in [0, 1], or None for no bar.
        span: low end, value and high end of an interval, in [0, 1] with 0.5 for no change, or None for no drawing.
        strong: it stands out (bold, framed).
    """

    text: str
    shade: float = 0.0
    bar: float | None = None
    span: tuple[float, float, float] | None = None
    strong: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text and cells; the first of each row names it.

    Attributes:
        caption: what the table says.
        head: names of the columns.
        rows: as long as ``head`` each.
        narrow: write the names of the columns upwards.
        frames: the rows are named by frames, which lead to their pictures.
        links: name of a row -> file beside the page that it leads to.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    narrow: bool = False
    frames: bool = False
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fact:
    """A figure of the summary: its name, its value, and what it means or depends on."""

    name: str
    value: str
    note: str = ""


def write_page(path: Path, template: str, **values: Any) -> None:
    """Write a page of ``templates/``; a value that it needs and does not get is an error."""
    folder = Path(__file__).parent / "templates"
    pages = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.globals["charts"] = charts
    text = pages.get_template(template).render(**values)
    with atomic_write(path) as file:
        file.write(text.encode())


def percent(value: float | None) -> str:
    """A share as ``81.2 %``; a dash where there is none."""
    return NONE if value is None or value != value else f"{100 * value:.1f}{TIGHT}%"


def points(value: float | None) -> str:
    """A difference of shares in percentage points, as ``+1.4``; a dash where there is none."""
    return NONE if value is None or value != value else f"{100 * value:+.1f}"


def milliseconds(value: float | None) -> str:
    """``12.3 ms``, ``145 ms``; a dash where there is none."""
    if value is None or value != value:
        return NONE
    return f"{value:.{0 if value >= 100 else 1}f}{TIGHT}ms"
