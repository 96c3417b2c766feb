"""The figures of maps: complete, the same twice, without anything from elsewhere."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skinsynth.report.embedding import CASES, COLOURS, HELP, draw_maps, write_interactive

CLASSES = ("nevus", "keratosis", "melanoma")
FLAGS = ("black_frame", "ruler")
TITLES = {"a": "(a) one\nsecond line", "b": "(b) other"}


@pytest.fixture(scope="module")
def points():
    """Sixty points of two panels, three classes and all kinds and cases."""
    rng = np.random.default_rng(0)
    real = np.tile([True, False], 30)
    table = pd.DataFrame(
        {
            "panel": np.repeat(["a", "b"], 30),
            "image_id": [f"id-{place:03d}" for place in range(60)],
            "kind": np.where(real, "real", np.repeat(["projected", "synthetic"], 30)),
            "class": np.tile(CLASSES, 20),
            "probability": rng.random(60),
            "case": np.tile(["edge", "", "central", "misclassified", "", ""], 10),
            **dict(zip("xyz", rng.normal(size=(3, 60)), strict=True)),
            "cluster": pd.Series(np.tile([1, 2, "", 3, 1], 12), dtype=object),
            "neighbour_id": ["id-000"] * 60,
            "neighbour_kind": ["real"] * 60,
            "neighbour_distance": rng.random(60),
        }
    )
    return table.assign(
        black_frame=np.where(real, rng.choice(["0", "1"], 60), ""), ruler=np.where(real, rng.choice(["0", "1"], 60), "")
    )


@pytest.fixture(scope="module")
def page(points, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "maps.html"
    write_interactive(path, points, CLASSES, FLAGS, TITLES)
    return path.read_text()


def parts(page):
    """The traces and the layout that the page hands to plotly."""
    decode = json.JSONDecoder().raw_decode
    rest = page[re.search(r'Plotly\.newPlot\(\s*"embedding",\s*', page).end() :]
    traces, end = decode(rest)
    layout, _ = decode(rest[end:].lstrip(", \n"))
    return traces, layout


def test_the_page_fetches_nothing(page):
    assert not re.search(r"<script[^>]*\ssrc=", page)
    assert not re.search(r"<link|<img|<iframe|@import", page.split("plotly.js v")[0])
    assert "default-src 'none'" in page
    assert page.count("<script") == page.count("</script>") > 0


def test_the_page_shows_every_point_once_for_each_choice_of_colours(page, points):
    traces, layout = parts(page)
    shown = [trace for trace in traces if trace["visible"] is True and not trace["name"].endswith("case")]
    assert sorted(re.search(r"id-\d+", text).group() for trace in shown for text in trace["text"]) == list(
        points["image_id"]
    )
    buttons = layout["updatemenus"][0]["buttons"]
    assert [button["label"] for button in buttons] == [
        f"colour by {name}" for name in ("class", "cluster", "black frame", "ruler")
    ]
    for button in buttons:
        visible, places = button["args"][0]["visible"], button["args"][1]
        chosen = [traces[place] for place, is_visible in zip(places, visible, strict=True) if is_visible]
        assert sum(len(trace["x"]) for trace in chosen) == len(points)


def test_cases_are_switched_apart_from_colours(page, points):
    traces, layout = parts(page)
    cases = {place for place, trace in enumerate(traces) if trace["name"].endswith("case")}
    assert all(not cases & set(button["args"][1]) for button in layout["updatemenus"][0]["buttons"])
    for case in CASES:
        marked = [trace for trace in traces if trace["name"] == f"{case} case"]
        assert sum(len(trace["x"]) for trace in marked) == (points["case"] == case).sum()
        assert {trace["visible"] for trace in marked} == {True if case == "edge" else "legendonly"}


def test_each_panel_has_its_scene_and_each_name_one_entry_in_the_legend(page, points):
    traces, layout = parts(page)
    assert {"scene", "scene2"} <= layout.keys()
    for scene, panel in (("scene", "a"), ("scene2", "b")):
        shown = [trace for trace in traces if trace["scene"] == scene and trace["visible"] is True and "text" in trace]
        assert sum(len(trace["x"]) for trace in shown) == (points["panel"] == panel).sum()
    entries = [trace["legendgroup"] for trace in traces if trace["showlegend"]]
    assert sorted(entries) == sorted({trace["legendgroup"] for trace in traces})


def test_colours_are_the_classes_and_marks_are_the_kinds(page):
    traces, _ = parts(page)
    by_name = {trace["name"]: trace["marker"] for trace in traces}
    assert [by_name[f"{name}, real"]["color"] for name in CLASSES] == list(COLOURS[:3])
    assert len({by_name[f"nevus, {kind}"]["symbol"] for kind in ("real", "projected", "synthetic")}) == 3


def test_what_a_point_tells_under_the_mouse(page, points):
    traces, layout = parts(page)
    text = next(text for trace in traces for text in trace.get("text") or [] if "id-001" in text)
    for words in ("projected", "keratosis", "artefacts: unknown", "nearest: id-000 (real)", "cluster 2"):
        assert words in text
    row = points.iloc[0]
    text = next(text for trace in traces for text in trace.get("text") or [] if "<b>id-000" in text)
    assert ("ruler" in text) == (row["ruler"] == "1")
    assert "edge case" in text
    told = {text for trace in traces for text in trace.get("text") or []}
    for row in points[points["kind"] == "real"].itertuples():
        (text,) = (text for text in told if f"<b>{row.image_id}<" in text)
        named = [flag.replace("_", " ") for flag in FLAGS if getattr(row, flag) == "1"]
        assert f"artefacts: {', '.join(named) or 'none'}<br>" in text
    assert HELP in [note["text"] for note in layout["annotations"]]


def test_names_cannot_smuggle_markup_into_the_page(points, tmp_path):
    named = points.assign(**{"class": points["class"].replace("nevus", "<script>alert(1)</script>")})
    write_interactive(tmp_path / "maps.html", named, ("<script>alert(1)</script>", *CLASSES[1:]), FLAGS, TITLES)
    assert "<script>alert" not in (tmp_path / "maps.html").read_text()


def test_both_figures_are_the_same_twice(points, page, tmp_path):
    write_interactive(tmp_path / "maps.html", points, CLASSES, FLAGS, TITLES)
    assert (tmp_path / "maps.html").read_text() == page
    for name in ("one.png", "other.png"):
        draw_maps(tmp_path / name, points, CLASSES, FLAGS, TITLES)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    with Image.open(tmp_path / "one.png") as figure:
        assert min(figure.size) > 800
        assert not figure.info.keys() & {"Software", "Creation Time"}


def test_one_panel_alone_is_drawn_too(points, tmp_path):
    alone = points[points["panel"] == "b"]
    draw_maps(tmp_path / "maps.png", alone, CLASSES, FLAGS, {"b": "alone"})
    write_interactive(tmp_path / "maps.html", alone, CLASSES, FLAGS, {"b": "alone"})
    traces, _ = parts((tmp_path / "maps.html").read_text())
    assert {trace["scene"] for trace in traces} == {"scene"}
    assert (tmp_path / "maps.png").stat().st_size > 1000
