"""What a classifier sees of a move along a direction."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from skinsynth.classifier.classifier import Classifier
from skinsynth.intervals import NORMAL_95, Interval


class Effects(NamedTuple):
    """What a move along a direction changes in each image, per step of length 1."""

    changes: Float[Tensor, " n"]  # of the probability of one class, with its sign
    distances: Float[Tensor, " n"]  # Euclidean, between features of the moved image and of the image itself


def effects_of(
    classifier: Classifier, strips: UInt8[Tensor, "n steps 3 size size"], steps: Sequence[float], label: int
) -> Effects:
    """Effects on the probability of class `label` and on the classifier's features."""
    examined = classifier.examine(strips.flatten(0, 1))
    probabilities = examined.probabilities[:, label].unflatten(0, strips.shape[:2])
    features = examined.features.unflatten(0, strips.shape[:2])
    return Effects(slopes(probabilities, steps).cpu(), distances_per_step(features, steps).cpu())


def slopes(values: Float[Tensor, "n steps"], steps: Sequence[float]) -> Float[Tensor, " n"]:
    """Least-squares slope of each row over the steps."""
    centred = torch.tensor(steps, dtype=values.dtype, device=values.device)
    centred = centred - centred.mean()
    if not centred.any():
        raise ValueError(f"a slope needs two different steps, but {list(steps)} came: add one to steps")
    return values @ centred / centred.square().sum()


def distances_per_step(features: Float[Tensor, "n steps dim"], steps: Sequence[float]) -> Float[Tensor, " n"]:
    """Distance from the features at step 0, per length of the step, averaged over the other steps."""
    if 0 not in steps or not any(steps):
        raise ValueError(f"steps hold 0, the image itself, and others, but {list(steps)} came: add what is missing")
    gaps = (features - features[:, [list(steps).index(0)]]).norm(dim=2)
    lengths = torch.tensor(steps, dtype=gaps.dtype, device=gaps.device).abs()
    return (gaps[:, lengths > 0] / lengths[lengths > 0]).mean(dim=1)


def mean_interval(values: Float[Tensor, " n"], mean: float) -> Interval:
    """95 % interval of a mean over independent values by their standard error."""
    reach = NORMAL_95 * float(values.double().std()) / len(values) ** 0.5
    return Interval(mean, mean - reach, mean + reach)
