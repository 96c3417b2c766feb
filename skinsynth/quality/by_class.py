"""Generated images against real ones, for all classes together and for each by itself."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from skinsynth.features.extractor import Extractor, weights_digest
from skinsynth.images.archive import Images
from skinsynth.quality.fidelity import FidelityConfig, FidelityScores, Patients, score_images
from skinsynth.quality.proportions import as_frequent_as

POOLED = "all"


class Labelled(NamedTuple):
    """Features of images, the classes of these, and who is behind each (by number; None: not known)."""

    features: Float[Tensor, "n dim"]
    labels: Int64[Tensor, " n"]
    patients: Int64[Tensor, " n"] | None = None

    def of(self, label: int) -> "Labelled":
        """The images of one class."""
        return self.at(torch.nonzero(self.labels == label)[:, 0])

    def at(self, places: Int64[Tensor, " m"]) -> "Labelled":
        """The images at these places."""
        patients = None if self.patients is None else self.patients[places]
        return Labelled(self.features[places.to(self.features.device)], self.labels[places], patients)


class Sides(NamedTuple):
    """The sets of one comparison."""

    real: Labelled
    fake: Labelled
    held_out: Labelled | None  # real images that the GAN has not seen, for the floor

    def named(self) -> dict[str, Labelled]:
        """The sets that there are, by what tables and plots call them."""
        named = {"train_real": self.real, "generated": self.fake, "held_out_real": self.held_out}
        return {name: part for name, part in named.items() if part is not None}

    def features(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Features of real, generated and held-out images."""
        return self.real.features, self.fake.features, self.held_out.features if self.held_out else None

    def patients(self) -> Patients:
        """Who is behind the real and the held-out images."""
        return Patients(self.real.patients, self.held_out.patients if self.held_out else None)


def features_of(extract: Extractor, images: Images, patients: Int64[Tensor, " n"] | None = None) -> Labelled:
    """Features of real images, or of any archive; `patients` are numbers of who is behind each image."""
    return Labelled(extract(images.pixels), torch.from_numpy(images.labels), patients)


def drawn_of_each(images: Labelled, class_count: int, count: int, source: Path, seed: int) -> Labelled:
    """`count` images of each class at random: a set may come sorted. A ValueError where there are fewer."""
    rng = torch.Generator().manual_seed(seed)
    found = [torch.nonzero(images.labels == label)[:, 0] for label in range(class_count)]
    fewest = min(len(places) for places in found)
    if fewest < count:
        raise ValueError(
            f"{source}: candidates are ranked on {count} images of each class, but it has {fewest} of one: bring more "
            "images, or lower images_per_class"
        )
    kept = torch.cat([places[torch.randperm(len(places), generator=rng)[:count].sort().values] for places in found])
    return images.at(kept)


def score_by_class(
    judged: Sides, classes: Sequence[str], config: FidelityConfig, seed: int, extract: Extractor
) -> FidelityScores:
    """Pooled headlines, and rows with a column `class`: all, then each class of the fakes where there are several.

    `extractor_weights` says whose features they are: another classifier is another ruler.
    """
    weights = weights_digest(extract)
    found = dict[str, FidelityScores]()
    for name, sides in sides_by_class(judged, classes, seed):
        real, fake, held_out = sides.features()
        rng = torch.Generator().manual_seed(seed)
        try:
            found[name] = score_images(real, fake, config, rng, extract.name, held_out, sides.patients())
        except ValueError as error:
            raise ValueError(f"class {name!r}: {error}, or leave that class out of the set") from error
    rows = [
        {"class": name, **row, "extractor_weights": weights, "seed": seed}
        for name, scores in found.items()
        for row in scores.rows
    ]
    pooled = found[POOLED]
    return FidelityScores({**pooled.headline, "extractor_weights": weights}, rows, pooled.halves)


def sides_by_class(judged: Sides, classes: Sequence[str], seed: int) -> Iterator[tuple[str, Sides]]:
    """Real, generated and held-out images of all classes together, then of each class of the fakes if several.

    Together, classes are as frequent among the fakes as among the real images: otherwise a set with other shares (half
    of it malignant, say) would be judged by these.
    """
    real, fake, held_out = judged
    kept = as_frequent_as(fake.labels, real.labels, torch.Generator().manual_seed(seed))
    yield POOLED, Sides(real, fake.at(kept), held_out)
    labels = fake.labels.unique().tolist()
    for label in labels if len(labels) > 1 else []:
        yield classes[label], Sides(real.of(label), fake.of(label), held_out.of(label) if held_out else None)
