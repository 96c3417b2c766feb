"""Labels of so many images of each class, and sets of images with the class shares of another set."""

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor


def labels_of_counts(counts: Sequence[int] | Int64[Tensor, " classes"]) -> Int64[Tensor, " n"]:
    """Labels in the order of the classes, each as often as its count says."""
    return torch.arange(len(counts)).repeat_interleave(torch.as_tensor(counts))


def counts_in_proportion(labels: Int64[Tensor, " n"], count: int) -> Int64[Tensor, " classes"]:
    """How many of `count` images each class gets so that shares are those among the labels (largest remainders)."""
    exact = labels.bincount().double() * count / len(labels)
    counts = exact.long()
    order = (exact - counts).argsort(descending=True, stable=True)
    counts[order[: count - int(counts.sum())]] += 1
    return counts


def in_proportion(labels: Int64[Tensor, " n"], count: int) -> Int64[Tensor, " count"]:
    """`count` labels, sorted, as frequent as in the given ones."""
    return labels_of_counts(counts_in_proportion(labels, count))


def as_frequent_as(
    labels: Int64[Tensor, " n"], reference: Int64[Tensor, " m"], rng: torch.Generator
) -> Int64[Tensor, " kept"]:
    """Places of the most of `labels`, in order, that have the class shares of `reference`; which ones is drawn."""
    there = labels.bincount(minlength=int(reference.max()) + 1)
    shares = reference.bincount(minlength=len(there)).double() / len(reference)
    lacking = torch.nonzero((shares > 0) & (there == 0))[:, 0].tolist()
    if lacking:
        raise ValueError(
            f"no image of class {lacking[0]} in a set that is compared with real images of that class: bring some, or "
            "leave the class out of the real images"
        )
    # Rounding may let in an image more than the exact shares do.
    most = min(len(labels), int((there[shares > 0] / shares[shares > 0]).min()) + len(there))
    wanted = next(
        counts
        for count in range(most, -1, -1)
        if ((counts := counts_in_proportion(reference, count)) <= there[: len(counts)]).all()
    )
    kept = []
    for label, count in enumerate(wanted.tolist()):
        places = torch.nonzero(labels == label)[:, 0]
        kept.append(places[torch.randperm(len(places), generator=rng)[:count]])
    return torch.cat(kept).sort().values
