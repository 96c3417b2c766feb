"""Which move takes the artefact out of a GAN's images, and what it does to images by which it was not chosen."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from skinsynth.directions.candidates import candidate_moves, random_moves
from skinsynth.directions.effects import mean_interval
from skinsynth.directions.principal import sample_w
from skinsynth.directions.removal import (
    Latents,
    Move,
    RemovalConfig,
    Seers,
    best_move,
    draw_with_artefact,
    effect,
    moved_pixels,
    random_gap,
    rendered,
)
from skinsynth.gan.family import Family
from skinsynth.gan.model import Gan
from skinsynth.intervals import wilson_share


class Chosen(NamedTuple):
    """What was found for one GAN."""

    move: Move | None
    rows: list[dict[str, Any]]  # every move that was tried
    found: dict[str, Any]  # what is said of it in the table
    before: Latents  # fresh images with the artefact
    after: UInt8[Tensor, "n 3 size size"]
    by_method: dict[str, Move]  # the best of each method that keeps class and centre


class Pairs(NamedTuple):
    """Images of the same latents."""

    plain: UInt8[Tensor, "n 3 size size"]
    edited: UInt8[Tensor, "n 3 size size"]  # those with the artefact moved
    moved: Bool[Tensor, " n"]


def choose(gan: Gan, seers: Seers, config: RemovalConfig, rng: torch.Generator) -> Chosen:
    """Moves found by some images with the artefact, the best of them by others, measured on fresh ones."""
    drawn = [draw_with_artefact(gan, seers, config, rng)]
    while len(drawn) < 3 and len(drawn[-1].found.labels) >= config.least:
        drawn.append(draw_with_artefact(gan, seers, config, rng))
    fresh = drawn[-1]
    found: dict[str, Any] = {"draws": fresh.draws, "with_artefact": fresh.seen, "images": len(fresh.found.labels)}
    if len(fresh.found.labels) < config.least:
        return Chosen(None, [], {**found, "note": "too few"}, fresh.found, fresh.found.pixels, {})
    source, judged, _ = drawn
    tried = candidate_moves(gan, source.found, seers, config, rng)
    gap = random_gap(judged.found)
    rows = [{**described(move), **effect(gan, judged.found, move, seers).row(gap)} for move in tried]
    best = best_move(rows, config)
    if best is None:
        found["note"] = "no move keeps class and centre"
        return Chosen(None, rows, found, fresh.found, fresh.found.pixels, {})
    after, measured = measure(gan, fresh.found, tried[best], seers, config.random_directions, rng)
    found |= described(tried[best]) | measured
    return Chosen(tried[best], rows, found, fresh.found, after, best_by_method(tried, rows, config))


def nothing_sought(gan: Gan) -> Chosen:
    """What is found for a GAN whose images no detector can be asked about: no move."""
    size, w = gan.config.resolution, torch.zeros(0, gan.config.w_size)
    pixels = torch.zeros(0, gan.config.image_channels, size, size, dtype=torch.uint8)
    none = Latents(w, torch.zeros(0, dtype=torch.int64), pixels, torch.zeros(0))
    return Chosen(None, [], {"note": "no detector"}, none, pixels, {})


def best_by_method(tried: Sequence[Move], rows: Sequence[dict[str, Any]], config: RemovalConfig) -> dict[str, Move]:
    """The best move of each method that has one which keeps class and centre."""
    found = {}
    for method in dict.fromkeys(move.method for move in tried):
        own = [place for place, move in enumerate(tried) if move.method == method]
        best = best_move([rows[place] for place in own], config)
        if best is not None:
            found[method] = tried[own[best]]
    return found


def described(move: Move) -> dict[str, Any]:
    """A move's columns in the tables."""
    layers = "all" if move.layers is None else f"{move.layers[0]} to {move.layers[1]}"
    return {"method": move.method, "direction": move.number, "layers": layers, "step": move.step}


def measure(
    gan: Gan, fresh: Latents, move: Move, seers: Seers, random_directions: int, rng: torch.Generator
) -> tuple[UInt8[Tensor, "n 3 size size"], dict[str, Any]]:
    """The fresh images after the move, and means over them with 95 % intervals beside those of random moves as long."""
    seen, gap = effect(gan, fresh, move, seers), random_gap(fresh)
    row: dict[str, Any] = dict(seen.row(gap))
    share = wilson_share(int(seen.remains.sum()), len(seen.remains))
    change = mean_interval(seen.change.abs(), row["mean_absolute_change"])
    row |= {"remaining_share_low": share.low, "remaining_share_high": share.high}
    row |= {"mean_absolute_change_low": change.low, "mean_absolute_change_high": change.high}
    # A second witness: a move might only fool the detector by which it was chosen.
    row |= {"black_share_before": float(seers.black(fresh.pixels).mean())}
    row |= {"black_share_after": float(seers.black(seen.pixels).mean())}
    baseline = [effect(gan, fresh, other, seers).row(gap) for other in random_moves(move, random_directions, rng)]
    row |= {f"random_{name}": fmean(one[name] for one in baseline) for name in baseline[0]}
    return seen.pixels, {**row, "note": ""}


def draw_pairs(
    gan: Gan, labels: Int64[Tensor, " n"], move: Move | None, seers: Seers, truncation_psi: float, rng: torch.Generator
) -> Pairs:
    """Images of random latents, the same with the artefact moved out, and which ones were moved."""
    w = sample_w(gan, labels, rng, truncation_psi)
    plain = rendered(gan, w)
    edited, seen = plain.clone(), seers.sees(plain)
    if move is None or not seen.any():
        return Pairs(plain, edited, torch.zeros_like(seen))
    edited[seen] = moved_pixels(gan, w[seen.to(w.device)], move)
    return Pairs(plain, edited, seen)


def draw_pairs_of_family(
    family: Family,
    labels: Int64[Tensor, " n"],
    move_of: Mapping[str, Move | None],
    seers: Seers,
    truncation_psi: float,
    rng: torch.Generator,
) -> Pairs:
    """Pairs for each label, drawn and moved by the member that makes it; `move_of` is by the members' names."""
    size = next(iter(family.members.values())).config.resolution
    blank = torch.zeros(len(labels), 3, size, size, dtype=torch.uint8)
    drawn = Pairs(blank, blank.clone(), torch.zeros(len(labels), dtype=torch.bool))
    for name, gan in family.members.items():
        own = torch.isin(labels, torch.tensor(gan.classes))
        if own.any():
            pairs = draw_pairs(gan, labels[own], move_of[name], seers, truncation_psi, rng)
            for part, of_member in zip(drawn, pairs, strict=True):
                part[own] = of_member
    return drawn
