"""Removing an artefact: the move in w that takes it out of images and leaves the rest of them as it was."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, Real, UInt8
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from skinsynth.directions.edit import LayerRange, render_strips
from skinsynth.directions.learnt import LearningConfig
from skinsynth.directions.principal import sample_w
from skinsynth.directions.search import spread_evenly
from skinsynth.files import written_whole
from skinsynth.gan.model import Gan, render
from skinsynth.settings import Count, NotNegative, Numbers, Share

Pixels = UInt8[Tensor, "n 3 size size"]
# Radius, in sides of the image, of the disc in which an image's identity is looked for: a frame lies beyond it.
CENTRE = 0.35


@dataclass(frozen=True)
class RemovalConfig:
    images: Count  # with the artefact: to find moves by, as many others to choose one by, and as many to measure it on
    least: Count  # images with the artefact; a GAN that makes fewer in most_draws is left as it is
    most_draws: Count  # latents drawn to find these, each time
    truncation_psi: NotNegative
    directions: Count  # of SeFa and of PCA, tried beside hyperplanes and learnt moves
    samples: Count  # latents behind PCA, hyperplanes and standard deviations
    layers: tuple[LayerRange | None, ...]  # ranges of layers of w that a move may be confined to; null: all
    steps: Numbers  # in standard deviations of w along the direction, either way
    learning: LearningConfig  # of a move by gradient, one in each range of layers
    most_change: Share  # of the mean absolute change of the class's probability; moves beyond it are out
    most_centre_change: NotNegative  # of the image's centre, as a share of what lies between two random images
    random_directions: Count  # as long as the chosen one: the baseline
    batch_size: Count


class Seers(NamedTuple):
    """Who looks at the images: the first three at pixels, the others at images in [-1, 1] and with gradient."""

    sees: Callable[[Tensor], Tensor]  # whether the artefact is there
    answers: Callable[[Tensor], Tensor]  # probability of the positive class
    black: Callable[[Tensor], Tensor]  # share that is black at the corners: a witness by which no move is chosen
    excess: Callable[[Tensor], Tensor]  # log odds of the artefact, 0 where it begins to be seen
    probability: Callable[[Tensor], Tensor]  # as `answers`


class Latents(NamedTuple):
    """w of images, and what is seen in them."""

    w: Float[Tensor, "n w"]
    labels: Int64[Tensor, " n"]
    pixels: UInt8[Tensor, "n 3 size size"]
    answers: Float[Tensor, " n"]  # probability of the positive class


class Drawn(NamedTuple):
    """Latents with the artefact, found among so many drawn ones."""

    found: Latents  # as many as asked for, at most
    seen: int  # all that were found
    draws: int


class Move(NamedTuple):
    """w + vector in some layers; the vector's length is that of the step."""

    method: str
    number: int
    layers: LayerRange | None
    step: float
    vector: Float[Tensor, " w"]


class Effect(NamedTuple):
    """What a move makes of images that have the artefact, each number per image."""

    pixels: UInt8[Tensor, "n 3 size size"]
    remains: Bool[Tensor, " n"]
    change: Float[Tensor, " n"]  # of the probability of the positive class, with its sign
    centre: Float[Tensor, " n"]  # root mean squared change of the pixels within the disc, 0 to 255

    def row(self, random_gap: float) -> dict[str, float]:
        """Means over the images; the centre's change as a share of the median gap between random images."""
        return {
            "remaining_share": float(self.remains.double().mean()),
            "mean_absolute_change": float(self.change.abs().mean()),
            "mean_change": float(self.change.mean()),
            "centre_change": float(self.centre.mean()) / random_gap,
        }


def draw_with_artefact(gan: Gan, seers: Seers, config: RemovalConfig, rng: torch.Generator) -> Drawn:
    """Latents whose images have the artefact, of the GAN's labels in turn, until there are enough or draws are spent.

    It is rare in what some GANs make, so the count of draws tells its share.
    """
    kept: list[Latents] = []
    draws = 0
    while draws < config.most_draws and sum(len(part.labels) for part in kept) < config.images:
        labels = spread_evenly(gan.classes, config.batch_size)
        w = sample_w(gan, labels, rng, config.truncation_psi)
        pixels = rendered(gan, w)
        seen = seers.sees(pixels)
        if seen.any():
            kept.append(Latents(w[seen.to(w.device)], labels[seen], pixels[seen], seers.answers(pixels[seen])))
        draws += len(labels)
    empty = Latents(w[:0], labels[:0], pixels[:0], torch.zeros(0))
    every = Latents(*(torch.cat(parts) for parts in zip(empty, *kept, strict=True)))
    return Drawn(Latents(*(part[: config.images] for part in every)), len(every.labels), draws)


def rendered(gan: Gan, w: Float[Tensor, "n w"]) -> Pixels:
    """Images of one w for all layers, with the generator's own noise."""
    return render(gan.generator, gan.generator.mapping.every_layer(w))


def moved_pixels(gan: Gan, w: Float[Tensor, "n w"], move: Move) -> Pixels:
    """Images after a move, with the same noise as before it."""
    ws = gan.generator.mapping.every_layer(w)
    return render_strips(gan.generator, ws, move.vector, [1.0], move.layers)[:, 0]


def effect(gan: Gan, before: Latents, move: Move, seers: Seers) -> Effect:
    """What the move makes of these images, as the detector and the classifier see them."""
    after = moved_pixels(gan, before.w, move)
    change = seers.answers(after) - before.answers
    return Effect(after, seers.sees(after), change, centre_gap(before.pixels, after))


def centre_gap(first: Real[Tensor, "n 3 size size"], second: Real[Tensor, "n 3 size size"]) -> Float[Tensor, " n"]:
    """Root mean squared difference within the disc about the middle, in the unit of the images."""
    size = first.shape[-1]
    line = (torch.arange(size) + 0.5) / size - 0.5
    disc = ((line[:, None] ** 2 + line**2).sqrt() <= CENTRE).to(first.device)
    gap = (first.float() - second.float())[:, :, disc].flatten(1)
    # The norm has a gradient where nothing differs, a root has none.
    return torch.linalg.vector_norm(gap, dim=1) / math.sqrt(gap.shape[1])


def random_gap(images: Latents) -> float:
    """Median of `centre_gap` between images of one class that have nothing to do with each other."""
    gaps = []
    for label in images.labels.unique():
        own = images.pixels[images.labels == label]
        gaps.append(centre_gap(own, own.roll(1, dims=0)) if len(own) > 1 else torch.zeros(0))
    every = torch.cat(gaps)
    return float(every.median()) if len(every) else float("nan")


def best_move(rows: Sequence[Mapping[str, Any]], config: RemovalConfig) -> int | None:
    """Place of the move that leaves the artefact in the fewest images, of those that keep class and centre.

    Ties go to the one that changes the class least; None where no move keeps both.
    """
    kept = [
        place
        for place, row in enumerate(rows)
        if row["mean_absolute_change"] <= config.most_change and row["centre_change"] <= config.most_centre_change
    ]
    return min(
        kept, key=lambda place: (rows[place]["remaining_share"], rows[place]["mean_absolute_change"]), default=None
    )


def save_moves(path: Path, move_of: Mapping[str, Move]) -> None:
    """Write each GAN's move: its vector in w as an array, all else as JSON in the file's metadata."""
    about = {name: {**move._asdict(), "vector": None} for name, move in move_of.items()}
    vectors = {name: move.vector.cpu().contiguous() for name, move in move_of.items()}
    with written_whole(path) as aside:
        save_file(vectors, aside, metadata={"moves": json.dumps(about)})


def load_moves(path: Path) -> dict[str, Move]:
    """Each GAN's move as `save_moves` wrote it, on the CPU; `moved_pixels` applies it."""
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["moves"])
        for name, one in about.items():
            layers = one["layers"] and tuple(one["layers"])
            about[name] = Move(**{**one, "layers": layers, "vector": file.get_tensor(name)})
    return about
