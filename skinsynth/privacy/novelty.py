"""Everything that distances say about how new a set of images is, beside the same for real images held out."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from skinsynth.privacy.authenticity import authenticity
from skinsynth.privacy.copying import copying_statistic
from skinsynth.privacy.distances import nearest, paired, summary

Row = dict[str, str | float | int]


def novelty_rows(
    train: Float[Tensor, "n dim"], held_out: Float[Tensor, "h dim"], fake: Float[Tensor, "m dim"]
) -> list[Row]:
    """One row a number, with `of` saying which images were asked and the count of each set; intervals where known.

    What held-out real images score is what the generated ones are read against: no number here says "private".
    """
    counts: Row = {"train_images": len(train), "held_out_images": len(held_out)}
    rows: list[Row] = []
    for name, images in {"generated": fake, "held-out real": held_out}.items():
        about: Row = {"of": name, "images": len(images), **counts}
        rows.append({"metric": "authenticity", **authenticity(train, images)._asdict(), **about})
        gap = float(nearest(images, train, "cosine")[0].median())
        rows.append({"metric": "median_cosine_to_train", "value": gap, "low": np.nan, "high": np.nan, **about})
    z = copying_statistic(train, held_out, fake)
    asked: Row = {"of": "generated", "images": len(fake), **counts}
    return [*rows, {"metric": "copying_statistic", "value": z, "low": np.nan, "high": np.nan, **asked}]


def distance_histogram(
    train: Float[Tensor, "n dim"], others: Mapping[str, Float[Tensor, "m dim"]], bins: int = 30
) -> list[Row]:
    """Share of each set's images by cosine distance to the nearest training image."""
    gaps = {name: nearest(images, train, "cosine")[0].cpu().numpy() for name, images in others.items()}
    edges = np.linspace(0, max(float(gap.max()) for gap in gaps.values()), bins + 1)
    shares = {name: np.histogram(gap, edges)[0] / len(gap) for name, gap in gaps.items()}
    return [
        {"of": name, "cosine_distance": float(edges[place]), "share": float(share)}
        for name, row in shares.items()
        for place, share in enumerate(row)
    ]


def projection_distances(real: Float[Tensor, "n dim"], projected: Float[Tensor, "n dim"], close: float) -> Row:
    """Cosine distance of images to their own projections, and the memorisation test of papers/000, section 4.3."""
    own = nearest(real, projected, "cosine")[1] == torch.arange(len(real), device=real.device)
    found = summary(paired(real, projected, "cosine"), own, close)
    return {
        "projection_mean_cosine": found["mean"],
        "projection_median_cosine": found["median"],
        "projections_too_close": found["under_threshold"],
        "projections_memorised": found["memorised"],
    }
