"""What differential privacy of whole hospitals costs: FID of the federation's GAN against epsilon, with pictures.

    python benchmarks/federated_privacy.py [--rounds 4] [--steps 50] [--out docs/results/federated_privacy]

Needs the images, split and classifier of a finished `dvc repro`, in the project's root. Settings are those of
train_federated in params.yaml with FedAvg and the split's hospitals, but for the rounds and the privacy. The run
without privacy comes first: the median length of its updates is the clipping norm of all others. All runs have the same
seeds, also that of the noise; a killed benchmark goes on where it was. The rows are printed as JSON, and stand with a
chart and strips of images in privacy.csv and privacy.png.
"""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable, Mod
from matplotlib.figure import Figure
from tqdm import tqdm

from benchmarks.federations import SHOWN, Judged, Row, Study, command, federate, strip_of, study_of
from benchmarks.gans import CLASSIFIER
from skinsynth.classifier.classifier import load_classifier
from skinsynth.features.extractor import ModelExtractor
from skinsynth.features.levels import Levels
from skinsynth.federated.hospital import Weights, networks_in
from skinsynth.federated.messages import ARRAYS, CONFIG, HOSPITAL, weights_in
from skinsynth.federated.privacy import AdaptiveConfig, PrivacyConfig, spent
from skinsynth.federated.server import FederationConfig, FederationState
from skinsynth.federated.strategies import StrategyConfig
from skinsynth.images.archive import Images
from skinsynth.images.grid import image_grid
from skinsynth.partition.split import images_of, read_split
from skinsynth.quality.by_class import features_of
from skinsynth.quality.curve import CurveScorer
from skinsynth.report.png import save_figure
from skinsynth.stage import best_device, write_rows

SPLIT = Path("data/splits/main.csv")
DELTA = 1e-5
NOISE_SEED = 1  # a benchmark is to be repeated; who protects somebody leaves it out
NO_NOISE = 1e-6  # the noise multiplier of equal weights and clipping alone
NOISE = (0.01, 0.03, 0.1, 0.3, 1.0)
# One more run, whose norm begins too small and is to find its place in few rounds.
ADAPTIVE_NOISE, ADAPTIVE_START = 0.03, 0.25
ADAPTIVE = AdaptiveConfig(target_clipped_quantile=0.5, clip_norm_lr=1.0, clipped_count_stddev=0.5)
# Pixels of the figure.
SCALE, MARGIN, CHART, LINE = 2, 12, 520, 20


class Run(NamedTuple):
    name: str
    privacy: PrivacyConfig | None


def main() -> None:
    """Print one JSON object; write privacy.csv and privacy.png."""
    command("federated_privacy", __doc__, 50, SPLIT, compare)


def compare(rounds: int, steps: int, out: Path) -> Row:
    """All runs, one after the other, then the table and the figure."""
    split = images_of(read_split(SPLIT), "train")
    hospitals = split["hospital"].nunique()
    study = study_of("federated_privacy", split, lambda own: federation_of(own, rounds, steps, hospitals), [SPLIT])
    judged = [judge(study, Run("untrained start", None), FederationState(study.start))]
    with tqdm(total=3 + len(NOISE), unit="run") as bar:
        free = Run("no privacy", None)
        measured = study.checkpoints / "lengths.jsonl"
        judged.append(judge(study, free, federate(study, free.name, study.federation, [measuring(measured)])))
        bar.update()
        lengths = lengths_in(measured)
        norm = float(f"{lengths['length'].median():.2g}")
        for run in private_runs(norm):
            federation = replace(study.federation, privacy=run.privacy)
            judged.append(judge(study, run, federate(study, run.name, federation)))
            bar.update()
    rows = [one.row for one in judged]
    write_rows(out / "privacy.csv", rows)
    draw(out / "privacy.png", judged)
    shutil.rmtree(study.checkpoints, ignore_errors=True)
    settings = {
        "rounds": rounds,
        "steps_per_round": steps,
        "hospitals": study.rows["hospital"].value_counts().to_dict(),
        "averaged_weights": weight_count(study.start),
        "unclipped_update_lengths": lengths.pivot_table(index="hospital", columns="round", values="length")
        .round(2)
        .to_dict("index"),
        "median_update_length": float(lengths["length"].median()),
        "clipping_norm": norm,
    }
    return {"settings": settings, "rows": rows}


def federation_of(config: FederationConfig, rounds: int, steps: int, hospitals: int) -> FederationConfig:
    """One that needs everybody and goes on whatever comes: a run that no round changes any more is a result here."""
    return replace(
        config,
        rounds=rounds,
        steps_per_round=steps,
        strategy=StrategyConfig("FedAvg", {}),
        least_hospitals=hospitals,
        patience_rounds=rounds + 1,
        privacy=None,
    )


def private_runs(norm: float) -> list[Run]:
    """Clipping alone, more and more noise, and noise on a norm that adapts."""

    def noisy(multiplier: float) -> PrivacyConfig:
        return PrivacyConfig("server", multiplier, norm, None, DELTA, None, NOISE_SEED)

    adaptive = replace(noisy(ADAPTIVE_NOISE), clipping_norm=ADAPTIVE_START * norm, adaptive=ADAPTIVE)
    return [
        Run("equal weights, clipped", noisy(NO_NOISE)),
        *(Run(f"noise {multiplier:g}", noisy(multiplier)) for multiplier in NOISE),
        Run(f"noise {ADAPTIVE_NOISE:g}, adaptive", adaptive),
    ]


def measuring(path: Path) -> Mod:
    """Appends the length of every update, over all averaged weights, as a line of JSON."""

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        sent = {name: tensor.double() for name, tensor in weights_in(message.content.array_records[ARRAYS]).items()}
        number = int(message.content.config_records[CONFIG]["server-round"])  # type: ignore[arg-type]
        reply = call_next(message, context)
        if ARRAYS in reply.content.array_records:
            trained = weights_in(reply.content.array_records[ARRAYS])
            length = math.hypot(*(float((trained[name] - own).norm()) for name, own in sent.items()))
            hospital = reply.content.config_records[HOSPITAL]["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(json.dumps({"round": number, "hospital": hospital, "length": length}) + "\n")
        return reply

    return mod


def lengths_in(path: Path) -> pd.DataFrame:
    """Each visit once: a round that was cut off has been measured again."""
    if not path.is_file() or not path.read_text():
        raise ValueError(f"no update was measured without privacy: remove {path.parent} and start again")
    return pd.read_json(path, lines=True).drop_duplicates(["round", "hospital"], keep="last")


def weight_count(weights: Weights) -> int:
    """The numbers that travel, each of which gets noise."""
    return sum(tensor.numel() for tensor in weights.values())


def judge(study: Study, run: Run, state: FederationState) -> Judged:
    """What was spent, and FID and KID against all training images in two kinds of features."""
    scorer, privacy = study.scorer, run.privacy
    generator, _ = networks_in(state.weights, study.like)
    scores = scorer(generator) | by_levels(scorer, study.real)(generator)
    row: Row = {"run": run.name, "noise_multiplier": None, "clipping_norm_at_start": None, "clipping_norm_at_end": None}
    row |= {"adaptive": None, "noise_length_at_end": None, "epsilon": None, "delta": None}
    if privacy is not None:
        reached = state.rounds[-1]["clipping_norm"]
        share = privacy.noise_multiplier * reached / len(study.hospitals)
        row |= {
            "noise_multiplier": privacy.noise_multiplier,
            "clipping_norm_at_start": privacy.clipping_norm,
            "clipping_norm_at_end": reached,  # of the last round
            "adaptive": privacy.adaptive is not None,
            "noise_length_at_end": share * math.sqrt(weight_count(state.weights)),  # expected, of that round
            **spent(privacy, state.releases),
        }
    row |= {
        "fid_classifier": scores[f"fid_{scorer.extract.name}"],
        "kid_classifier_percent": scores[f"kid_{scorer.extract.name}_percent"],
        "fid_classifier_levels": scores["fid_classifier_levels"],
        "kid_classifier_levels_percent": scores["kid_classifier_levels_percent"],
        "images_in_all": state.images_shown,
        "incidents": len(state.incidents),
    }
    return Judged(row, strip_of(scorer.sample(generator, scorer.images)))


def by_levels(scorer: CurveScorer, real: Images) -> CurveScorer:
    """The same in features of all the classifier's levels, which see noise that its last ones do not."""
    extract = ModelExtractor("classifier_levels", Levels(load_classifier(CLASSIFIER, best_device())))
    return replace(scorer, extract=extract, real=features_of(extract, real))


def draw(path: Path, judged: Sequence[Judged]) -> None:
    """FID against epsilon on the left; a strip of images for each run on the right, laid pixel by pixel."""
    side = SCALE * judged[0].strip.shape[-1]
    width, height = CHART + SHOWN * side + 2 * MARGIN, len(judged) * (side + LINE + MARGIN) + MARGIN
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    draw_chart(figure, [one.row for one in judged], (0.15 * CHART / width, 0.3, 0.78 * CHART / width, 0.5))
    for line, one in enumerate(judged):
        top = MARGIN + line * (side + LINE + MARGIN)
        figure.text(CHART / width, 1 - top / height, caption(one.row), fontsize=9, va="top")
        strip = np.asarray(image_grid(one.strip, SHOWN, SCALE))
        figure.figimage(strip, xo=CHART, yo=height - top - LINE - side, origin="upper")
    save_figure(path, figure, figure.dpi)


def draw_chart(figure: Figure, rows: Sequence[Row], place: tuple[float, float, float, float]) -> None:
    """Runs with noise as points; the others, whose epsilon is infinite or nearly so, as lines."""
    axes = figure.add_axes(place)
    noisy = [row for row in rows if row["epsilon"] is not None and row["noise_multiplier"] > NO_NOISE]
    for adaptive, style in ((False, "o-"), (True, "s")):
        points = [row for row in noisy if row["adaptive"] is adaptive]
        label = "noise, norm adapts" if adaptive else "noise, norm fixed"
        axes.loglog(
            [row["epsilon"] for row in points], [row["fid_classifier_levels"] for row in points], style, label=label
        )
    lines = [row for row in rows if row not in noisy]
    for row, style in zip(lines, ("k:", "k-", "k--"), strict=True):
        axes.axhline(row["fid_classifier_levels"], color=style[0], linestyle=style[1:], linewidth=1, label=row["run"])
    axes.set_xlabel(f"epsilon at a delta of {DELTA:g} (left: more private)")
    axes.set_ylabel("FID in features of all the classifier's levels")
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.02), ncols=2)


def caption(row: Row) -> str:
    """What stands above a strip."""
    epsilon = "" if row["epsilon"] is None else f", epsilon {row['epsilon']:,.4g}"
    fid = f"FID {row['fid_classifier_levels']:,.4g} (all levels), {row['fid_classifier']:,.4g} (last)"
    return f"{row['run']}{epsilon}: {fid}"


if __name__ == "__main__":
    main()
