"""Maps of images in a classifier's eyes: a page to turn and colour them, and a figure that stays still.

Both take the table of points (columns panel, image_id, kind, class, probability, case, x, y, z, cluster, neighbour_id,
neighbour_kind, neighbour_distance and flags of "1", "0" or "") and show points only, never an image.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from skinsynth.files import written_whole
from skinsynth.report.png import save_figure

# Okabe and Ito's colours, which colour-blind readers tell apart; further classes, clusters and flags take turns.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
PALE, GREY = "#d4d4d4", "#9a9a9a"
# Plotly's and matplotlib's marks: full for what is real, else hollow. Plotly's x and + want fonts that not all have.
KINDS = {"real": ("circle", "o"), "projected": ("diamond-open", "D"), "synthetic": ("square-open", "x")}
CASES = {"edge": ("circle-open", "o"), "misclassified": ("square-open", "s"), "central": ("diamond-open", "D")}
FLAG_VALUES = {"1": "with", "0": "without", "": "unknown"}
NO_CLUSTER = "no cluster"
HELP = (
    "Drag to turn, scroll to come near, click on the legend to hide or show (edge, misclassified and central cases "
    "too). Neighbours are near each other; how far apart groups lie means nothing in t-SNE."
)
# Browsers fetch nothing for this page, whatever plotly might ask for.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>Real, projected and synthetic images in a classifier's eyes</title>
<style>html, body, body > div {{margin: 0; height: 100%}}</style>
</head>
<body>
{figure}
</body>
</html>
"""


def write_interactive(
    path: Path, points: pd.DataFrame, classes: Sequence[str], flags: Sequence[str], titles: Mapping[str, str]
) -> None:
    """One page without anything from elsewhere: `titles` by panel, a menu of colours (class, cluster, each flag)."""
    # Half a second to import, and the other stages that draw need none of it.
    from plotly.graph_objects import Figure as Interactive

    panels = list(titles)
    traces: list[dict[str, Any]] = []
    span_of: dict[str, range] = {}
    for column in ("class", "cluster", *flags):
        start = len(traces)
        traces += _coloured(points, panels, column, classes, flags)
        span_of[f"colour by {column.replace('_', ' ')}"] = range(start, len(traces))
    coloured = len(traces)
    traces += _cases(points, panels, flags)
    buttons = [_button(name, span, coloured) for name, span in span_of.items()]
    figure = Interactive(traces, _layout(panels, titles, buttons))
    options = {"displaylogo": False, "responsive": True}
    # A fixed id, since plotly would draw one at random: the same bytes for the same points.
    html = figure.to_html(
        config=options, include_plotlyjs=True, full_html=False, div_id="embedding", default_height="100%", validate=True
    )
    with written_whole(path) as aside:
        aside.write_text(PAGE.format(policy=POLICY, figure=html), encoding="utf-8")


def _coloured(
    points: pd.DataFrame, panels: Sequence[str], column: str, classes: Sequence[str], flags: Sequence[str]
) -> list[dict[str, Any]]:
    """One trace for each panel, kind of image and value of the column; a value has one entry in the legend."""
    traces = []
    named = _named_values(points, column)
    for name, colour in _colour_of(named, column, classes).items():
        for kind, (symbol, _) in KINDS.items():
            chosen = points[(named == name) & (points["kind"] == kind)]
            first = True
            for place, panel in enumerate(panels):
                here = chosen[chosen["panel"] == panel]
                if here.empty:
                    continue
                marker = {"symbol": symbol, "size": 4, "color": colour, "opacity": 0.85}
                about = {"name": f"{name}, {kind}", "legendgroup": f"{column} {name} {kind}", "showlegend": first}
                traces.append({**_trace(here, place, marker, flags), **about, "visible": column == "class"})
                first = False
    return traces


def _cases(points: pd.DataFrame, panels: Sequence[str], flags: Sequence[str]) -> list[dict[str, Any]]:
    """A hollow mark around each case, whatever the colours; edge cases are marked from the start."""
    traces = []
    for case, (symbol, _) in CASES.items():
        first = True
        for place, panel in enumerate(panels):
            here = points[(points["panel"] == panel) & (points["case"] == case)]
            if here.empty:
                continue
            marker = {"symbol": symbol, "size": 9, "color": "#000000"}
            about = {"name": f"{case} case", "legendgroup": case, "showlegend": first, "hoverinfo": "skip"}
            visible = True if case == "edge" else "legendonly"
            traces.append({**_trace(here, place, marker, flags), **about, "text": None, "visible": visible})
            first = False
    return traces


def _trace(points: pd.DataFrame, place: int, marker: dict[str, Any], flags: Sequence[str]) -> dict[str, Any]:
    """Points of one look in the scene at `place`; coordinates to a hundredth, which no eye misses."""
    return {
        "type": "scatter3d",
        "mode": "markers",
        "scene": f"scene{place + 1 if place else ''}",
        **{axis: points[axis].round(2).tolist() for axis in "xyz"},
        "marker": marker,
        "text": [_hover(row, flags) for row in points.to_dict("records")],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _hover(row: Mapping[Any, Any], flags: Sequence[str]) -> str:
    """What is known of a point, in lines."""
    known = [flag for flag in flags if row[flag] != ""]
    artefacts = ", ".join(flag.replace("_", " ") for flag in known if row[flag] == "1") or "none"
    lines = [
        f"<b>{row['image_id']}</b> ({row['kind']}, {row['class']})",
        f"probability of the positive class {row['probability']:.2f}"
        + (f", {row['case']} case" if row["case"] else ""),
        f"cluster {row['cluster']}" if row["cluster"] != "" else NO_CLUSTER,
        f"artefacts: {artefacts if known else 'unknown'}",
        f"nearest: {row['neighbour_id']} ({row['neighbour_kind']}), cosine distance {row['neighbour_distance']:.3g}",
    ]
    return "<br>".join(lines)


def _named_values(points: pd.DataFrame, column: str) -> pd.Series:
    """What the legend calls each point."""
    if column == "class":
        return points["class"]
    if column == "cluster":
        # The clusters of one panel have nothing to do with those of another.
        numbers = points["panel"] + points["cluster"].astype(str)
        return numbers.where(points["cluster"].astype(str) != "", NO_CLUSTER)
    flag = column.replace("_", " ")
    return points[column].map(lambda value: f"{flag}: {FLAG_VALUES[value]}")


def _colour_of(named: pd.Series, column: str, classes: Sequence[str]) -> dict[str, str]:
    """The colour of each name, in the order of the legend."""
    if column == "class":
        return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(classes)}
    if column == "cluster":
        found = sorted(set(named) - {NO_CLUSTER}, key=lambda name: (name[0], int(name[1:])))
        numbered = {name: COLOURS[(int(name[1:]) - 1) % len(COLOURS)] for name in found}
        return {**numbered, **({NO_CLUSTER: PALE} if (named == NO_CLUSTER).any() else {})}
    flag = column.replace("_", " ")
    return {f"{flag}: with": COLOURS[1], f"{flag}: without": COLOURS[5], f"{flag}: unknown": PALE}


def _button(name: str, span: range, count: int) -> dict[str, Any]:
    """An entry of the menu: shows the traces of its span and leaves the cases as they are."""
    visible = [place in span for place in range(count)]
    return {"label": name, "method": "restyle", "args": [{"visible": visible}, list(range(count))]}


def _layout(panels: Sequence[str], titles: Mapping[str, str], buttons: list[dict[str, Any]]) -> dict[str, Any]:
    """Scenes side by side, titles over them, the menu and the legend to their right."""
    width = 0.84 / len(panels)
    hidden = {"showticklabels": False, "title": {"text": ""}, "showspikes": False, "backgroundcolor": "#f6f6f6"}
    scenes, notes = {}, [_note(HELP, 0.0, 0.0, "bottom", 12)]
    for place, panel in enumerate(panels):
        left = place * width
        scenes[f"scene{place + 1 if place else ''}"] = {
            "domain": {"x": [left, left + width - 0.01], "y": [0.04, 0.86]},
            "aspectmode": "cube",
            **{f"{axis}axis": hidden for axis in "xyz"},
        }
        notes.append(_note(titles[panel].replace("\n", "<br>"), left, 1.0, "top", 13))
    menu = {"buttons": buttons, "x": 0.85, "xanchor": "left", "y": 0.95, "yanchor": "top", "showactive": True}
    legend = {"x": 0.85, "y": 0.86, "itemsizing": "constant", "tracegroupgap": 0}
    margin = dict.fromkeys("lrtb", 10)
    return {**scenes, "annotations": notes, "updatemenus": [menu], "legend": legend, "margin": margin}


def _note(text: str, x: float, y: float, anchor: str, size: int) -> dict[str, Any]:
    where = {"x": x, "y": y, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": anchor}
    return {"text": text, **where, "showarrow": False, "align": "left", "font": {"size": size}}


def draw_maps(
    path: Path, points: pd.DataFrame, classes: Sequence[str], flags: Sequence[str], titles: Mapping[str, str]
) -> None:
    """A row for each panel, seen from where its points spread most: classes, what the classifier says, artefacts.

    The bytes are the same for the same points.
    """
    figure = Figure(figsize=(15, 4.6 * len(titles)), layout="constrained")
    rows = figure.subfigures(len(titles), 1, squeeze=False)[:, 0]
    for row, (panel, title) in zip(rows, titles.items(), strict=True):
        row.suptitle(title.replace("\n", " ", 1), fontsize=10)
        here = points[points["panel"] == panel]
        flat = _flattened(here[["x", "y", "z"]].to_numpy(np.float64))
        left, middle, right = row.subplots(1, 3)
        _by_class(left, here, flat, classes)
        _by_answer(middle, here, flat)
        _by_flag(right, here, flat, flags)
    save_figure(path, figure)


def _flattened(coordinates: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
    """Shadow on the plane of the two largest spreads: chosen by the points alone, whatever their classes."""
    centred = coordinates - coordinates.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    # An axis and its reverse are equally good: the larger entry looks up.
    turns = np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])
    return centred @ (axes * turns[:, None]).T


def _by_class(axes: Axes, points: pd.DataFrame, flat: np.ndarray, classes: Sequence[str]) -> None:
    colour_of = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(classes)}
    kinds = points["kind"].to_numpy()
    # Colours by point and not class by class, so that no class lies over another.
    colours = np.array([to_rgba(colour_of[name]) for name in points["class"]])
    _scatter(axes, kinds, flat, colours)
    coloured = [_sign("s", colour, name) for name, colour in colour_of.items()]
    shaped = [_sign(mark, GREY, kind, kind == "projected") for kind, (_, mark) in KINDS.items() if kind in kinds]
    _finish(axes, "class and kind of image", [*coloured, *shaped])


def _by_answer(axes: Axes, points: pd.DataFrame, flat: np.ndarray) -> None:
    """Draws points from blue at 0 to red at 1, the probability of the positive class, with the cases marked."""
    colours = matplotlib.colormaps["coolwarm"](points["probability"].to_numpy(np.float64))
    _scatter(axes, points["kind"].to_numpy(), flat, colours)
    signs = [_sign("s", matplotlib.colormaps["coolwarm"](value), f"probability {value:g}") for value in (0.0, 0.5, 1.0)]
    for case, (_, mark) in CASES.items():
        chosen = (points["case"] == case).to_numpy()
        width = 1.6 if case == "edge" else 0.8
        axes.scatter(
            flat[chosen, 0], flat[chosen, 1], marker=mark, s=90, facecolors="none", edgecolors="black", linewidths=width
        )
        signs.append(_sign(mark, "black", f"{case} case", hollow=True))
    _finish(axes, "what the classifier says, and cases", signs)


def _by_flag(axes: Axes, points: pd.DataFrame, flat: np.ndarray, flags: Sequence[str]) -> None:
    """Rings of one size for each artefact, nested where an image has several."""
    kinds = points["kind"].to_numpy()
    _scatter(axes, kinds, flat, np.array([to_rgba(GREY if kind == "real" else PALE) for kind in kinds]))
    signs = [_sign("o", GREY, "real image")]
    for place, flag in enumerate(flags):
        chosen, colour = (points[flag] == "1").to_numpy(), COLOURS[place % len(COLOURS)]
        axes.scatter(
            flat[chosen, 0], flat[chosen, 1], s=30 + 50 * place, facecolors="none", edgecolors=colour, linewidths=1.3
        )
        signs.append(_sign("o", colour, flag.replace("_", " "), hollow=True))
    for number in sorted(set(points["cluster"]) - {""}):
        x, y = np.median(flat[(points["cluster"] == number).to_numpy()], axis=0)
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.85, "linewidth": 0.5}
        axes.text(x, y, f"{number}", fontsize=9, ha="center", va="center", bbox=box)
    _finish(axes, "artefacts of real images, and numbers of clusters", signs)


def _scatter(axes: Axes, kinds: np.ndarray, flat: np.ndarray, colours: Float[np.ndarray, "n 4"]) -> None:
    """Each point under the mark of its kind: real ones last, since they are the fewer and the more important."""
    for kind in ("synthetic", "projected", "real"):
        chosen, mark = kinds == kind, KINDS[kind][1]
        if chosen.any():
            face = (
                {"facecolors": "none", "edgecolors": colours[chosen]} if kind == "projected" else {"c": colours[chosen]}
            )
            axes.scatter(flat[chosen, 0], flat[chosen, 1], marker=mark, s=18, alpha=0.8, linewidths=0.9, **face)


def _sign(mark: str, colour: Any, label: str, hollow: bool = False) -> Line2D:
    """An entry of a legend."""
    fill: Any = "none" if hollow else "full"
    return Line2D([], [], linestyle="none", marker=mark, color=colour, fillstyle=fill, label=label)


def _finish(axes: Axes, title: str, signs: list[Line2D]) -> None:
    """No ticks, for the axes of t-SNE have no meaning; the legend stands below."""
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(
        handles=signs, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, fontsize=8, columnspacing=1, frameon=False
    )
