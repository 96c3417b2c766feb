"""Figures as files whose bytes depend on the figure alone."""

from pathlib import Path

from matplotlib.figure import Figure

from skinsynth.files import written_whole


def save_figure(path: Path, figure: Figure, dpi: float = 110) -> None:
    """A PNG, whole or not there; the same bytes for the same figure: no date, no version."""
    with written_whole(path) as aside:
        figure.savefig(aside, dpi=dpi, format="png", metadata={"Software": None})
