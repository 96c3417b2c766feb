"""The answers of one run in words: a question a line, each with its numbers, for readers who stop after a page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from skinsynth.privacy.names import CONTROL
from skinsynth.report.tables import CANNOT_BE_TOLD, not_worse

Metrics = Mapping[str, dict[str, Any]]  # headlines by the path of their file


def answers(run: Path, metrics: Metrics) -> pd.DataFrame:
    """A table of questions and answers; `run` is a folder in which every stage has ended, with these headlines."""
    asked = {
        "Do synthetic images stand in for real ones?": stand_in(run),
        "Do as many, of the same classes, stand in for all real ones?": as_many(run),
        "Do they add to real ones?": add(run),
        "Do they help where patients are few?": few_patients(run),
        "How near are generated images to real ones?": nearness(run),
        "Are they copies?": copies(run, metrics),
        "Can it be told who was in training?": membership(run),
        "Does anything stop the set from being given away?": release(metrics),
        "What does a black frame do to the classifier?": pasted_frames(metrics),
        "Do generated images have frames?": frames(run, metrics),
        "Can frames be taken out?": removal(run),
        "Do neighbours of hard cases help?": edges(metrics),
        "Do the regions of heat maps matter?": regions(metrics),
        "Does the federation help the smallest hospital?": federation(metrics),
    }
    return pd.DataFrame(asked.items(), columns=["question", "answer"])


def stand_in(run: Path) -> str:
    """AUC of synthetic images alone, and how many scenarios are told apart from real images."""
    table = classifiers(run)
    real = table[(table["scenario"] == "real") & (table["metric"] == "auc")].iloc[0]
    alone, apart = of_kind(table, "synth-")
    return (
        f"AUC on test patients: real images {with_interval(real)}; synthetic images alone {spread(alone)} in "
        f"{len(alone)} scenarios; {apart}"
    )


def add(run: Path) -> str:
    """The same of real and synthetic images together."""
    together, apart = of_kind(classifiers(run), "aug-")
    return f"Real and synthetic images together: AUC {spread(together)} in {len(together)} scenarios; {apart}"


def of_kind(table: pd.DataFrame, prefix: str) -> tuple[pd.DataFrame, str]:
    """AUC of the scenarios that begin so; how many are as good but for the margin, and how many differ at all."""
    own = table[table["scenario"].str.startswith(prefix)]
    less = own[own["metric"] == "auc_difference"]
    apart = less["p_holm"] < 0.05
    worse, better = int((apart & (less["value"] < 0)).sum()), int((apart & (less["value"] > 0)).sum())
    told = (
        f"at most {less['margin'].iloc[0]:g} below real images alone: {verdicts(less['not_worse'])}; "
        f"{worse} lie below these at all and {better} above (p < 0.05, corrected for the number of scenarios)"
    )
    return own[own["metric"] == "auc"], told


def verdicts(said: pd.Series) -> str:
    """How many have each answer of `not_worse`, as in 2 yes, 3 no, 1 cannot be told."""
    return ", ".join(f"{said.eq(word).sum()} {word}" for word in ("yes", "no", CANNOT_BE_TOLD))


def doses(run: Path) -> pd.DataFrame:
    """The dose-response curve."""
    return pd.read_csv(run / "metrics/measure_dose_response/curve.csv")


def less_without(row: pd.Series) -> str:
    """By how much a dose's AUC exceeds that without its synthetic images."""
    return (
        f"{row['less_without']:+.3f} ({row['less_low']:+.3f} to {row['less_high']:+.3f}; single trainings "
        f"{row['less_seed_min']:+.3f} to {row['less_seed_max']:+.3f})"
    )


def as_many(run: Path) -> str:
    """Doses of synthetic images alone against all real ones."""
    curve, margin = doses(run), classifiers(run)["margin"].dropna().iloc[0]
    alone = curve[curve["patients"] == 0].sort_values("synthetic_share")
    said = [
        f"{row['synthetic_share']:g} times as many: {less_without(row)}, at most {margin:g} below: "
        f"{not_worse(row['less_low'], row['less_high'], margin)}"
        for _, row in alone.iterrows()
    ]
    return f"AUC of the selected GANs' images alone, less that of all real images; {'; '.join(said)}"


def few_patients(run: Path) -> str:
    """What as many synthetic images as real ones change, for the fewest and for all patients."""
    curve = doses(run)
    rows = curve[(curve["synthetic_share"] == 1) & (curve["patients"] > 0)].sort_values("patients")
    said = [f"{row['patients']} patients: {less_without(row)}" for row in (rows.iloc[0], rows.iloc[-1])]
    return (
        "AUC with as many synthetic images as all patients have real ones, less that without, with the interval over "
        f"test patients and trainings, and the least and greatest of the trainings; {'; '.join(said)}; all stop by the "
        "same real validation images"
    )


def nearness(run: Path) -> str:
    """FID of the selected set beside that of held-out real images, by every extractor."""
    table = pd.read_csv(run / "metrics/score_images/selected/intervals.csv")
    chosen = table[(table["class"] == "all") & (table["metric"] == "fid") & (table["reference"] == "train")]
    sides = {name: chosen[chosen["compared"] == name] for name in ("generated", "held-out real")}
    counts = [f"{rows['compared_count'].iloc[0]:.0f}" for rows in sides.values()]
    said = [
        f"in features of `{made['extractor']}` {with_interval(made, 2)} and {with_interval(floor, 2)}"
        for (_, made), (_, floor) in zip(*(rows.iterrows() for rows in sides.values()), strict=True)
    ]
    return f"FID to training images of {counts[0]} generated and of {counts[1]} held-out real ones: {'; '.join(said)}"


def copies(run: Path, metrics: Metrics) -> str:
    """Images nearer to training than any held-out one, by thumbnails."""
    table = pd.read_csv(run / "metrics/score_authenticity/details/copies.csv")
    own = table[table["extractor"] == "thumbnails"]
    found, expected = own["nearer_than_any_held_out"].sum(), own["expected_by_chance"].sum()
    beyond = metrics["score_authenticity"]["copying_beyond_strangers"]
    return (
        f"Of {own['images'].sum()} images {found} lie nearer to training than every held-out one does, by thumbnails "
        f"({expected:.1f} by chance); C_T differs by {told(beyond, '+.2f')} from that of patients who were not in "
        "training"
    )


def membership(run: Path) -> str:
    """The strongest attack by AUC, as among the headlines: of features that did not learn from the set itself."""
    table = pd.read_csv(run / "metrics/score_authenticity/details/attacks.csv")
    auc = table[(table["metric"] == "auc") & (table["attack"] != CONTROL) & (table["saw_the_set"] == 0)]
    best = auc.loc[auc["value"].idxmax()]
    return f"The strongest of {len(auc)} attacks, {best['attack']}: AUC {with_interval(best)}, 0.5 by chance"


def release(metrics: Metrics) -> str:
    """How many rules of docs/release.md stop the selected set, or warn."""
    found = metrics["check_release"]
    return (
        f"Of {found['answers']} answers {found['stops']} stop it, {found['cannot_be_judged']} say that it cannot be "
        f"judged, {found['warns']} warn, {found['to_look_at']} ask for a person's eyes (release.md); none can show "
        "that it is private"
    )


def pasted_frames(metrics: Metrics) -> str:
    """Answers that a pasted frame turns."""
    found = metrics["audit_artefacts"]
    return (
        f"Pasted on {found['pasted_frames']} test images without one, it turns "
        f"{found['pasted_frames_to_positive']:.0%} of all answers to malignant, {found['pasted_frames_to_other']:.0%} "
        "away from it"
    )


def frames(run: Path, metrics: Metrics) -> str:
    """Share of malignant images with a frame, real and selected."""
    found, auc = metrics["audit_artefacts"], metrics["train_detectors"].get("auc_black_frame")
    real, made = (found.get(f"{kind}_malignant_black_frame") for kind in ("real", "synthetic"))
    table = pd.read_csv(run / "metrics/audit_artefacts/traits.csv")
    shares = table[(table["class"] == "malignant") & (table["measure"] == "share")].set_index(["set", "trait"])["value"]
    ruled = [shares.loc[name, "black_corners"] for name in ("synthetic selected", "real test")]
    rule = f"black corners by rule: {ruled[0]:.1%} and {ruled[1]:.0%}"
    if real is None or made is None:
        return f"Not known: the detector tells frames with an AUC of {auc}; {rule}"
    return f"{made:.1%} of malignant ones, {real:.0%} of real malignant test images (detector: AUC {auc}); {rule}"


def removal(run: Path) -> str:
    """What the chosen moves leave, by the detector and by the second witness."""
    table, said = pd.read_csv(run / "metrics/remove_frames/measured.csv"), []
    for row in table.to_dict("records"):
        if "method" not in row or pd.isna(row["method"]):
            said.append(f"{row['gan']}: {row['note']}")
            continue
        said.append(
            f"{row['gan']}: {row['remaining_share']:.0%} ({row['remaining_share_low']:.0%} to "
            f"{row['remaining_share_high']:.0%}) keep theirs, {row['random_remaining_share']:.0%} after random moves; "
            f"malignant changes by {row['mean_absolute_change']:.3f}; black corners {row['black_share_before']:.1%} to "
            f"{row['black_share_after']:.1%} of the picture ({row['method']})"
        )
    return f"Detector's AUC {table['detector_auc'].iloc[0]:.2f}. " + "; ".join(said)


def edges(metrics: Metrics) -> str:
    """Against as many random images of the same GAN."""
    found = metrics["compare_classifiers/edges-control"]
    auc, hard = (
        f"{told(found[name + 'difference'], '+.3f')} ({told(found[name + 'low'], '+.3f')} to "
        f"{told(found[name + 'high'], '+.3f')})"
        for name in ("auc_", "hard_right_probability_")
    )
    return (
        f"Against as many random images: AUC {auc}; probability of the right class on {found['hard_cases']} "
        f"choices of hard cases (an image chosen by both trainings counts twice) {hard}"
    )


def regions(metrics: Metrics) -> str:
    """XRAI's order of deletion against random orders."""
    found = metrics["explain_classifier"]
    return (
        f"Blurred in XRAI's order, malignant falls to {found['deletion']:.3f} on average, in random order to "
        f"{found['random_deletion']:.3f}; better than random in {found['better_than_random']:.0%} of "
        f"{found['cases']} cases"
    )


def federation(metrics: Metrics) -> str:
    """FID of the smallest hospital alone and of all together."""
    found = metrics["score_federated"]
    (together,) = (value for name, value in found.items() if name.startswith("fid_") and name.endswith("_federated"))
    (gain,) = (value for name, value in found.items() if name.endswith("_gain_of_smallest"))
    helped = found["federation_helped_smallest"].capitalize()
    return (
        f"{helped}, by held-out patients; FID against all training images {told(together + gain, '.1f')} alone, "
        f"{told(together, '.1f')} together"
    )


def classifiers(run: Path) -> pd.DataFrame:
    """Table 2, of all test images."""
    table = pd.read_csv(run / "metrics/write_tables/tables/table2.csv")
    return table[table["arm"] == "all"]


def told(value: float | None, form: str) -> str:
    """The number in its form; headlines have None where there is none to tell."""
    return "unknown" if value is None else format(value, form)


def with_interval(row: pd.Series, digits: int = 3) -> str:
    """As in 0.855 (0.787 to 0.913)."""
    return f"{row['value']:.{digits}f} ({row['low']:.{digits}f} to {row['high']:.{digits}f})"


def spread(rows: pd.DataFrame) -> str:
    """As in 0.633 to 0.769."""
    return f"{rows['value'].min():.3f} to {rows['value'].max():.3f}"
