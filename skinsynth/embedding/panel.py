"""One map of the figure: its points laid out, with their neighbours and clusters, as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64, Int64

from skinsynth.embedding.clusters import find_clusters
from skinsynth.embedding.layout import EmbeddingConfig, lay_out, reduce
from skinsynth.embedding.neighbours import nearest_others, own_original_is_nearest, same_class_share, synthetic_share
from skinsynth.embedding.points import Points


@dataclass(frozen=True)
class Panel:
    points: Points
    coordinates: Float[np.ndarray, "n 3"]
    clusters: Int64[np.ndarray, " n"]  # 0: in none
    distances: Float64[np.ndarray, "n k"]  # cosine, to the nearest others
    neighbours: Int64[np.ndarray, "n k"]  # where these stand


def embed(points: Points, config: EmbeddingConfig) -> Panel:
    """Map, clusters and neighbours of the points; the same for the same seed."""
    reduced = reduce(points.features, config)
    distances, places = nearest_others(points.features, config.neighbours)
    return Panel(points, lay_out(reduced, config), find_clusters(reduced, config), distances, places)


def point_rows(
    panel: Panel, cases: Sequence[str], flags: pd.DataFrame, classes: Sequence[str], positive: int
) -> list[dict[str, Any]]:
    """One row a point; of each one its case ("" where it is none) and its row of `flags` ("1", "0" or "")."""
    points, nearest = panel.points, panel.neighbours[:, 0].tolist()
    return [
        {
            "image_id": image_id,
            "kind": points.kinds[place],
            "class": classes[points.labels[place]],
            "probability": float(points.probabilities[place, positive]),
            "case": cases[place],
            **dict(zip("xyz", panel.coordinates[place].tolist(), strict=True)),
            "cluster": int(panel.clusters[place]) or "",
            "neighbour_id": points.ids[nearest[place]],
            "neighbour_kind": points.kinds[nearest[place]],
            "neighbour_distance": float(panel.distances[place, 0]),
            **{str(flag): flags[flag].iloc[place] for flag in flags},
        }
        for place, image_id in enumerate(points.ids)
    ]


def shares(panel: Panel) -> dict[str, float | int]:
    """What the panel says in numbers; of projections and of synthetic images only where there are any."""
    same, by_chance = same_class_share(panel.points, panel.neighbours)
    found: dict[str, float | int] = {
        "points": len(panel.points.ids),
        "clusters": int(panel.clusters.max()),
        "same_class": same,
        "same_class_by_chance": by_chance,
    }
    if len(panel.points.places("projected")):
        found["own_original_nearest"] = float(own_original_is_nearest(panel.points).mean())
    if len(panel.points.places("synthetic")):
        found["synthetic_near_real"], found["synthetic_near_real_expected"] = synthetic_share(
            panel.points, panel.neighbours
        )
    return found
