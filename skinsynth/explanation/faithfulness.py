"""Does a heat map show what an answer rests on? Deletion and insertion (RISE, Petsiuk et al. 2018, section 4.2)."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64, UInt8
from scipy.ndimage import gaussian_filter

from skinsynth.classifier.classifier import Classifier
from skinsynth.settings import Count, Positive


@dataclass(frozen=True)
class FaithfulnessConfig:
    steps: Count  # equal shares of the image that are replaced one after another
    blur: Positive  # standard deviation of what replaces the image, in sides of the image
    random_orders: Count  # of the same regions: the baseline is their mean


class Faithfulness(NamedTuple):
    """Areas under the curves: deletion is good when low, insertion when high, each against regions in random order."""

    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float

    @property
    def gain(self) -> float:
        """How much more lies between insertion and deletion than at random; above 0, the heat map tells something."""
        return (self.insertion - self.deletion) - (self.random_insertion - self.random_deletion)


def faithfulness(
    classifier: Classifier,
    pixels: UInt8[np.ndarray, "3 size size"],
    answer: int,
    heat: Float[np.ndarray, "size size"],
    config: FaithfulnessConfig,
    rng: np.random.Generator,
) -> Faithfulness:
    """Areas for the probability of `answer`; pixels of equal heat are one region, which random order keeps whole.

    Both curves use one blurred image: RISE deletes to a grey one, whose edges are evidence of their own.
    """
    gone = blurred(pixels, config.blur)
    region = np.unique(-heat, return_inverse=True)[1].reshape(heat.shape)
    shuffled = [rng.permutation(region.max() + 1)[region] for _ in range(config.random_orders)]
    orders = [order_of(one) for one in (region, *shuffled)]
    deletion, *random_deletion = (area(classifier, pixels, gone, answer, one, config.steps) for one in orders)
    insertion, *random_insertion = (area(classifier, gone, pixels, answer, one, config.steps) for one in orders)
    return Faithfulness(deletion, insertion, float(np.mean(random_deletion)), float(np.mean(random_insertion)))


def blurred(pixels: UInt8[np.ndarray, "3 size size"], blur: float) -> UInt8[np.ndarray, "3 size size"]:
    """The image without what is smaller than `blur` of its side."""
    deviation = blur * pixels.shape[-1]
    return gaussian_filter(pixels.astype(np.float32), (0, deviation, deviation)).round().astype(np.uint8)


def order_of(rank: Int64[np.ndarray, "size size"]) -> Int64[np.ndarray, "size size"]:
    """The turn of each pixel, 0 first; pixels of one rank take turns row by row."""
    return rank.ravel().argsort(kind="stable").argsort(kind="stable").reshape(rank.shape)


def area(
    classifier: Classifier,
    start: UInt8[np.ndarray, "3 size size"],
    end: UInt8[np.ndarray, "3 size size"],
    answer: int,
    order: Int64[np.ndarray, "size size"],
    steps: int,
) -> float:
    """Area under the probability of `answer`, from 0 to 1, while pixels of `start` become those of `end` in `order`."""
    replaced = np.linspace(0, order.size, steps + 1).round()
    way = np.where(order < replaced[:, None, None, None], end, start)
    probability = classifier.probabilities(way)[:, answer].double().cpu().numpy()
    return float(np.trapezoid(probability, dx=1 / steps))
