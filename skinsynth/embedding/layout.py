"""Features in few dimensions: PCA first, then t-SNE in three.

Everything starts from features at unit length, of which Euclidean distances order pairs as cosine distances do: map,
clusters and nearest neighbours then speak of one geometry.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

from skinsynth.settings import AtLeast, Count, Seed

AXES = 3
EXAGGERATION = 12.0  # of the first attractive forces of t-SNE


@dataclass(frozen=True)
class EmbeddingConfig:
    pca_components: Count  # at most, before t-SNE and clusters
    perplexity: Annotated[float, AtLeast(1)]  # of t-SNE: about how many neighbours count for each point
    iterations: Annotated[int, AtLeast(250)]  # of t-SNE, which exaggerates its forces through the first 250
    # Nearest ones of a real point, among which synthetic ones are counted; one of a projection's may be its own
    # original, which says nothing of classes.
    neighbours: Annotated[int, AtLeast(2)]
    min_cluster_size: Annotated[int, AtLeast(2)]  # points
    cluster_samples: Count  # neighbours within reach that make a place dense: more leave more points in no cluster
    seed: Seed


def at_unit_length(features: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n dim"]:
    """Directions of the features; a point without any feature stays at the origin."""
    features = features.astype(np.float64)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1)


def reduce(features: Float[np.ndarray, "n dim"], config: EmbeddingConfig) -> Float[np.ndarray, "n k"]:
    """The largest principal components of the features at unit length."""
    from sklearn.decomposition import PCA  # 1 s to import, and tests of other parts need none of it

    count = min(config.pca_components, *features.shape)
    if count < AXES:
        raise ValueError(
            f"a map has {AXES} axes, but {len(features)} points with {features.shape[1]} features and "
            f"{config.pca_components} pca_components came: give at least {AXES} of each"
        )
    # The full decomposition draws nothing at random.
    return PCA(count, svd_solver="full").fit_transform(at_unit_length(features))


def lay_out(reduced: Float[np.ndarray, "n k"], config: EmbeddingConfig) -> Float[np.ndarray, "n 3"]:
    """Coordinates in three dimensions that keep neighbours together (van der Maaten and Hinton 2008; Barnes-Hut).

    Distances between far groups, and how dense these are, mean nothing in such a map.
    """
    from sklearn.manifold import TSNE  # 1 s to import, and tests of other parts need none of it
    from threadpoolctl import threadpool_limits

    if len(reduced) <= 3 * config.perplexity:
        raise ValueError(
            f"t-SNE at a perplexity of {config.perplexity:g} takes more than {3 * config.perplexity:g} points, but "
            f"{len(reduced)} came: lower perplexity or show more images"
        )
    tsne = TSNE(
        AXES,
        perplexity=config.perplexity,
        max_iter=config.iterations,
        # Points by exaggeration (Belkina et al. 2019) in scikit-learn's unit, without its floor of 50: below 2,400
        # points that floor throws points about (64 pairs: a divergence of 0.74 where 0.13 is found without it).
        learning_rate=len(reduced) / EXAGGERATION / 4,
        early_exaggeration=EXAGGERATION,
        init="pca",
        method="barnes_hut",
        random_state=config.seed,
    )
    # Threads add up forces in any order, and t-SNE makes another map of the last bit.
    with threadpool_limits(1):
        return tsne.fit_transform(reduced).astype(np.float64)
