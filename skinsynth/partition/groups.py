"""The unit that may not be divided: images tied by patient, lesion or duplicate."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

TIES = ("patient_id", "lesion_id", "duplicate_group")


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

    Greedy: the largest groups first (ties in random order), each to the part where it lowers the chi-square distance
    between what a part holds and what it should hold most.
    """
    shares = shares / shares.sum()
    target = np.maximum(np.outer(shares, counts.sum(axis=0)), 1e-9)
    held = np.zeros_like(target)
    part = np.empty(len(counts), dtype=np.int64)
    shuffled = rng.permutation(len(counts))
    for group in shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]:
        extra = counts[group]
        cost = ((2 * (held - target) + extra) * extra / target).sum(axis=1)
        part[group] = int(cost.argmin())
        held[part[group]] += extra
    return part
