"""Take an artefact (black frames) out of generated images by a move in w that leaves class and lesion as they were.

The unconditional GANs are asked, as in papers/000, section 4.3: they make frames far more often than conditional ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from scipy.stats import binomtest

from skinsynth.artefacts.area import black_shares
from skinsynth.artefacts.detector import Detector, load_detectors
from skinsynth.classifier.classifier import Classifier, load_classifier
from skinsynth.directions.edit import render_strips
from skinsynth.directions.principal import sample_w, within_classes
from skinsynth.directions.removal import (
    Latents,
    Move,
    RemovalConfig,
    Seers,
    best_move,
    draw_with_artefact,
    effect,
    hyperplane_strides,
    latents_at,
    learnt_moves,
    moved_pixels,
    moves,
    random_gap,
    random_moves,
    save_moves,
)
from skinsynth.directions.search import find_axes, spread_evenly
from skinsynth.directions.strips import METHODS, Strip, draw_strips, step_names
from skinsynth.gan.family import load_family
from skinsynth.gan.model import Gan
from skinsynth.images.archive import write_archive
from skinsynth.images.grid import save_grid
from skinsynth.intervals import mean_interval
from skinsynth.quality.classification import positive_label
from skinsynth.settings import Count, Names, NotNegative, Seed, Whole
from skinsynth.stage import best_device, entry_of, load_params, run, write_metrics, write_rows


@dataclass(frozen=True)
class Settings:
    classes: Names
    positive: str  # the class whose probability is to stay
    artefact: str  # whose detector is asked
    directions: Count  # of SeFa and of PCA, tried beside the hyperplanes
    samples: Count  # latents behind PCA, hyperplanes and standard deviations
    least: Count  # images with the artefact; a GAN that makes fewer in most_draws is left as it is
    removal: RemovalConfig
    images: dict[str, Whole]  # of each class, drawn with and without the move
    truncation_psi: NotNegative
    shown: Count  # images in the figure, before and after
    seed: Seed


SETTINGS = Settings
WAY = (-1.0, -0.5, 0.0, 0.5, 1.0)  # of a move, in a strip
STRIPS = 3  # of each method


class Chosen(NamedTuple):
    """What was found for one GAN."""

    move: Move | None
    rows: list[dict[str, Any]]  # every move that was tried
    found: dict[str, Any]  # what is said of it in the table
    before: Latents  # fresh images with the artefact
    after: torch.Tensor
    by_method: dict[str, Move]  # the best of each method that keeps class and centre


def main(
    gans: Annotated[list[Path], "folders of GANs that together make every class"],
    detectors: Annotated[Path, "folder of detectors"],
    classifier: Annotated[Path, "classifier of real images, whose answer is to stay"],
    with_frames: Annotated[Path, "ZIP: images as the GANs make them"],
    frame_free: Annotated[Path, "ZIP: the same latents, those with the artefact moved"],
    chosen_moves: Annotated[Path, "safetensors: each GAN's move, to be applied again; empty where there is none"],
    tried: Annotated[Path, "CSV: every move, and what it does to images with the artefact"],
    measured: Annotated[Path, "CSV: the chosen move on fresh images, beside random moves of its length"],
    figure: Annotated[Path, "images with the artefact before and after the chosen move"],
    strips: Annotated[Path, "a block of rows for each method's best move: the way there and as far the other way"],
    metrics: Annotated[Path, "headlines"],
) -> None:
    """Choose a move for each GAN on some images, measure it on others, then draw a set with and one without frames."""
    settings = load_params("remove_frames", Settings)
    device, positive = best_device(), positive_label(settings.classes, settings.positive)
    family, judge = load_family(gans, device), load_classifier(classifier, device)
    eye = load_detectors(detectors, device).get(settings.artefact)
    if eye is None:  # nothing will be found: all images stay as they are
        settings = replace(settings, removal=replace(settings.removal, most_draws=1))
    seers = seers_of(eye, judge, positive)
    rng = torch.Generator(device).manual_seed(settings.seed)
    chosen = {name: choose(gan, seers, settings, rng) for name, gan in family.members.items()}
    write_rows(tried, [{"gan": name, **row} for name, one in chosen.items() for row in one.rows])
    auc = {"detector_auc": eye.auc if eye else float("nan")}  # a weak detector's shares say little
    write_rows(measured, [{"gan": name, **one.found, **auc} for name, one in chosen.items()])
    save_moves(chosen_moves, {name: one.move for name, one in chosen.items() if one.move is not None})
    show(figure, list(chosen.values()), settings.shown)
    show_strips(strips, family.members, chosen)
    counts = [entry_of(settings.images, name, "remove_frames, images") for name in settings.classes]
    for label in range(len(counts)):
        family.member_name(label)  # a ValueError where nobody makes it
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    plain = torch.zeros(len(labels), 3, *[next(iter(family.members.values())).config.resolution] * 2).byte()
    edited, moved = plain.clone(), torch.zeros(len(labels), dtype=torch.bool)
    for name, gan in family.members.items():
        own = torch.isin(labels, torch.tensor(gan.classes))
        if own.any():
            plain[own], edited[own], moved[own] = draw_pairs(gan, labels[own], chosen[name].move, seers, settings, rng)
    ids = [f"image-{number:06d}" for number in range(len(labels))]
    write_archive(with_frames, ids, plain.numpy(), labels.tolist())
    write_archive(frame_free, ids, edited.numpy(), labels.tolist())
    left = float(seers.sees(edited).double().mean())
    write_metrics(metrics, {**headlines(chosen, float(moved.double().mean()), left), **auc})


def seers_of(eye: Detector | None, judge: Classifier, positive: int) -> Seers:
    """Without a detector nothing is seen in any image."""
    return Seers(
        eye.sees if eye else lambda pixels: torch.zeros(len(pixels), dtype=torch.bool),
        lambda pixels: judge.probabilities(pixels)[:, positive].cpu(),
        eye.excess if eye else lambda images: torch.full([len(images)], -torch.inf),
        lambda images: judge.logits_differentiable(images).softmax(dim=1)[:, positive],
    )


def choose(gan: Gan, seers: Seers, settings: Settings, rng: torch.Generator) -> Chosen:
    """The best move by one set of images with the artefact, measured on another."""
    config = settings.removal
    shown, fresh = (draw_with_artefact(gan, gan.classes, seers, config, settings.truncation_psi, rng) for _ in range(2))
    found: dict[str, Any] = {"draws": fresh.draws, "with_artefact": fresh.seen, "images": len(fresh.found.labels)}
    if min(len(shown.found.labels), len(fresh.found.labels)) < settings.least:
        return Chosen(None, [], {**found, "note": "too few"}, fresh.found, fresh.found.pixels, {})
    semantic, principal = find_axes(gan, settings.directions, None, settings.samples, rng)
    candidates = {one.method: one.strides for one in (semantic, principal)}
    candidates |= hyperplane_strides(gan, gan.classes, seers, shown.found, settings.samples, rng)
    labels = spread_evenly(gan.classes, settings.samples)
    w = within_classes(sample_w(gan, labels, rng), labels)
    tried, gap = list(moves(candidates, config)), random_gap(shown.found)
    tried += learnt_moves(gan, shown.found, w, seers, config, rng)
    rows = [{**described(move), **effect(gan, shown.found, move, seers).row(gap)} for move in tried]
    best = best_move(rows, config)
    if best is None:
        found["note"] = "no move keeps class and centre"
        return Chosen(None, rows, found, fresh.found, fresh.found.pixels, {})
    found |= described(tried[best]) | measure(gan, fresh.found, tried[best], seers, config.random_directions, rng)
    after = moved_pixels(gan, fresh.found.w, tried[best])
    return Chosen(tried[best], rows, found, fresh.found, after, best_by_method(tried, rows, config))


def best_by_method(tried: Sequence[Move], rows: Sequence[dict[str, Any]], config: RemovalConfig) -> dict[str, Move]:
    """Of each method that has one."""
    found = {}
    for method in dict.fromkeys(move.method for move in tried):
        own = [place for place, move in enumerate(tried) if move.method == method]
        best = best_move([rows[place] for place in own], config)
        if best is not None:
            found[method] = tried[own[best]]
    return found


def described(move: Move) -> dict[str, Any]:
    """Its columns in the tables."""
    layers = "all" if move.layers is None else f"{move.layers[0]} to {move.layers[1]}"
    return {"method": move.method, "direction": move.number, "layers": layers, "step": move.step}


def measure(
    gan: Gan, fresh: Latents, move: Move, seers: Seers, random_directions: int, rng: torch.Generator
) -> dict[str, Any]:
    """Means over fresh images with 95 % intervals, and the same means of random moves of that length."""
    seen, gap = effect(gan, fresh, move, seers), random_gap(fresh)
    row: dict[str, Any] = dict(seen.row(gap))
    share = binomtest(int(seen.remains.sum()), len(seen.remains)).proportion_ci(method="wilson")
    change = mean_interval(seen.change.abs(), row["mean_absolute_change"])
    row |= {"remaining_share_low": float(share.low), "remaining_share_high": float(share.high)}
    row |= {"mean_absolute_change_low": change.low, "mean_absolute_change_high": change.high}
    # A second witness: a move might only fool the detector by which it was chosen.
    after = moved_pixels(gan, fresh.w, move)
    row |= {"black_share_before": float(black_shares(fresh.pixels.numpy()).mean())}
    row |= {"black_share_after": float(black_shares(after.numpy()).mean())}
    baseline = [effect(gan, fresh, other, seers).row(gap) for other in random_moves(move, random_directions, rng)]
    return row | {f"random_{name}": fmean(one[name] for one in baseline) for name in baseline[0]} | {"note": ""}


def draw_pairs(
    gan: Gan, labels: torch.Tensor, move: Move | None, seers: Seers, settings: Settings, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images of random latents, the same with the artefact moved out, and which ones were moved."""
    before = latents_at(gan, sample_w(gan, labels, rng, settings.truncation_psi), labels, seers)
    after, seen = before.pixels.clone(), seers.sees(before.pixels)
    if move is None or not seen.any():
        return before.pixels, after, torch.zeros_like(seen)
    after[seen] = moved_pixels(gan, before.w[seen.to(before.w.device)], move)
    return before.pixels, after, seen


def show(figure: Path, chosen: Sequence[Chosen], count: int) -> None:
    """Each fresh image with the artefact beside what the move makes of it, GAN by GAN."""
    moved = [one for one in chosen if one.move is not None] or list(chosen)
    pairs = [torch.stack([one.before.pixels, one.after], dim=1)[:count].flatten(0, 1) for one in moved]
    pixels = torch.cat(pairs).numpy()
    if not len(pixels):
        pixels = np.full((2, *pixels.shape[1:]), 255, dtype=np.uint8)  # no GAN makes the artefact: an empty picture
    save_grid(figure, pixels, columns=16, scale=max(1, 64 // pixels.shape[-1]))


def show_strips(path: Path, members: dict[str, Gan], chosen: dict[str, Chosen]) -> None:
    """Of each method three images, from the opposite of its best move over the image itself to the move."""
    strips = [
        Strip(labelled(name, move), strip.numpy())
        for name, one in chosen.items()
        for move in one.by_method.values()
        for strip in render_strips(
            members[name].generator, every_layer(members[name], one.before), move.vector, WAY, move.layers
        )
    ]
    size = next(iter(members.values())).config.resolution
    blank = Strip("no move found", np.full((len(WAY), 3, size, size), 255, dtype=np.uint8))
    title = "Parts of each method's best move, on the left of its opposite (SD: standard deviation of w)"
    draw_strips(path, title, step_names(WAY), strips or [blank])


def labelled(name: str, move: Move) -> str:
    """A move of one GAN, as a strip names it."""
    about = described(move)
    method = METHODS.get(move.method, move.method)
    layers = "all layers" if move.layers is None else f"layers {about['layers']}"
    return f"{name}: {method} {move.number}\n{move.step:+.2g} SD, {layers}"


def every_layer(gan: Gan, images: Latents) -> torch.Tensor:
    """The first latents, one w for each layer."""
    return images.w[:STRIPS, None].expand(-1, gan.generator.synthesis.layer_count, -1)


def headlines(chosen: dict[str, Chosen], moved: float, left: float) -> dict[str, Any]:
    """Of the GAN that makes the artefact most often; shares of the drawn set that were moved and that keep it."""
    name, one = max(chosen.items(), key=lambda item: item[1].found["with_artefact"] / item[1].found["draws"])
    wanted = ("remaining_share", "random_remaining_share", "mean_absolute_change", "centre_change")
    return {
        "gan": name,
        "artefact_share": one.found["with_artefact"] / one.found["draws"],
        **{key: one.found.get(key, float("nan")) for key in wanted},
        "moved_share_of_drawn_images": moved,
        "artefact_share_of_frame_free_images": left,
    }


if __name__ == "__main__":
    run(main)
