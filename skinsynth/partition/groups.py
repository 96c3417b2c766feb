"""The unit that may not be divided: images tied by patient, lesion or duplicate."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

TIES = ("patient_id", "lesion_id", "duplicate_group")
# Sweeps of exchanges at most, and the chi-square distance below which parts count as even.
SWEEPS, NEAR_ENOUGH = 10, 1e-3


def independent_groups(lesions: pd.DataFrame) -> Int[np.ndarray, " n"]:
    """A number for each image; two images share it where a chain of equal patients, lesions or duplicates ties them."""
    images = np.arange(len(lesions))
    rows, columns, offset = [], [], len(lesions)
    for tie in TIES:
        codes, known = pd.factorize(lesions[tie])
        named = (lesions[tie] != "").to_numpy()
        rows.append(images[named])
        columns.append(offset + codes[named])
        offset += len(known)
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(row), dtype=np.int8), (row, column)), shape=(offset, offset))
    _, component = connected_components(graph, directed=False)
    return np.unique(component[: len(lesions)], return_inverse=True)[1]


def spread(
    counts: Float[np.ndarray, "groups features"], shares: Float[np.ndarray, " parts"], rng: np.random.Generator
) -> Int[np.ndarray, " groups"]:
    """The part of each group, such that every feature is spread over the parts in proportion to `shares`.

    Lowers the chi-square distance between what the parts hold and what they should hold: greedily, the largest groups
    first (ties in random order), then by moving and exchanging groups until nothing helps.
    """
    target = np.maximum(np.outer(shares / shares.sum(), counts.sum(axis=0)), 1e-9)
    part, held = _spread_greedily(counts, target, rng)
    for _ in range(SWEEPS):
        if _distance(held, target) < NEAR_ENOUGH or not _improve(counts, target, part, held):
            break
    return part


def _distance(held: Float[np.ndarray, "parts features"], target: Float[np.ndarray, "parts features"]) -> float:
    return float(((held - target) ** 2 / target).sum())


def _spread_greedily(
    counts: Float[np.ndarray, "groups features"], target: Float[np.ndarray, "parts features"], rng: np.random.Generator
) -> tuple[Int[np.ndarray, " groups"], Float[np.ndarray, "parts features"]]:
    """Each group's part, and what the parts hold then."""
    held = np.zeros_like(target)
    part = np.empty(len(counts), dtype=np.int64)
    shuffled = rng.permutation(len(counts))
    for group in shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]:
        extra = counts[group]
        cost = ((2 * (held - target) + extra) * extra / target).sum(axis=1)
        part[group] = int(cost.argmin())
        held[part[group]] += extra
    return part, held


def _improve(
    counts: Float[np.ndarray, "groups features"],
    target: Float[np.ndarray, "parts features"],
    part: Int[np.ndarray, " groups"],
    held: Float[np.ndarray, "parts features"],
) -> bool:
    """One sweep in which each group moves, or changes places with another, where that helps most; whether any did."""
    improved = False
    # Partners of an exchange and where they are; the last ones, one in each part, have nothing: that is a move.
    partners = np.concatenate([counts, np.zeros_like(held)])
    place = np.concatenate([part, np.arange(len(held))])
    for group, own in enumerate(counts):
        here = place[group]
        gain = partners - own
        change = ((2 * (held[here] - target[here]) + gain) * gain / target[here]).sum(axis=1)
        change += ((gain - 2 * (held - target)[place]) * gain / target[place]).sum(axis=1)
        change[place == here] = 0
        partner = int(change.argmin())
        if change[partner] > -NEAR_ENOUGH:
            continue
        held[here] += gain[partner]
        held[place[partner]] -= gain[partner]
        place[group] = place[partner]
        if partner < len(counts):
            place[partner] = here
        improved = True
    part[:] = place[: len(part)]
    return improved
