"""Nearest neighbours by cosine distance: of one's own class, one's own original, and how well two kinds mix."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from skinsynth.embedding.points import Points


def nearest_others(
    features: Float[np.ndarray, "n dim"], count: int
) -> tuple[Float64[np.ndarray, "n count"], Int64[np.ndarray, "n count"]]:
    """Cosine distances (0 to 2) to the nearest other points, the nearest first, and where these stand."""
    from sklearn.neighbors import NearestNeighbors  # 1 s to import, and tests of other parts need none of it

    if len(features) <= count:
        raise ValueError(
            f"{count} nearest neighbours are asked for, but there are {len(features)} points: lower neighbours or show "
            f"more images"
        )
    search = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(features.astype(np.float64))
    distances, places = search.kneighbors()
    return distances, places.astype(np.int64)


def same_class_share(points: Points, places: Int64[np.ndarray, "n count"]) -> tuple[float, float]:
    """Share of the points whose nearest neighbour is of their class, and the same for a neighbour drawn at random.

    One's own original or projection does not count: it is of the same class by construction. It takes two neighbours
    of each point to leave it out.
    """
    ids, numbers = np.unique(points.ids, return_inverse=True)
    own = numbers[places] == numbers[:, None]
    chosen = places[np.arange(len(places)), own.argmin(axis=1)]
    same = points.labels[chosen] == points.labels
    of_id, of_class = np.bincount(numbers, minlength=len(ids))[numbers], np.bincount(points.labels)[points.labels]
    expected = (of_class - of_id) / np.maximum(len(points.ids) - of_id, 1)
    return float(same.mean()), float(expected.mean())


def own_original_is_nearest(points: Points) -> Bool[np.ndarray, " k"]:
    """Whether each projected image has its own original as the nearest real image."""
    from sklearn.neighbors import NearestNeighbors  # as above

    real, projected = points.places("real"), points.places("projected")
    features = points.features.astype(np.float64)
    search = NearestNeighbors(n_neighbors=1, metric="cosine", algorithm="brute").fit(features[real])
    nearest = real[search.kneighbors(features[projected], return_distance=False)[:, 0]]
    return np.array(points.ids)[nearest] == np.array(points.ids)[projected]


def synthetic_share(points: Points, places: Int64[np.ndarray, "n count"]) -> tuple[float, float]:
    """Share of synthetic points among the neighbours of real ones, and what it is where the two mix perfectly.

    The second is their share among all other points; it holds whatever the classes where each class has as many
    synthetic points as real ones.
    """
    synthetic = np.array(points.kinds) == "synthetic"
    found = synthetic[places[points.places("real")]]
    return float(found.mean()), float(synthetic.sum() / (len(synthetic) - 1))
