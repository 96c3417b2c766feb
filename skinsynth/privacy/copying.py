"""C_T: whether generated images lie nearer to the training images than held-out real ones do."""

import math

from jaxtyping import Float
from torch import Tensor, cat

from skinsynth.privacy.distances import nearest


def copying_statistic(
    train: Float[Tensor, "n dim"], held_out: Float[Tensor, "h dim"], fake: Float[Tensor, "m dim"]
) -> float:
    """Mann and Whitney's U of both sets' distances to train, as a z-score: far below 0 means copying, far above means
    that the generator misses the data (Meehan et al. 2020, eq. 2, with the whole space as one cell)."""
    fakes, h = len(fake), len(held_out)
    distances = cat([nearest(fake, train)[0], nearest(held_out, train)[0]])
    _, level, counts = distances.unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0) - (counts - 1) / 2).double()[level]
    u = float(ranks[:fakes].sum()) - fakes * (fakes + 1) / 2
    return (u - fakes * h / 2) / math.sqrt(fakes * h * (fakes + h + 1) / 12)
