"""An image set judged by several extractors: whose the headlines are, and that none changes what another says."""

import numpy as np
import pandas as pd
import torch

from skinsynth.images.archive import Images
from skinsynth.quality.fidelity import FidelityConfig, Patients
from skinsynth.quality.image_set import RealSides, judge_images

CONFIG = FidelityConfig(neighbours=2, kid_subset_size=0, kid_subsets=1, interval_draws=3)


class Means:
    """Mean of each channel, or its square."""

    def __init__(self, name, power):
        self.name, self.power = name, power

    def __call__(self, pixels):
        return (torch.as_tensor(pixels).float().mean((2, 3)) / 255) ** self.power


def images(rng, count, brighter=0):
    pixels = rng.integers(0, 256 - brighter, (count, 3, 8, 8)).astype(np.uint8) + np.uint8(brighter)
    return Images([f"{number}" for number in range(count)], pixels, np.arange(count) % 2)


def test_headlines_are_the_first_extractors_and_each_has_the_rows_that_it_gives_alone():
    rng = np.random.default_rng(0)
    train, held_out, fake = images(rng, 40), images(rng, 30), images(rng, 36, brighter=60)
    real = RealSides(train, held_out, Patients(torch.arange(40) // 2, torch.arange(30) // 2))
    one, two = Means("one", 1), Means("two", 2)

    def judged(*extractors):
        return judge_images(fake, real, extractors, ["a", "b"], CONFIG, seed=1)

    both, alone = judged(one, two), {extract.name: judged(extract) for extract in (one, two)}
    assert both.headline == alone["one"].headline
    assert {"fid_one", "recall_one"} < set(both.headline)
    assert not any("two" in key for key in both.headline)
    assert both.fidelity == alone["one"].fidelity + alone["two"].fidelity
    assert (both.colours, both.hues) == (alone["one"].colours, alone["one"].hues)
    assert judged(two, one).headline == alone["two"].headline
    fid = pd.DataFrame(both.fidelity).query("metric == 'fid' and compared == 'generated' and reference == 'train'")
    assert fid.groupby("extractor")["value"].nunique().to_dict() == {"one": 3, "two": 3}
