"""A page of findings for who decides: the verdict on top, every question with its answer, then what nobody asked."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from tabulate import tabulate

HEADERS = ("verdict", "question", "found")


class Line(NamedTuple):
    """One row of a section's table."""

    section: str
    verdict: str
    question: str
    found: str
    bold: bool


def checklist(title: str, summary: str, guide: str, lines: Sequence[Line], beyond: Sequence[str]) -> str:
    """Markdown: a table for each section in the order of the lines, then a list of what they leave open; `guide` says
    where verdicts are explained."""
    parts = [f"# {title}\n", f"**{summary}** {guide}\n"]
    for section, own in groupby(lines, lambda line: line.section):
        cells = [[f"**{one.verdict}**" if one.bold else one.verdict, one.question, one.found] for one in own]
        # Else tabulate reads a cell of digits as a number and prints it its own way.
        parts.append(f"## {section}\n\n{tabulate(cells, HEADERS, tablefmt='github', disable_numparse=True)}\n")
    parts.append("## Not asked here\n\n" + "\n".join(f"- {entry}" for entry in beyond) + "\n")
    return "\n".join(parts)
