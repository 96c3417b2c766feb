"""Take an artefact (black frames) out of generated images by a move in w that leaves class and lesion as they were.

The unconditional GANs are asked, as in papers/000, section 4.3: they make frames far more often than conditional ones.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from skinsynth.artefacts.area import black_shares
from skinsynth.artefacts.detector import Detector, load_detectors
from skinsynth.classifier.classifier import Classifier, load_classifier
from skinsynth.directions.choice import Chosen, choose, described, draw_pairs_of_family, nothing_sought
from skinsynth.directions.edit import render_strips
from skinsynth.directions.removal import Move, RemovalConfig, Seers, save_moves
from skinsynth.directions.strips import METHODS, Strip, draw_strips, step_names
from skinsynth.gan.family import load_family
from skinsynth.gan.model import Gan
from skinsynth.images.archive import numbered_ids, write_archive
from skinsynth.quality.classification import positive_label
from skinsynth.quality.proportions import labels_of_counts
from skinsynth.settings import Count, Names, Seed, Whole
from skinsynth.stage import best_device, entry_of, load_params, run, write_metrics, write_rows


@dataclass(frozen=True)
class Settings:
    classes: Names
    positive: str  # the class whose probability is to stay
    artefact: str  # whose detector is asked
    removal: RemovalConfig
    images: dict[str, Whole]  # of each class, drawn with and without the move
    shown: Count  # images in the figure, before and after
    seed: Seed


SETTINGS = Settings
WAY = (-1.0, -0.5, 0.0, 0.5, 1.0)  # of a move, in a strip
STRIPS = 3  # of each method
ABREAST = 8  # pairs in a row of the figure


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
    strips: Annotated[Path, "for each method, images from the opposite of its best move to the move itself"],
    metrics: Annotated[Path, "headlines"],
) -> None:
    """Choose a move for each GAN on some images, measure it on others, then draw a set with and one without frames."""
    settings = load_params("remove_frames", Settings)
    device, positive = best_device(), positive_label(settings.classes, settings.positive)
    family, judge = load_family(gans, device), load_classifier(classifier, device)
    counts = [entry_of(settings.images, name, "remove_frames, images") for name in settings.classes]
    family.check_makes(range(len(counts)))
    eye = load_detectors(detectors, device).get(settings.artefact)
    seers = seers_of(eye, judge, positive)
    rng = torch.Generator(device).manual_seed(settings.seed)
    chosen = {
        name: choose(gan, seers, settings.removal, rng) if eye else nothing_sought(gan)
        for name, gan in family.members.items()
    }
    write_rows(tried, [{"gan": name, **row} for name, one in chosen.items() for row in one.rows])
    auc = {"detector_auc": eye.auc if eye else math.nan}  # a weak detector's shares say little
    write_rows(measured, [{"gan": name, **one.found, **auc} for name, one in chosen.items()])
    move_of = {name: one.move for name, one in chosen.items()}
    save_moves(chosen_moves, {name: move for name, move in move_of.items() if move is not None})
    show(figure, chosen, settings.shown)
    show_strips(strips, family.members, chosen)
    labels = labels_of_counts(counts)
    drawn = draw_pairs_of_family(family, labels, move_of, seers, settings.removal.truncation_psi, rng)
    ids = numbered_ids("image", len(labels))
    write_archive(with_frames, ids, drawn.plain.numpy(), labels.tolist())
    write_archive(frame_free, ids, drawn.edited.numpy(), labels.tolist())
    left = float(seers.sees(drawn.edited).double().mean()) if eye else math.nan
    write_metrics(metrics, {**headlines(chosen, float(drawn.moved.double().mean()), left), **auc})


def seers_of(eye: Detector | None, judge: Classifier, positive: int) -> Seers:
    """Who looks at the images; without a detector the artefact is seen in none."""
    return Seers(
        sees=eye.sees if eye else lambda pixels: torch.zeros(len(pixels), dtype=torch.bool),
        answers=lambda pixels: judge.probabilities(pixels)[:, positive].cpu(),
        black=lambda pixels: torch.from_numpy(black_shares(pixels.numpy())),
        excess=eye.excess if eye else lambda images: torch.full([len(images)], -math.inf),
        probability=lambda images: judge.logits_differentiable(images).softmax(dim=1)[:, positive],
    )


def show(figure: Path, chosen: dict[str, Chosen], count: int) -> None:
    """Draw each fresh image with the artefact beside what the move makes of it, GAN by GAN."""
    rows = [
        Strip(f"{name}: before, after" if one.move else f"{name}: no move found", row)
        for name, one in chosen.items()
        for row in in_rows(torch.stack([one.before.pixels, one.after], dim=1)[:count].numpy())
    ]
    blank = np.full((2 * ABREAST, *next(iter(chosen.values())).after.shape[1:]), 255, dtype=np.uint8)
    title = "Fresh generated images with the artefact, each beside itself after the chosen move"
    draw_strips(figure, title, [""] * (2 * ABREAST), rows or [Strip("no image with it", blank)])


def in_rows(pairs: np.ndarray) -> list[np.ndarray]:
    """Pairs side by side, the last row filled with white."""
    missing = -len(pairs) % ABREAST
    filled = np.concatenate([pairs, np.full((missing, *pairs.shape[1:]), 255, dtype=np.uint8)])
    return list(filled.reshape(-1, 2 * ABREAST, *pairs.shape[2:]))


def show_strips(path: Path, members: dict[str, Gan], chosen: dict[str, Chosen]) -> None:
    """Draw three images for each method, from the opposite of its best move over the image itself to the move."""
    strips = [
        Strip(labelled(name, move), strip.numpy())
        for name, one in chosen.items()
        for generator in [members[name].generator]
        for ws in [generator.mapping.every_layer(one.before.w[:STRIPS])]
        for move in one.by_method.values()
        for strip in render_strips(generator, ws, move.vector, WAY, move.layers)
    ]
    size = next(iter(members.values())).config.resolution
    blank = Strip("no move found", np.full((len(WAY), 3, size, size), 255, dtype=np.uint8))
    title = "Parts of each method's best move, on the left of its opposite (SD: standard deviation of w)"
    draw_strips(path, title, step_names(WAY), strips or [blank])


def labelled(name: str, move: Move) -> str:
    """A move of one GAN, as a strip names it."""
    about = described(move)
    method = f"{METHODS[move.method]} {move.number}" if move.method in METHODS else move.method
    layers = "all layers" if move.layers is None else f"layers {about['layers']}"
    return f"{name}: {method}\n{move.step:+.2g} SD, {layers}"


def headlines(chosen: dict[str, Chosen], moved: float, left: float) -> dict[str, Any]:
    """Numbers of the GAN with the artefact most often; shares of the drawn set that were moved and that keep it."""
    asked = {name: one.found for name, one in chosen.items() if "draws" in one.found}
    share_of = {name: found["with_artefact"] / found["draws"] for name, found in asked.items()}
    name = max(chosen, key=lambda name: share_of.get(name, -1))
    wanted = ("remaining_share", "random_remaining_share", "mean_absolute_change", "centre_change")
    return {
        "gan": name,
        "artefact_share": share_of.get(name, math.nan),
        **{key: chosen[name].found.get(key, math.nan) for key in wanted},
        "moved_share_of_drawn_images": moved,
        "artefact_share_of_frame_free_images": left,
    }


if __name__ == "__main__":
    run(main)
