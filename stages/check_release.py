"""May this synthetic set be given away? The rules of docs/release.md, applied to what score_authenticity found."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd

from skinsynth.files import sha256_of, written_whole
from skinsynth.lesions.table import lesions_of, read_lesions
from skinsynth.partition.leakage import measure_leakage
from skinsynth.partition.split import held_out_of, images_of, read_split
from skinsynth.privacy.names import LABELS, SHA256_OF_LESIONS, SHA256_OF_SPLIT
from skinsynth.privacy.release import (
    COLUMNS,
    Finding,
    ReleaseConfig,
    Tables,
    Verdict,
    by_discriminator,
    eyes,
    findings,
)
from skinsynth.report.checklist import Part, checklist
from skinsynth.stage import load_params, run, write_metrics
from skinsynth.tables import read_table

SETTINGS = ReleaseConfig
TITLE = "Before this synthetic set is given away"
GUIDE = "What each answer means, why it stops or warns and what then is to be done: docs/release.md."
FINGERPRINT = "This page speaks of the file with this SHA-256 and of no other: a changed file needs a new page."
LEGEND = (
    "In features of NAME: as the classifier NAME of this project sees images. By thumbnails: the images themselves, "
    "small, mirrored, turned, and discs cut out of them, too. Worst of n: of n rows (classes, ways of looking) the "
    "nearest to a fault is told; all stand in the tables of score_authenticity."
)
SAW_THE_SET = (
    "Classifiers that were trained on this set know its images and training's, but none held out: in their features "
    "fresh images, too, look like copies. Pairs marked there are to be looked at; no other answer reads them: "
)
EYES = (
    "Training images were changed and planted. Shares that the count of look-alikes above would mark: where they are "
    "small, such copies pass, and only who looks at pairs may see them."
)
TO_FILL_IN = (
    "Pairs: all marked ones, and the nearest of each class, were looked at",
    "Generator: it, and all that it started from, learnt from images of the training side alone",
    "Rights: licences, consent and ethics approval allow this release",
    "Each warning is accepted, because …",
)
NOT_ASKED = (
    "What somebody can tell who has more: the generator, other images of a patient, several releases of one model.",
    "Whether somebody who knows a patient's lesion would recognise it in an image.",
    "Attributes: what the set says about a group of patients at one hospital.",
    "Consent and ethics approval of the training images.",
    "Names of files, metadata, texts beside the images, and what was written into images.",
    "Another training with the same settings: it differs as much as these intervals, or more.",
    "Copies put together of two images, painted over, stretched, or of small parts of an image.",
    "Whether images are any good, diverse or useful: score_images and train_classifier; noise passes here.",
)
NO_DISCRIMINATOR = (
    "Attacks by who has the discriminator: none was given that knows these classes (--gan of score_authenticity)."
)
GRAVE = (Verdict.STOPS, Verdict.BLIND, Verdict.UNANSWERED, Verdict.WARNS)


def main(
    details: Annotated[Path, "folder of tables that score_authenticity wrote about the very set to be given away"],
    lesions: Annotated[Path, "lesions.csv, for patients, duplicates and licences of the real images"],
    split: Annotated[Path, "CSV of split_patients: who is in train, validation and test"],
    page: Annotated[Path, "the answers as a page (Markdown), without images and ids"],
    metrics: Annotated[Path, "headlines: how many answers stop the set, warn, or ask for a person's eyes"],
) -> None:
    """Answer what a data steward asks first. Nothing found is no proof of privacy, and no answer says so."""
    config, tables = load_params("check_release", ReleaseConfig), read_tables(details)
    about = about_set(tables.judged)
    check_files(about, {SHA256_OF_SPLIT: split, SHA256_OF_LESIONS: lesions})
    sides = read_split(split)
    judged = sides[sides["label"].astype(str).isin(about[LABELS].split())]
    training, held_out = (
        lesions_of(lesions, side["image_id"].tolist()) for side in (images_of(judged, "train"), held_out_of(judged))
    )
    found = findings(config, measure_leakage(read_lesions(lesions), sides), training, held_out, tables)
    with written_whole(page) as aside:
        aside.write_text(checklist(TITLE, summary(found), parts_of(found, tables, about, training)))
    write_metrics(metrics, {"answers": len(found), **counts_of(found)})


def read_tables(details: Path) -> Tables:
    """The tables of a judgement; a ValueError where this is a set, and the errors of `read_table`."""
    if details.is_file():
        raise ValueError(f"{details} is a set, not its judgement: run score_authenticity first (docs/release.md)")
    return Tables(
        *(read_table(details / f"{name}.csv", COLUMNS[name], "score_authenticity") for name in Tables._fields)
    )


def about_set(judged: pd.DataFrame) -> dict[str, str]:
    """What is said of the set, by what it is."""
    return dict(zip(judged["what"], judged["value"].astype(str), strict=True))


def check_files(about: Mapping[str, str], files: Mapping[str, Path]) -> None:
    """Raises ValueError where the set was judged by another file: the page would speak of other held-out patients."""
    for what, file in files.items():
        if not file.is_file():
            raise FileNotFoundError(f"no {file}: give the file that this set was judged by ({what})")
        if about.get(what) != sha256_of(file):
            raise ValueError(
                f"{file} is not the file that this set was judged by ({what}: {about.get(what, 'unknown')}): give that "
                "one, or run score_authenticity again"
            )


def parts_of(found: Sequence[Finding], tables: Tables, about: Mapping[str, str], training: pd.DataFrame) -> list[Part]:
    """What was judged, the answers by section, how much the eyes see, what is left to a person and to nobody."""
    sources = ", ".join(f"{name} ({count})" for name, count in training["source"].value_counts().items())
    judged = [*about.items(), ("sources of these training images, with duplicates", sources)]
    answers = [
        Part(section, "", ("verdict", "question", "found"), [row_of(one) for one in found if one.section == section])
        for section in dict.fromkeys(one.section for one in found)
    ]
    seen = eyes(tables.disguises)
    too_fine = f"Anything finer than {about['pixels']} px, or outside the middle square of larger images."
    beyond = (too_fine, *NOT_ASKED, *(() if len(by_discriminator(tables.attacks)) else (NO_DISCRIMINATOR,)))
    return [
        Part("What was judged", FINGERPRINT, ("what", "value"), judged),
        *answers,
        Part("How good the eyes are", EYES, seen.columns.tolist(), seen.to_numpy().tolist()),
        Part("To be filled in by a person", "", ("", "answer", "name, date"), [(line, "", "") for line in TO_FILL_IN]),
        Part("Not asked here", "", (), [(line,) for line in beyond]),
        Part("How to read this", "", (), [(line,) for line in legend(tables)]),
    ]


def legend(tables: Tables) -> list[str]:
    """What words mean, and whose features the rules leave out."""
    saw_the_set = tables.planted[tables.planted["saw_the_set"] != 0]["features_of"].unique()
    return [LEGEND, *([SAW_THE_SET + ", ".join(saw_the_set) + "."] if len(saw_the_set) else []), GUIDE]


def row_of(one: Finding) -> tuple[str, str, str]:
    """An answer as a row of the page, with what is grave in bold."""
    return f"**{one.verdict}**" if one.verdict in GRAVE else one.verdict, one.question, one.found


def summary(found: Sequence[Finding]) -> str:
    """The worst verdicts in a sentence or two."""
    counts, asked = Counter(one.verdict for one in found), len(found)
    if counts[Verdict.STOPS]:
        return f"Do not give this set away: {counts[Verdict.STOPS]} of {asked} answers stop it."
    if counts[Verdict.BLIND]:
        return f"This set cannot be judged: by {counts[Verdict.BLIND]} of {asked} answers comparisons do not hold."
    if counts[Verdict.UNANSWERED]:
        return f"This set is not judged to the end: {counts[Verdict.UNANSWERED]} of {asked} questions are not answered."
    warning = "1 warns" if counts[Verdict.WARNS] == 1 else f"{counts[Verdict.WARNS]} warn"
    return (
        f"Not finished: {counts[Verdict.LOOK]} questions wait for a person, and each can stop this set. No computed "
        f"answer of {asked} stops it, {warning}, and none can show that it is private."
    )


def counts_of(found: Sequence[Finding]) -> dict[str, int]:
    """How many answers have each verdict."""
    counts = Counter(one.verdict for one in found)
    return {verdict.replace(" ", "_"): counts[verdict] for verdict in Verdict}


if __name__ == "__main__":
    run(main)
