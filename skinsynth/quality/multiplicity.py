"""Probabilities of many tests at once."""

import math
from collections.abc import Sequence

import numpy as np


def holm(ps: Sequence[float]) -> list[float]:
    """Each p as large as it has to be for the chance of any false alarm among all tests to stay at its level.

    Holm (1979): step down from the least, whatever the tests share. A p that is not known (nan) is none of the tests.
    """
    known = [place for place, p in enumerate(ps) if not math.isnan(p)]
    ordered = sorted(known, key=lambda place: ps[place])
    raised = np.maximum.accumulate([(len(ordered) - step) * ps[place] for step, place in enumerate(ordered)])
    found = dict(zip(ordered, np.minimum(raised, 1.0).tolist(), strict=True))
    return [found.get(place, math.nan) for place in range(len(ps))]
