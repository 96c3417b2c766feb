"""Bring the results of a finished run to docs/results/<scale>/: tables with intervals, metrics, synthetic images.

    python benchmarks/results.py [--run FOLDER]

The scale is that of the run's params.yaml. Its folder is replaced as a whole; where the run lacks a file, the folder
stays as it was. Carried over unchanged is what other commands wrote there: federated_wall_time.png
(federated_wall_time.py), run.json and federation-run.json (real_files.py). Any other file goes.

Nothing that shows a real image is touched; of the phantom, which shows nobody, its drawings come too.
"""

import argparse
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks.answers import answers
from benchmarks.beside import ROOT
from skinsynth.files import folder_written_whole
from skinsynth.images.archive import read_archive
from skinsynth.images.grid import save_grid
from skinsynth.tables import write_table

HOME = ROOT / "docs/results"
OF_OTHER_COMMANDS = ("federated_wall_time.png", "run.json", "federation-run.json")
FEDERATION_PICTURES = ("metrics/score_federated/curves.png", "metrics/train_federated/federated/samples.png")
FEDERATION_FILES = ("metrics/score_federated/models.csv", "metrics/score_federated/reach.csv")
PICTURES = (
    "metrics/generate_images/selected.png",
    "metrics/measure_dose_response/curve.png",
    "metrics/find_directions/strips.png",
    "metrics/remove_frames/frames.png",
    "metrics/remove_frames/strips.png",
    "metrics/embed_images/maps.png",
    "metrics/score_authenticity/details/histogram.png",
)
# These show the images themselves: of the phantom alone, whose lesions are nobody's.
PHANTOM_PICTURES = (
    "metrics/explain_classifier/regions.png",
    "metrics/score_authenticity/nearest_pairs.png",
    "metrics/audit_artefacts/pasted.png",
)
SUBGROUPS_OF = ("real", "aug-cgan-no-color")
FILES = (
    *(f"metrics/write_tables/tables/table{number}.{kind}" for number in (1, 2) for kind in ("csv", "tex")),
    "metrics/select_gan/ranking.csv",
    "metrics/measure_dose_response/curve.csv",
    "metrics/audit_artefacts/traits.csv",
    "metrics/find_directions/effects.csv",
    "metrics/remove_frames/measured.csv",
    "metrics/embed_images/clusters.csv",
    *(
        f"metrics/score_authenticity/details/{name}.csv"
        for name in (
            *("judged", "pixels", "copies", "copies_of_held_out", "disguises", "planted"),
            *("authenticity", "distances", "attacks"),
        )
    ),
    "metrics/check_release/release.md",
)
HOW_NEW = (
    "Authenticity: the share of images that are further from their nearest training image than the nearest other "
    "training image is from that one; 0 for copies; what held-out real images score is what new ones would. Copying "
    "statistic (C_T): a z-score, 0 where images lie as far from training as held-out ones do, below -2 nearer and "
    "above 2 further than chance allows; by cells, the same within parts of the space. Smooth images lie near to "
    "everything: of strangers, C_T with half of the held-out patients in the place of training, from whom nothing was "
    "learnt; of as many, with so many training images there; beyond strangers, their difference, with its interval "
    "over 200 draws of held-out patients and of generated images: copies pull it below 0. Coverage: the share of "
    "training images that have one of these near them, which copies raise. How to read all this before a set is given "
    "away: docs/release.md."
)
HOW_FAR = (
    "Distances of real images to their own projections, and of all generated ones to the nearest training image. Under "
    "the threshold: under `close` of params.yaml (1e-5 in cosine distance), as exact copies are."
)
HOW_NEAR = (
    "Copies among all generated images, by class: how many lie nearer to a training image than any held-out one does, "
    "how many would by chance, the chance of as many, and from which count on it is below 0.001. By pixels: "
    "thumbnails, turned, mirrored, moved and cut as they may be, whatever their colour cast; else in features of a "
    "classifier."
)
HOW_SEEN = (
    "What would be seen of copies: training images, changed as named, and the share of them that the table above would "
    "count, benign / malignant. Where the share is small, that way of looking is blind to such copies."
)


def main() -> None:
    """Bring home what `--run` holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=ROOT, help="folder of the finished run (default: this project)")
    try:
        bring_home(parser.parse_args().run)
    except FileNotFoundError as error:
        raise SystemExit(f"results: no {error.filename}: finish the run there with dvc repro") from error


def bring_home(run: Path) -> Path:
    """Write the scale's folder of results anew, whole or not at all, and return it."""
    params = yaml.safe_load((run / "params.yaml").read_text())
    scale = params["scale"]
    results = HOME / scale
    with folder_written_whole(results) as aside:
        for file in filter(Path.is_file, (results / name for name in OF_OTHER_COMMANDS)):
            shutil.copyfile(file, aside / file.name)
        write_results(run, scale, aside)
        write_federation(run, scale, aside)
        if params["scales"][scale]["prepare_images"]["source"] == "phantom":
            write_drawings(run, aside)
    return results


def bring_federation(run: Path) -> Path:
    """Put what score_federated found in the place of what the scale's folder says of it, and leave the rest."""
    scale = yaml.safe_load((run / "params.yaml").read_text())["scale"]
    results = HOME / scale
    with folder_written_whole(results) as aside:
        if results.is_dir():
            shutil.copytree(results, aside, dirs_exist_ok=True)
        write_federation(run, scale, aside)
    return results


def write_results(run: Path, scale: str, folder: Path) -> None:
    """Everything but the federation: metrics, pictures, tables."""
    metrics = metrics_of(run)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    samples = [f"metrics/train_gan/{name}/samples.png" for name in gans_of(run)]
    copy_pictures(run, [*PICTURES, *samples], folder)
    copy_files(run, FILES, folder)
    write_table(folder / "fidelity.csv", fidelity_of_each(run))
    (folder / "tables.md").write_text(tables(run, scale, metrics))


def write_federation(run: Path, scale: str, folder: Path) -> None:
    """What score_federated found."""
    copy_pictures(run, FEDERATION_PICTURES, folder)
    copy_files(run, FEDERATION_FILES, folder)
    (folder / "federation.md").write_text(federation(run, scale))


def write_drawings(run: Path, folder: Path) -> None:
    """The phantom's images: a grid of them, and the figures that show them."""
    archive = read_archive(run / "data/images.zip")
    save_grid(folder / "drawn.png", archive.pixels[:64], columns=16, scale=2)
    copy_pictures(run, PHANTOM_PICTURES, folder)


def gans_of(run: Path) -> list[str]:
    """Names of all GANs that the run trained and scored, in the order of its dvc.yaml."""
    return stages_of(run)["score_gan"]["matrix"]["name"]


def comparisons_of(run: Path) -> list[str]:
    """Names of all comparisons of classifiers in the run's dvc.yaml, in its order."""
    return list(stages_of(run)["compare_classifiers"]["foreach"])


def stages_of(run: Path) -> dict[str, Any]:
    """The pipeline of a run."""
    return yaml.safe_load((run / "dvc.yaml").read_text())["stages"]


def copy_pictures(run: Path, names: Iterable[str], folder: Path) -> None:
    """Each under a name that tells its stage."""
    for name in names:
        shutil.copyfile(run / name, folder / name.removeprefix("metrics/").replace("/", "-"))


def copy_files(run: Path, names: Iterable[str], folder: Path) -> None:
    """Each under its own name."""
    for name in names:
        shutil.copyfile(run / name, folder / Path(name).name)


def metrics_of(run: Path) -> dict:
    """The headlines of every stage by the path of their file, but for how long it took."""
    return {
        str(file.relative_to(run / "metrics").with_suffix("")): json.loads(file.read_text())
        for file in sorted((run / "metrics").rglob("*.json"))
        if "timing" not in file.parts
    }


def fidelity_of_each(run: Path) -> pd.DataFrame:
    """Every number of every GAN and of the selected set, by class too, with seed, counts and extractor."""
    scored = [*(f"score_gan/{name}" for name in gans_of(run)), "score_images/selected"]
    rows = [pd.read_csv(run / "metrics" / name / "intervals.csv").assign(set=Path(name).name) for name in scored]
    return pd.concat(rows)


def tables(run: Path, scale: str, metrics: dict) -> str:
    """Fidelity, predictive value, doses and novelty as Markdown, each value with its 95 % interval."""
    parts = [
        f"# Results at scale `{scale}`",
        "## At a glance",
        "Intervals are of 95 %, over test patients or images, those of what a dose changes over its trainings too; "
        "what another training of the GAN would give moves many of these numbers by as much or more.",
        markdown(answers(run, metrics)),
        *on_fresh_patients(scale),
        "## Images and split",
        headline_table(metrics["prepare_images"] | metrics["split_patients"]),
        *on_fidelity(run, metrics),
        *on_classifiers(run),
        *on_doses(run),
        *on_novelty(run, metrics),
        *on_regions(metrics),
        *on_artefacts(run, metrics),
        *on_directions(metrics),
        *on_comparisons(run, metrics),
    ]
    return "\n\n".join(parts) + "\n"


def on_fresh_patients(scale: str) -> list[str]:
    """Where a larger test side is to be had."""
    if scale != "phantom":
        return []
    return [
        "Test patients are few, and these were kind to synthetic images: what the same classifiers say of 1,100 others "
        "stands in [fresh patients](../fresh_patients/README.md), what doses do in their eyes in [fresh "
        "doses](../fresh_doses/README.md)."
    ]


def on_fidelity(run: Path, metrics: dict) -> list[str]:
    """Generated images against training images."""
    return [
        "## Generated images against training images (Table 1)",
        (run / "metrics/write_tables/tables/table1.md").read_text(),
        "The image set that is projected and judged for novelty (`selected`):",
        headline_table(metrics["score_images/selected"]),
        "Colours of generated beside those of training images: distances of the distributions of hue, saturation "
        "and brightness, and the share of images whose mean lies outside the central 98 % of real ones. Real "
        "images of different years differ in colour too: read them by class, in `metrics/score_gan/*/colour.csv`.",
        colour_table(run),
        "The GAN that was selected:",
        headline_table(metrics["select_gan"]),
    ]


def on_classifiers(run: Path) -> list[str]:
    """Classifiers with and without synthetic images on real patients."""
    return [
        "## Classifiers on real test patients (Table 2)",
        (run / "metrics/write_tables/tables/table2.md").read_text(),
        "AUC of `real` and of one scenario with synthetic images on parts of the test images:",
        subgroup_table(run),
    ]


def on_doses(run: Path) -> list[str]:
    """AUC over doses of synthetic images and of patients."""
    return [
        "## Stand in for, or add to?",
        "![AUC over doses](measure_dose_response-curve.png)",
        dose_table(run),
        "Of synthetic images alone the difference is to all real images. Intervals of an AUC are over test patients "
        "alone, those of a difference over trainings too, each with its own training patients and images (a dot each "
        "in the figure).",
    ]


def on_novelty(run: Path, metrics: dict) -> list[str]:
    """Whether images are new: authenticity, copies, distances, membership attacks."""
    return [
        "## Novelty",
        "In features of two classifiers: of real and synthetic images (`aug-selected`), and of real ones alone.",
        HOW_NEW,
        novelty_table(run),
        "The same numbers for planted sets of one size, from this run's own images: what a copier would score.",
        planted_table(run),
        HOW_NEAR,
        markdown(numbers_as_text(pd.read_csv(run / "metrics/score_authenticity/details/copies.csv"))),
        "The other way round, by thumbnails: synthetic images nearer to a held-out image than every training image is. "
        "Nothing was learnt from held-out patients here; of a set from elsewhere this is not known.",
        markdown(numbers_as_text(pd.read_csv(run / "metrics/score_authenticity/details/copies_of_held_out.csv"))),
        HOW_SEEN,
        disguise_table(run),
        HOW_FAR,
        distance_table(run),
        "![Distances to the nearest training image](score_authenticity-details-histogram.png)",
        "Membership attacks: training images against held-out patients; chance is an AUC of 0.5, a rate of 0.01. "
        "An attack that fails shows its own failure, not that the images are private.",
        attack_table(run),
        "Projections:",
        headline_table(metrics["project_images"]),
    ]


def on_regions(metrics: dict) -> list[str]:
    """Regions of heat maps, and the map of features."""
    return [
        "## What the classifier looks at",
        "XRAI regions, deletion and insertion:",
        headline_table(metrics["explain_classifier"]),
        "Map of features (t-SNE):",
        headline_table(metrics["embed_images"]),
    ]


def on_artefacts(run: Path, metrics: dict) -> list[str]:
    """Detectors of artefacts, where they are, and what a pasted frame does."""
    return [
        "## Artefacts",
        "Detectors of artefacts on test patients. What a weak one sees is not to be relied on.",
        headline_table(metrics["train_detectors"]),
        "Share of each artefact, and the lesion's mean share of the picture, as detectors and rule see them:",
        trait_table(run, "share"),
        "Correlation of each with the classifier's probability of the positive class:",
        trait_table(run, "correlation"),
        "A frame pasted on test images that have none: share of answers that change, and the mean change.",
        flip_table(run),
    ]


def on_directions(metrics: dict) -> list[str]:
    """Directions in latent space, and frames removed along them."""
    return [
        "## Directions and frame removal",
        "Directions:",
        headline_table(metrics["find_directions"]),
        "Frame removal:",
        headline_table(metrics["remove_frames"]),
        "![frames before and after](remove_frames-frames.png)",
    ]


def on_comparisons(run: Path, metrics: dict) -> list[str]:
    """Classifiers with edited or edge images against those without."""
    return [
        "## Do edited or edge images help?",
        "Hard training images and their neighbours:",
        headline_table(metrics["augment_edges"]),
        comparison_table(run),
    ]


def headline_table(headlines: dict) -> str:
    """A line a number, its name in words."""
    rows = [(name.replace("_", " "), "" if value is None else value) for name, value in headlines.items()]
    return markdown(pd.DataFrame(rows, columns=["number", "value"], dtype=object))


def colour_table(run: Path) -> str:
    """One row a GAN, and the floor of real held-out images."""
    parts = [pd.read_csv(run / f"metrics/score_gan/{gan}/colour.csv").assign(gan=gan) for gan in gans_of(run)]
    table = pd.concat(parts)
    kept = ["hue_w1_degrees", "saturation_w1", "brightness_w1", "hue_leak_share", "saturation_leak_share"]
    chosen = table["class"].eq("all") & table["compared"].isin(["generated", "held-out real"])
    chosen &= table["reference"] == "train"
    return spread(table[chosen & table["metric"].isin(kept)], ["gan", "compared", "compared_count"])


def subgroup_table(run: Path) -> str:
    """AUC by age, sex, site and artefact, where there are enough positives and others, and patients of both."""
    parts = [
        pd.read_csv(run / f"metrics/train_classifier/{name}/subgroups.csv", keep_default_na=False, na_values=[""])
        for name in SUBGROUPS_OF
    ]
    table = pd.concat([part.assign(metric=name) for name, part in zip(SUBGROUPS_OF, parts, strict=True)])
    first = pd.concat(parts)["metric"] == "auc"
    return spread(
        table[first.to_numpy()].fillna({"note": ""}),
        ["by", "part", "test_images", "positives", "positive_groups", "other_groups"],
    )


def dose_table(run: Path) -> str:
    """One row a dose: AUC, and how much of it is less than that of the same patients without synthetic images."""
    table = pd.read_csv(run / "metrics/measure_dose_response/curve.csv")
    gains = table.drop(columns=["value", "low", "high"]).assign(metric="auc less that without synthetic images")
    gains = gains.rename(columns={"less_without": "value", "less_low": "low", "less_high": "high"})
    return spread(pd.concat([table, gains]), ["patients", "real_images", "synthetic_images"])


def novelty_table(run: Path) -> str:
    """Authenticity and distance to training images, of generated and of held-out real images."""
    table = pd.read_csv(run / "metrics/score_authenticity/details/authenticity.csv")
    return spread(table, ["features_of", "class", "of", "images"])


def planted_table(run: Path) -> str:
    """One row a planted set, authenticity with its interval."""
    table = pd.read_csv(run / "metrics/score_authenticity/details/planted.csv")
    bounds = table[["authenticity", "authenticity_low", "authenticity_high"]].itertuples(index=False)
    table["authenticity"] = [cell(*row) for row in bounds]
    kept = [
        "features_of",
        "set",
        "images",
        "authenticity",
        "copying_statistic",
        "copying_statistic_by_cells",
        "coverage",
    ]
    return markdown(numbers_as_text(table[kept]))


def disguise_table(run: Path) -> str:
    """One row a disguise, one column a way of looking; the shares of the classes one beside the other."""
    table = pd.read_csv(run / "metrics/score_authenticity/details/disguises.csv")
    shares = table.assign(text=table["nearer_than_any_held_out"].map("{:.2f}".format))
    joined = shares.groupby(["disguise", "features_of"], sort=False)["text"].agg(" / ".join).unstack(sort=False)
    return markdown(joined.reset_index())


def distance_table(run: Path) -> str:
    """One row a pair of sets and a distance; one column a statistic."""
    table = pd.read_csv(run / "metrics/score_authenticity/details/distances.csv")
    order = list(dict.fromkeys(table["statistic"]))
    index = ["features_of", "what", "class", "distance"]
    wide = table.pivot_table(index=index, columns="statistic", values="value", sort=False)[order]
    return markdown(numbers_as_text(wide.reset_index()).replace("none", ""))


def numbers_as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Three significant digits; "none" where there is no number."""

    def text(value: object) -> object:
        if not isinstance(value, float):
            return value
        if pd.isna(value):
            return "none"
        return str(int(value)) if value.is_integer() and abs(value) >= 1 else f"{value:.3g}"

    return table.map(text)


def trait_table(run: Path, measure: str) -> str:
    """One row a set and class, one column a trait; weak detectors are marked."""
    table = pd.read_csv(run / "metrics/audit_artefacts/traits.csv", keep_default_na=False, na_values=[""])
    table = table[(table["measure"] == measure) & (table["class"] != "all")].drop(columns="measure")
    weak = table["note"].notna()
    table["metric"] = table["trait"] + (" (" + table["source"] + ")") + weak.map({True: " weak", False: ""})
    return spread(table.drop(columns="note"), ["set", "class", "images"])


def flip_table(run: Path) -> str:
    """One row a class."""
    table = pd.read_csv(run / "metrics/audit_artefacts/frames.csv").rename(columns={"what": "metric"})
    return spread(table, ["class", "images"])


def comparison_table(run: Path) -> str:
    """One row a comparison and part of the test set: the first classifier less the second, the mean over trainings
    with its interval over patients, and the least and largest difference of one training of each."""
    parts = [pd.read_csv(run / f"metrics/compare_classifiers/{name}/comparison.csv") for name in comparisons_of(run)]
    table = pd.concat(parts).rename(columns={"difference": "value"})
    kept = table["part"].isin(["all", "hard", "edge", "misclassified", "with black_frame", "without black_frame"])
    table = table[kept]
    spans = [f"{low:.3f} to {high:.3f}" for low, high in zip(table["seed_min"], table["seed_max"], strict=True)]
    by_training = table.assign(metric=table["metric"] + " by training", value=float("nan"), note=spans)
    by_training = by_training[table["value"].notna()]
    return spread(pd.concat([table, by_training]), ["comparison", "part", "test_images", "positives"])


def federation(run: Path, scale: str) -> str:
    """The verdict, the final models and what their curves reach, as Markdown."""
    return "\n\n".join(
        [
            f"# Hospitals together, alone, and all images at one place, at scale `{scale}`",
            (run / "metrics/score_federated/verdict.md").read_text().strip(),
            "![FID and KID by images shown](score_federated-curves.png)",
            "Final models; the last rows are real images in the place of a model:",
            federation_table(run),
            "Images until a model's curve is first at or below the target model's lowest point, and the ratio to the "
            "images that the target took; empty: never within its run.",
            reach_table(run) + "\n",
        ]
    )


def federation_table(run: Path) -> str:
    """One row a final model and set of real images."""
    table = pd.read_csv(run / "metrics/score_federated/models.csv")
    about = ["images_per_trainer", "training_images", "training_patients"]
    table[about] = table[about].astype("Int64").astype(str).replace("<NA>", "")  # the floor is no model
    return spread(table, ["model", *about, "reference"])


def reach_table(run: Path) -> str:
    """One row a curve, score and target."""
    table = pd.read_csv(run / "metrics/score_federated/reach.csv")
    names = ["score", "target_of", "model"]
    numbers = ["target", "images_per_trainer", "ratio_per_trainer", "images_in_all", "lowest"]
    table[numbers] = table[numbers].map("{:.6g}".format, na_action="ignore").astype(object).fillna("")
    return markdown(table[names + numbers])


def attack_table(run: Path) -> str:
    """One row an attack."""
    table = pd.read_csv(run / "metrics/score_authenticity/details/attacks.csv")
    return spread(table.drop(columns="note"), ["features_of", "attack", "members", "non_members"])


def spread(table: pd.DataFrame, index: list[str]) -> str:
    """A Markdown table, one column a metric."""
    notes = table.get("note", "")
    table = table.assign(text=[cell(*row) for row in table[["value", "low", "high"]].itertuples(index=False)])
    table["text"] = table["text"].where(table["value"].notna(), notes)
    order = list(dict.fromkeys(table["metric"]))
    wide = table.pivot_table(index=index, columns="metric", values="text", aggfunc="first", sort=False)[order]
    return markdown(wide.reset_index().fillna(""))


def markdown(wide: pd.DataFrame) -> str:
    """A table with a line of names."""
    lines = ["| " + " | ".join(map(str, wide.columns)) + " |", "|" + "---|" * len(wide.columns)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in wide.itertuples(index=False)]
    return "\n".join(lines)


def cell(value: float, low: float, high: float) -> str:
    """0.83 (0.77 to 0.88); the value alone where no interval is known."""
    return f"{value:.3g}" if pd.isna(low) else f"{value:.3g} ({low:.3g} to {high:.3g})"


if __name__ == "__main__":
    main()
