"""The same comparison for all classes together and for each by itself."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from skinsynth.quality.fidelity import FidelityConfig, FidelityScores, score_images

POOLED = "all"


class Labelled(NamedTuple):
    """Features of images and the classes of these."""

    features: Float[Tensor, "n dim"]
    labels: Int64[Tensor, " n"]

    def of(self, label: int) -> Float[Tensor, "m dim"]:
        """Features of one class."""
        return self.features[self.labels == label]


def score_by_class(
    real: Labelled,
    fake: Labelled,
    held_out: Labelled | None,
    classes: Sequence[str],
    config: FidelityConfig,
    seed: int,
    extractor: str,
) -> FidelityScores:
    """Pooled headlines, and rows with a column `class`: all, then each class of the fakes where there are several."""

    def score(name: str, real_side: Tensor, fake_side: Tensor, held_out_side: Tensor | None) -> FidelityScores:
        rng = torch.Generator().manual_seed(seed)
        scores = score_images(real_side, fake_side, config, rng, extractor, held_out_side)
        return FidelityScores(scores.headline, [{"class": name, **row} for row in scores.rows])

    pooled = score(POOLED, real.features, fake.features, held_out.features if held_out else None)
    rows = list(pooled.rows)
    labels = fake.labels.unique().tolist()
    for label in labels if len(labels) > 1 else []:
        rows += score(classes[label], real.of(label), fake.of(label), held_out.of(label) if held_out else None).rows
    return FidelityScores(pooled.headline, rows)
