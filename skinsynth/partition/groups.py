"""The unit that may not be divided: images tied by patient, lesion or duplicate."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

TIES = ("patient_id", "lesion_id", "duplicate_group")
# Sweeps of exchanges at most, and how much an exchange has to lower the chi-square distance.
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
    part = _spread_greedily(counts, target, rng)
    # Groups of equal counts may stand for each other, which leaves few enough kinds to try every exchange.
    kinds, kind = np.unique(counts, axis=0, return_inverse=True)
    number = np.zeros((len(kinds), len(target)), dtype=np.int64)
    np.add.at(number, (kind, part), 1)
    for _ in range(SWEEPS):
        if not _exchange(kinds, number, target):
            break
    return _deal(kind, number, rng)


def _spread_greedily(
    counts: Float[np.ndarray, "groups features"], target: Float[np.ndarray, "parts features"], rng: np.random.Generator
) -> Int[np.ndarray, " groups"]:
    held = np.zeros_like(target)
    part = np.empty(len(counts), dtype=np.int64)
    shuffled = rng.permutation(len(counts))
    for group in shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]:
        extra = counts[group]
        cost = ((2 * (held - target) + extra) * extra / target).sum(axis=1)
        part[group] = int(cost.argmin())
        held[part[group]] += extra
    return part


def _exchange(
    kinds: Float[np.ndarray, "kinds features"],
    number: Int[np.ndarray, "kinds parts"],
    target: Float[np.ndarray, "parts features"],
) -> bool:
    """One sweep over `number`, groups of each kind in each part: each moves, or changes places with another, where that
    helps most. Whether any did."""
    # The last kind is nobody, who is in every part: to change places with nobody is to move.
    partners = np.concatenate([kinds, np.zeros((1, kinds.shape[1]))])
    held = number.T @ kinds
    improved = False
    for kind, here in np.argwhere(number).tolist():
        while number[kind, here]:
            there_kind, there, change = _best_partner(kinds[kind], here, partners, number, held - target, target)
            if change > -NEAR_ENOUGH:
                break
            gain = partners[there_kind] - kinds[kind]
            held[here] += gain
            held[there] -= gain
            for moved, source, goal in ((kind, here, there), (there_kind, there, here)):
                if moved < len(kinds):
                    number[moved, source] -= 1
                    number[moved, goal] += 1
            improved = True
    return improved


def _best_partner(
    own: Float[np.ndarray, " features"],
    here: int,
    partners: Float[np.ndarray, "partners features"],
    number: Int[np.ndarray, "kinds parts"],
    excess: Float[np.ndarray, "parts features"],
    target: Float[np.ndarray, "parts features"],
) -> tuple[int, int, float]:
    """With whom, of which other part, an exchange lowers the distance most, and by how much (negative: lower)."""
    gain = partners - own
    change = ((2 * excess[here] + gain) * gain / target[here]).sum(axis=1)[:, None]
    change = change + ((gain[:, None] - 2 * excess) * gain[:, None] / target).sum(axis=2)
    change[:-1][number == 0] = np.inf
    change[:, here] = np.inf
    best, there = np.unravel_index(change.argmin(), change.shape)
    return int(best), int(there), float(change[best, there])


def _deal(
    kind: Int[np.ndarray, " groups"], number: Int[np.ndarray, "kinds parts"], rng: np.random.Generator
) -> Int[np.ndarray, " groups"]:
    """A part for each group, so that `number` of each kind are in each part; who goes where is random."""
    part = np.empty(len(kind), dtype=np.int64)
    shuffled = rng.permutation(len(kind))
    members = shuffled[np.argsort(kind[shuffled], kind="stable")]
    part[members] = np.concatenate([np.repeat(np.arange(number.shape[1]), row) for row in number])
    return part
