"""Clusters of a map's points, and what each of them is made of: its classes, kinds and artefacts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from skinsynth.embedding.layout import EmbeddingConfig
from skinsynth.embedding.points import KINDS, Points

NO_CLUSTER = 0


def find_clusters(reduced: Float[np.ndarray, "n k"], config: EmbeddingConfig) -> Int64[np.ndarray, " n"]:
    """Number of each point's cluster, 1 for the largest; 0 for a point in none (HDBSCAN, Campello et al. 2013).

    Sought among principal components, not on the map: t-SNE evens densities out and tears what is continuous apart,
    so that clusters of its coordinates may be its own work.
    """
    from sklearn.cluster import HDBSCAN  # 1 s to import, and tests of other parts need none of it

    if len(reduced) < config.min_cluster_size or len(reduced) <= config.cluster_samples:
        raise ValueError(
            f"clusters of {config.min_cluster_size} points or more with {config.cluster_samples} cluster_samples are "
            f"asked for, but there are {len(reduced)} points: lower these or show more images"
        )
    search = HDBSCAN(min_cluster_size=config.min_cluster_size, min_samples=config.cluster_samples, copy=True)
    found = search.fit_predict(reduced)
    sizes = np.bincount(found[found >= 0])
    number_of = np.zeros(len(sizes) + 1, np.int64)
    number_of[(-sizes).argsort(kind="stable")] = np.arange(1, len(sizes) + 1)
    return number_of[found]  # -1, in none, is the last: 0


def cluster_rows(
    points: Points, clusters: Int64[np.ndarray, " n"], flags: pd.DataFrame, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """What each cluster is made of, the largest first, and last the points in none.

    A row of `flags` ("1", "0", or "" where unknown) stands for each point. A flag's share is that among the real
    images of the cluster of which it is known, empty where there is none, beside that among all real images shown, and
    beside what the classes of the cluster's real images let expect: a cluster of malignant lesions has their artefacts.
    """
    kinds, real = np.array(points.kinds), np.array(points.kinds) == "real"
    numbers = [number for number in np.unique(clusters).tolist() if number != NO_CLUSTER]
    rows = []
    for number in [*numbers, *([NO_CLUSTER] if (clusters == NO_CLUSTER).any() else [])]:
        within = clusters == number
        row: dict[str, Any] = {"cluster": number or "", "size": int(within.sum())}
        row |= {f"share_{name}": float((points.labels[within] == label).mean()) for label, name in enumerate(classes)}
        row |= {f"share_{kind}": float((kinds[within] == kind).mean()) for kind in KINDS}
        row["real_images"] = int((within & real).sum())
        for flag in flags:
            known = real & (flags[flag] != "").to_numpy()
            is_set = (flags[flag] == "1").to_numpy()
            row[f"share_{flag}"] = _share(is_set[within & known])
            row[f"share_{flag}_of_all"] = _share(is_set[known])
            by_class = np.array([_share(is_set[known & (points.labels == label)]) for label in range(len(classes))])
            row[f"share_{flag}_expected"] = _share(by_class[points.labels[within & known]])
        rows.append(row)
    return rows


def _share(values: np.ndarray) -> float:
    """Their mean, nan of none."""
    return float(values.mean()) if len(values) else float("nan")
