"""Membership inference: whether a GAN, or what it made, tells the images that it was trained on from others.

Each attack gives an image one number, the higher the more it takes the image for one of the training set. An attack
that fails shows nothing but its own failure: no number here says "private".
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from torch import Tensor

from skinsynth.gan.model import Gan
from skinsynth.gan.pixels import from_pixels
from skinsynth.intervals import group_draws, percentile_interval
from skinsynth.privacy.distances import ENTRIES_AT_ONCE, nearest, nearest_of_each
from skinsynth.privacy.names import Row
from skinsynth.privacy.patients import Groups

# Fewer non-members than this are not enough for a false positive rate of 1 %: it would be less than one image.
FEWEST_NON_MEMBERS = 100

Scores = tuple[Float64[np.ndarray, " _"], Float64[np.ndarray, " _"]]  # of members and of non-members


@torch.no_grad()
def discriminator_scores(
    gan: Gan, pixels: UInt8[Tensor, "n c h w"], labels: Int64[Tensor, " n"], batch_size: int
) -> Float64[Tensor, " n"]:
    """The discriminator's logit of each image, given its label of the dataset (LOGAN, Hayes et al. 2019, white box).

    Each image is a minibatch group of its own, of deviation 0, so that its score is independent of its neighbours; a
    group of one gives what a group of copies of it would.
    """
    config = gan.discriminator.config
    expected = config.image_channels, config.resolution, config.resolution
    if not len(pixels) or tuple(pixels.shape[1:]) != expected:
        raise ValueError(f"this discriminator reads images of {expected}, but {tuple(pixels.shape)} came: resize them")
    scores = []
    for start in range(0, len(pixels), batch_size):
        batch = slice(start, start + batch_size)
        images = from_pixels(pixels[batch].to(gan.device))
        logits = gan.discriminator(images, gan.condition(labels[batch]), batches=len(images))
        scores.append(logits[:, 0].double().cpu())
    return torch.cat(scores)


def reconstruction_scores(
    images: Float[Tensor, "n dim"],
    generated: Float[Tensor, "m dim"],
    among: Float[Tensor, "r dim"],
    references: Sequence[Int64[np.ndarray, " _"]],
) -> Float64[Tensor, "references n"]:
    """How much nearer the generated images come to each image than each reference does, one row a reference (places in
    `among`): GAN-Leaks (Chen et al. 2020, arXiv 1909.03935, full black box, with its attack calibration).

    The paper calibrates by what a second GAN makes of the reference, images of nobody's training; here these images
    stand for themselves.
    """
    return nearest_of_each(images, among, references) - nearest(images, generated)[0]


def density_ratios(
    images: Float[Tensor, "n dim"],
    generated: Float[Tensor, "m dim"],
    among: Float[Tensor, "r dim"],
    references: Sequence[Int64[np.ndarray, " _"]],
    components: int,
) -> Float64[Tensor, "references n"]:
    """The logarithm of p_generated(x) / p_reference(x) at each image, one row a reference (places in `among`): DOMIAS
    (van Breugel et al. 2023, arXiv 2302.12580, eq. 2).

    Gaussian kernels on principal components, each brought to unit variance: those of the generated images and all that
    are scored together, members and non-members alike, since of many dimensions they fit whom they were found among.
    Scott's bandwidth n^(-1 / (components + 4)) is that of the smaller set, half of `among` being taken for a reference;
    one of its own would shrink to nothing where a GAN makes few images over and over.
    """
    from sklearn.neighbors import KernelDensity  # 1.5 s to import, and nobody else here needs it

    # Where scikit-learn and SciPy take them.
    images, generated, among = (part.cpu() for part in (images, generated, among))
    place = _whitening(torch.cat([generated, images]), components)
    bandwidth = _bandwidth(len(generated), max(len(among) // 2, 1), components)
    asked, real = place(images), place(among)
    made = KernelDensity(bandwidth=bandwidth).fit(place(generated)).score_samples(asked)
    made += components * math.log(math.sqrt(2 * math.pi) * bandwidth)  # the kernels below have a height of 1
    shares = np.stack([np.bincount(chosen, minlength=len(real)) / len(chosen) for chosen in references], axis=1)
    found = np.empty((len(references), len(asked)))
    step = max(1, ENTRIES_AT_ONCE // max(len(real), len(references)))
    for start in range(0, len(asked), step):
        rows = slice(start, start + step)
        exponents = -cdist(asked[rows], real, "sqeuclidean") / (2 * bandwidth**2)
        largest = exponents.max(axis=1, keepdims=True)
        # A reference that leaves out whoever is near may have a density of 0 in floating point.
        sums = (np.exp(exponents - largest) @ shares).clip(np.finfo(np.float64).tiny)
        found[:, rows] = made[rows] - (np.log(sums) + largest).T
    return torch.from_numpy(found)


def _bandwidth(generated: int, reference: int, components: int) -> float:
    return float(min(generated, reference) ** (-1 / (components + 4)))


def _whitening(
    points: Float[Tensor, "n dim"], components: int
) -> Callable[[Float[Tensor, "k dim"]], Float64[np.ndarray, "k components"]]:
    """A function that maps features to the first principal components of `points`, which have variance 1 in each."""
    # The covariance is singular beyond the rank, and its eigenvalues are rounding errors there.
    mean = points.double().mean(dim=0)
    centred = points.double() - mean
    rank = int(torch.linalg.matrix_rank(centred))
    if not 1 <= components <= rank:
        raise ValueError(
            f"a density ratio looks at 1 … {rank} components, the rank of these {len(points)} images' features, but "
            f"{components} came: change components or give more images"
        )
    variances, axes = torch.linalg.eigh(centred.T @ centred / (len(points) - 1))
    # Eigenvalues come in ascending order.
    scaled = axes[:, -components:] / variances[-components:].sqrt()
    return lambda part: ((part.double() - mean) @ scaled).numpy()


def auc(members: Float64[np.ndarray, " n"], non_members: Float64[np.ndarray, " m"]) -> float:
    """Chance that a member scores above a non-member, ties by half: Mann and Whitney's U by midranks."""
    ranks = rankdata(np.concatenate([members, non_members]))[: len(members)]
    return float((ranks.mean() - (len(members) + 1) / 2) / len(non_members))


def tpr_at_1_percent_fpr(members: Float64[np.ndarray, " n"], non_members: Float64[np.ndarray, " m"]) -> float:
    """Share of members above the lowest threshold that 1 % of the non-members at most are above (Carlini et al. 2022,
    arXiv 2112.03570)."""
    allowed = len(non_members) // 100
    threshold = np.partition(non_members, -1 - allowed)[-1 - allowed]
    return float((members > threshold).mean())


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "auc": auc,
    "tpr_at_1_percent_fpr": tpr_at_1_percent_fpr,
}


def attack_rows(
    member_scores: Mapping[str, Float64[Tensor, " n"]],
    non_member_scores: Mapping[str, Float64[Tensor, " m"]],
    member_groups: Groups,
    non_member_groups: Groups,
    draws: int,
    rng: np.random.Generator,
) -> list[Row]:
    """How well each attack, by its name, tells members from non-members: one row an attack and metric.

    The 95 % percentile intervals draw whole groups (patients) with replacement, the same ones for all attacks, members'
    and non-members' apart.
    """
    check_scores(member_scores, non_member_scores, len(member_groups), len(non_member_groups))
    # One patient does not tell how patients differ: a side of one has the sample alone, which ends the pairs there.
    sides = _drawn_places(member_groups, draws, rng), _drawn_places(non_member_groups, draws, rng)
    samples = list(zip(*sides, strict=False))
    rows: list[Row] = []
    for attack in member_scores:
        members, non_members = (side[attack].cpu().numpy() for side in (member_scores, non_member_scores))
        drawn = [(members[of_members], non_members[of_others]) for of_members, of_others in samples]
        values_of = {metric: [measure(*scores) for scores in drawn] for metric, measure in METRICS.items()}
        rows += rows_of_values(attack, values_of, len(members), len(non_members))
    return rows


def rows_of_values(attack: str, values_of: Mapping[str, Sequence[float]], members: int, non_members: int) -> list[Row]:
    """The rows of one attack by metric: the first value is the sample's, the others are those of each draw."""
    return [
        {
            "attack": attack,
            "metric": metric,
            **percentile_interval(np.array(values))._asdict(),
            "members": members,
            "non_members": non_members,
            "note": "too few" if metric == "tpr_at_1_percent_fpr" and non_members < FEWEST_NON_MEMBERS else "",
        }
        for metric, values in values_of.items()
    ]


def _drawn_places(groups: Groups, draws: int, rng: np.random.Generator) -> list[Int64[np.ndarray, " drawn"]]:
    """Places of all images, then those of each draw of as many whole groups with replacement, if there are two."""
    counts = group_draws(groups, draws if len(np.unique(groups)) > 1 else 0, rng)
    return [np.repeat(np.arange(len(groups)), count.astype(np.int64)) for count in counts]


def check_scores(
    member_scores: Mapping[str, Tensor], non_member_scores: Mapping[str, Tensor], members: int, non_members: int
) -> None:
    """Raises ValueError where an attack does not score each image of both sides by a number."""
    if member_scores.keys() != non_member_scores.keys():
        raise ValueError(
            f"members and non-members meet the same attacks, but these came: {sorted(member_scores)} and "
            f"{sorted(non_member_scores)}: score both sides by each"
        )
    for attack, scores in member_scores.items():
        counts = len(scores), len(non_member_scores[attack])
        if counts != (members, non_members) or not all(counts):
            raise ValueError(
                f"every member and non-member has a group and a score, but {members} and {non_members} groups and "
                f"{counts[0]} and {counts[1]} scores of {attack} came: give all of them for the same images"
            )
        unknown = sum(int(side[attack].isnan().sum()) for side in (member_scores, non_member_scores))
        if unknown:
            raise ValueError(f"attacks rank numbers, but {unknown} scores of {attack} are nan: look at the features")
