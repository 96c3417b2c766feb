"""A hostile hospital among seven: what it leaves of each strategy's GAN, in numbers and pictures.

    python benchmarks/federated_attack.py [--rounds 4] [--steps 30] [--out docs/results/federated_attack]

Needs the images, lesions and classifier of a finished `dvc repro`, in the project's root. Settings are those of
train_federated in params.yaml, but for the rounds, the strategy and the hospitals: the training patients are dealt out
anew to seven of equal size. Each strategy runs with all of them honest, and with one that trains as it should and then
sends something else: its weights times 100, or its update reversed. All runs have the same seeds; a killed benchmark
goes on where it was. The rows are printed as JSON, and stand with strips of images in attack.csv and attack.png.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable, Mod
from jaxtyping import UInt8
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from benchmarks.federations import SHOWN, Judged, Row, Study, command, federate, strip_of, study_of
from skinsynth.federated.hospital import Weights, networks_in
from skinsynth.federated.messages import ARRAYS, arrays_of, weights_in
from skinsynth.federated.server import FederationConfig, FederationState
from skinsynth.federated.strategies import StrategyConfig
from skinsynth.gan.model import Gan
from skinsynth.images.grid import image_grid
from skinsynth.lesions.table import read_lesions
from skinsynth.partition.split import SplitConfig, images_of, split_patients
from skinsynth.quality.curve import CurveScorer
from skinsynth.quality.fidelity import distances_of_parts
from skinsynth.quality.half_samples import half_sample_intervals
from skinsynth.report.png import save_figure
from skinsynth.stage import load_params, write_rows

LESIONS = Path("data/lesions.csv")
HOSPITALS = tuple("abcdefg")  # Bulyan resists one of seven, and of no fewer
HOSTILE = "g"
FACTOR = 100
HONEST = "honest"
START = f"start-{HONEST}"
STRATEGIES = (
    StrategyConfig("FedAvg", {}),
    StrategyConfig("FedMedian", {}),
    StrategyConfig("FedTrimmedAvg", {"beta": 0.2}),
    StrategyConfig("Krum", {"num_malicious_nodes": 1}),
    StrategyConfig("Bulyan", {"num_malicious_nodes": 1}),
)
INTERVAL_DRAWS = 10
COLLAPSED = 0.1  # of the real images' diversity
# Pixels of the figure.
SCALE, MARGIN, LABELS, LINE = 2, 12, 130, 24


Attack = Callable[[Weights, Weights], Weights]


def scaled(_: Weights, own: Weights) -> Weights:
    """Its weights, far too large."""
    return {name: FACTOR * tensor for name, tensor in own.items()}


def reversed_update(sent: Weights, own: Weights) -> Weights:
    """As far from the federation's weights as its training went, the other way: w - (w_own - w)."""
    return {name: 2 * sent[name] - tensor for name, tensor in own.items()}


ATTACKS: dict[str, Attack] = {"scaled": scaled, "reversed": reversed_update}
# Columns of the figure.
TITLES = {
    HONEST: "seven honest hospitals",
    "scaled": f"one of the seven sends its weights times {FACTOR}",
    "reversed": "one of the seven reverses its update",
}


class Run(NamedTuple):
    """A strategy with all hospitals honest, or with one that attacks."""

    strategy: StrategyConfig
    conduct: str  # HONEST, or a key of ATTACKS

    @property
    def name(self) -> str:
        return f"{self.strategy.name}-{self.conduct}"


def main() -> None:
    """Print one JSON object; write attack.csv and attack.png."""
    command("federated_attack", __doc__, 30, LESIONS, compare)


def compare(rounds: int, steps: int, out: Path) -> Row:
    """All runs, one after the other, then the table and the figure."""
    dealt = deal_out(read_lesions(LESIONS), load_params("split_patients", SplitConfig))
    study = study_of(
        "federated_attack",
        images_of(dealt, "train"),
        lambda own: federation_of(own, rounds, steps),
        [LESIONS],
        (STRATEGIES, FACTOR),
    )
    judged = {START: judge(study, "untrained start", HONEST, FederationState(study.start))}
    incidents = {}
    for run in tqdm([Run(strategy, conduct) for strategy in STRATEGIES for conduct in TITLES], unit="run"):
        federation = replace(study.federation, strategy=run.strategy)
        state = federate(study, run.name, federation, mods_of(run.conduct))
        judged[run.name] = judge(study, run.strategy.name, run.conduct, state)
        incidents[run.name] = state.incidents
    rows = [one.row for one in judged.values()]
    write_rows(out / "attack.csv", rows)
    draw(out / "attack.png", judged)
    shutil.rmtree(study.checkpoints, ignore_errors=True)
    settings = {
        "rounds": rounds,
        "steps_per_round": steps,
        "hospitals": study.rows["hospital"].value_counts().sort_index().to_dict(),
        "hostile": HOSTILE,
        "factor": FACTOR,
        "strategies": {strategy.name: strategy.options for strategy in STRATEGIES},
    }
    return {"settings": settings, "rows": rows, "incidents": incidents}


def federation_of(config: FederationConfig, rounds: int, steps: int) -> FederationConfig:
    """One that goes on whatever comes: a run that no round changes any more is ruined, which is a result here."""
    return replace(
        config, rounds=rounds, steps_per_round=steps, patience_rounds=rounds + 1, rounds_per_score=rounds, privacy=None
    )


def deal_out(lesions: pd.DataFrame, config: SplitConfig) -> pd.DataFrame:
    """The study's own sides, with the patients of train at seven hospitals of equal size."""
    return split_patients(lesions, replace(config, hospitals=dict.fromkeys(HOSPITALS, 1.0), class_skew=None))


def mods_of(conduct: str) -> list[Mod]:
    """What changes the hostile hospital's replies, if there is one."""
    return [] if conduct == HONEST else [hostile(HOSTILE, ATTACKS[conduct])]


def hostile(hospital: str, attack: Attack) -> Mod:
    """Changes the weights that one hospital sends; a round that failed there stays failed."""

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        sent = weights_in(message.content.array_records[ARRAYS])
        reply = call_next(message, context)
        if context.node_config["hospital"] == hospital and ARRAYS in reply.content.array_records:
            own = weights_in(reply.content.array_records[ARRAYS])
            reply.content[ARRAYS] = arrays_of(attack(sent, own))
        return reply

    return mod


def judge(study: Study, name: str, conduct: str, state: FederationState) -> Judged:
    """FID and KID against all training images with intervals over images, and whether the images differ at all."""
    scorer = study.scorer
    generator, discriminator = networks_in(state.weights, study.like)
    pixels = scorer.sample(generator, scorer.images)
    found: Row = dict.fromkeys(("fid", "fid_low", "fid_high", "kid_percent", "kid_percent_low", "kid_percent_high"))
    finite = draws_numbers(Gan(generator, discriminator, scorer.classes), scorer)
    if finite:
        rng = torch.Generator().manual_seed(scorer.seed)  # the same halves of the real images in every run
        made = scorer.extract(pixels)
        intervals = half_sample_intervals(distances_of_parts, scorer.real.features, made, INTERVAL_DRAWS, rng)
        for metric, interval in intervals.items():
            found |= {metric: interval.value, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
    spread = diversity(pixels) / diversity(torch.from_numpy(study.real.pixels)) if finite else None
    row = {
        "strategy": name,
        "hostile_hospitals": int(conduct != HONEST),
        "attack": "none" if conduct == HONEST else conduct,
        "rounds": state.round,
        "rounds_that_changed_the_weights": sum(row["changed"] for row in state.rounds),
        "images_in_all": state.images_shown,
        "extractor": scorer.extract.name,
        **found,
        "diversity_by_that_of_real": spread,
        "images_are": "not finite" if spread is None else "collapsed" if spread < COLLAPSED else "varied",
        "incidents": len(state.incidents),
    }
    return Judged(row, strip_of(pixels))


def draws_numbers(gan: Gan, scorer: CurveScorer) -> bool:
    """Whether a batch of images of the last class has no NaN, which pixels would hide."""
    rng = torch.Generator(gan.device).manual_seed(scorer.seed)
    z = torch.randn(scorer.batch_size, gan.config.z_size, generator=rng, device=rng.device)
    images = gan.sample(z, torch.full((scorer.batch_size,), scorer.classes[-1]))
    return bool(images.isfinite().all())


def diversity(pixels: UInt8[Tensor, "n 3 height width"]) -> float:
    """Standard deviation of a pixel over the images, on average over pixels."""
    return float(pixels.float().std(dim=0).mean())


def draw(path: Path, judged: dict[str, Judged]) -> None:
    """One line a strategy, one strip of images a conduct.

    Strips are laid pixel by pixel, so that nothing is smoothed and the file stays small.
    """
    names = ["start", *(strategy.name for strategy in STRATEGIES)]
    side = SCALE * judged[START].strip.shape[-1]
    width, height = LABELS + len(TITLES) * (SHOWN * side + MARGIN), LINE + len(names) * (side + LINE + MARGIN)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)

    def say(text: str, left: float, top: float) -> None:
        figure.text(left / width, 1 - top / height, text, fontsize=9, va="top")

    for line, name in enumerate(names):
        top = LINE + line * (side + LINE + MARGIN)
        say("untrained start" if name == "start" else name, MARGIN, top + side / 2)
        for column, (conduct, title) in enumerate(TITLES.items()):
            left = LABELS + column * (SHOWN * side + MARGIN)
            if line == 0:
                say(title, left, MARGIN / 2)
            if (one := judged.get(f"{name}-{conduct}")) is not None:
                strip = np.asarray(image_grid(one.strip, SHOWN, SCALE))
                figure.figimage(strip, xo=left, yo=height - top - side, origin="upper")
                say(caption(one.row), left, top + side + 3)
    save_figure(path, figure, figure.dpi)


def caption(row: Row) -> str:
    """What stands under a strip."""
    lost = row["rounds"] - row["rounds_that_changed_the_weights"]
    note = f"; {lost} of {row['rounds']} rounds changed nothing" if lost else ""
    if row["images_are"] != "varied":
        note = f"; {row['images_are']}{note}"
    if row["fid"] is None:
        return f"no FID{note}"
    return f"FID {short(row['fid'])} ({short(row['fid_low'])} to {short(row['fid_high'])}){note}"


def short(value: float) -> str:
    """As many digits as say something."""
    return f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
