"""Removing an artefact: the move in w that takes it out of images and leaves the rest of them as it was."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, Real, UInt8
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

from skinsynth.directions.axes import strides
from skinsynth.directions.edit import LayerRange, render_strips
from skinsynth.directions.hyperplane import attribute_normal, conditioned, hyperplane_normal
from skinsynth.directions.learnt import Critics, LearningConfig, learn_vector
from skinsynth.directions.principal import sample_w, within_classes
from skinsynth.files import written_whole
from skinsynth.gan.generator import in_full_precision
from skinsynth.gan.model import Gan
from skinsynth.settings import Count, NotNegative, Numbers, Share

Pixels = UInt8[Tensor, "n 3 size size"]
# Radius, in sides of the image, of the disc in which an image's identity is looked for: a frame lies beyond it.
CENTRE = 0.35
# Share of latents at each end whose answer is clear enough for the class's own normal.
CLEAR_SHARE = 0.1
# Of a learnt move that are tried as well: what it learnt from batches may go too far or not far enough.
PARTS = (0.6, 0.8, 1.0, 1.2)


@dataclass(frozen=True)
class RemovalConfig:
    images: Count  # with the artefact behind the choice of a move, and as many fresh ones behind its measure
    most_draws: Count  # latents drawn to find them, each time
    layers: tuple[LayerRange | None, ...]  # ranges of layers of w that a move may be confined to; null: all
    steps: Numbers  # in standard deviations of w along the direction, either way
    learning: LearningConfig  # of a move by gradient, one in each range of layers
    most_change: Share  # of the mean absolute change of the class's probability; moves beyond it are out
    most_centre_change: NotNegative  # of the image's centre, as a share of what lies between two random images
    random_directions: Count  # as long as the chosen one: the baseline
    batch_size: Count


class Seers(NamedTuple):
    """Who looks at the images: the first two at pixels, the others at images in [-1, 1] and with gradient."""

    sees: Callable[[Tensor], Tensor]  # whether the artefact is there
    answers: Callable[[Tensor], Tensor]  # probability of the positive class
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
    """What a move does to images that have the artefact, each number per image."""

    remains: Bool[Tensor, " n"]
    change: Float[Tensor, " n"]  # of the probability of the positive class, with its sign
    centre: Float[Tensor, " n"]  # root mean squared change of the pixels within the disc, 0 to 255

    def row(self, random_gap: float) -> dict[str, float]:
        """Means; the centre's change as a share of the median gap between random images."""
        return {
            "remaining_share": float(self.remains.double().mean()),
            "mean_absolute_change": float(self.change.abs().mean()),
            "mean_change": float(self.change.mean()),
            "centre_change": float(self.centre.mean()) / random_gap,
        }


def draw_with_artefact(
    gan: Gan, labels: Sequence[int], seers: Seers, config: RemovalConfig, truncation_psi: float, rng: torch.Generator
) -> Drawn:
    """Latents whose images have the artefact, of the labels in turn, until there are enough or `most_draws` are spent.

    It is rare in what some GANs make, so the count of draws tells its share.
    """
    kept: list[Latents] = []
    draws = 0
    while draws < config.most_draws and sum(len(part.labels) for part in kept) < config.images:
        asked = torch.tensor(labels)[torch.arange(config.batch_size) % len(labels)]
        batch = latents_at(gan, sample_w(gan, asked, rng, truncation_psi), asked, seers)
        seen = seers.sees(batch.pixels)
        kept.append(Latents(*(part[seen.to(part.device)] for part in batch)))
        draws += len(asked)
    every = Latents(*(torch.cat(parts) for parts in zip(*kept, strict=True)))
    return Drawn(Latents(*(part[: config.images] for part in every)), len(every.labels), draws)


def latents_at(gan: Gan, w: Float[Tensor, "n w"], labels: Int64[Tensor, " n"], seers: Seers) -> Latents:
    """The latents with their images and answers."""
    pixels = moved_pixels(gan, w, Move("", 0, None, 0.0, torch.zeros(w.shape[1], device=w.device)))
    return Latents(w, labels, pixels, seers.answers(pixels))


def moved_pixels(gan: Gan, w: Float[Tensor, "n w"], move: Move) -> Pixels:
    """Images after a move, with the same noise as before it."""
    ws = w[:, None].expand(-1, gan.generator.synthesis.layer_count, -1)
    return render_strips(gan.generator, ws, move.vector, [1.0], move.layers)[:, 0]


def hyperplane_strides(
    gan: Gan, labels: Sequence[int], seers: Seers, seen: Latents, samples: int, rng: torch.Generator
) -> dict[str, Float[Tensor, "1 w"]]:
    """The normal between images with and without the artefact, as it is and conditioned on the class (InterFaceGAN)."""
    asked = torch.tensor(labels)[torch.arange(samples) % len(labels)]
    others = latents_at(gan, sample_w(gan, asked, rng), asked, seers)
    within = within_classes(torch.cat([others.w, seen.w]), torch.cat([asked, seen.labels]))
    has = torch.cat([seers.sees(others.pixels), torch.ones(len(seen.labels), dtype=torch.bool)])
    if has.all() or not has.any():
        return {}
    normal = hyperplane_normal(within, has.to(within.device))
    of_class = attribute_normal(within[:samples], others.answers.to(within.device), CLEAR_SHARE)
    normals = {"hyperplane": normal, "conditional hyperplane": conditioned(normal, of_class)}
    return {name: strides(within, vector[None]) for name, vector in normals.items()}


def moves(candidates: Mapping[str, Float[Tensor, "k w"]], config: RemovalConfig) -> Iterator[Move]:
    """Every direction of every method, by every step, in every range of layers."""
    for method, vectors in candidates.items():
        for number, stride in enumerate(vectors, start=1):
            for layers in config.layers:
                for step in config.steps:
                    yield Move(method, number, layers, step, step * stride)


def learnt_moves(
    gan: Gan,
    before: Latents,
    w: Float[Tensor, "n w"],
    seers: Seers,
    config: RemovalConfig,
    rng: torch.Generator,
) -> Iterator[Move]:
    """A move by gradient in every range of layers, and parts of it; `w` are random latents less their class's mean."""
    gap = random_gap(before)
    if not gap > 0:
        return

    def changes(first: Tensor, second: Tensor) -> list[Tensor]:
        answer = (seers.probability(second) - seers.probability(first)).abs()
        centre = centre_gap(first * (255 / 2), second * (255 / 2)) / gap
        return [answer / config.most_change, centre / config.most_centre_change]

    critics, generator = Critics(seers.excess, changes), in_full_precision(gan.generator)
    for layers in config.layers:
        vector = learn_vector(generator, before.w, w.std(dim=0), layers, critics, config.learning, rng)
        length = float(vector.norm() / strides(w, normalize(vector, dim=0)[None]).norm())
        for part in PARTS:
            yield Move("learnt", 1, layers, part * length, part * vector)


def effect(gan: Gan, before: Latents, move: Move, seers: Seers) -> Effect:
    """Asks both seers about the images after the move."""
    after = moved_pixels(gan, before.w, move)
    change = seers.answers(after) - before.answers
    return Effect(seers.sees(after), change, centre_gap(before.pixels, after))


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


def best_move(rows: Sequence[dict[str, float]], config: RemovalConfig) -> int | None:
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


def random_moves(move: Move, count: int, rng: torch.Generator) -> list[Move]:
    """Moves in the same layers, as long as the chosen one and in directions that mean nothing."""
    vectors = torch.randn(count, len(move.vector), generator=rng, device=rng.device)
    lengths = move.vector.norm() / vectors.norm(dim=1, keepdim=True)
    return [Move("random", number, move.layers, move.step, vector) for number, vector in enumerate(vectors * lengths)]


def save_moves(path: Path, move_of: Mapping[str, Move]) -> None:
    """Each GAN's move: its vector in w as an array, all else as JSON in the file's metadata."""
    about = {name: {**move._asdict(), "vector": None} for name, move in move_of.items()}
    vectors = {name: move.vector.cpu().contiguous() for name, move in move_of.items()}
    with written_whole(path) as aside:
        save_file(vectors, aside, metadata={"moves": json.dumps(about)})


def load_moves(path: Path) -> dict[str, Move]:
    """What `save_moves` wrote, on the CPU; `moved_pixels` applies it."""
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["moves"])
        for name, one in about.items():
            layers = one["layers"] and tuple(one["layers"])
            about[name] = Move(**{**one, "layers": layers, "vector": file.get_tensor(name)})
    return about
