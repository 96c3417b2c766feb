"""A page for who decides: what it is about, tables of answers, what a person has to fill in, and what nobody asked."""

from collections.abc import Sequence
from typing import NamedTuple

from tabulate import tabulate


class Part(NamedTuple):
    """A heading, a sentence under it (or none), and a table or a list."""

    heading: str
    lead: str
    headers: Sequence[str]  # none: the rows are entries of a list
    rows: Sequence[Sequence[str]]


def checklist(title: str, summary: str, parts: Sequence[Part]) -> str:
    """The page in Markdown, with the summary in bold on top."""
    return "\n".join([f"# {title}\n", f"**{summary}**\n", *map(_rendered, parts)])


def _rendered(part: Part) -> str:
    rows = [[_cell(text) for text in row] for row in part.rows]
    # Else tabulate reads a cell of digits as a number and prints it its own way.
    table = tabulate(rows, part.headers, tablefmt="github", disable_numparse=True)
    body = table if part.headers else "\n".join(f"- {' '.join(row)}" for row in rows)
    return "\n\n".join(filter(None, [f"## {part.heading}", part.lead, body])) + "\n"


def _cell(text: str) -> str:
    """The text in one line, without what ends a cell."""
    return " ".join(text.split()).replace("|", "\\|")
