"""May this synthetic set be given away? The rules of docs/release.md, applied to what score_authenticity found."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from skinsynth.files import written_whole
from skinsynth.lesions.table import lesions_of
from skinsynth.partition.split import images_of, read_split
from skinsynth.privacy.release import Finding, Judged, ReleaseConfig, Verdict, findings, unseen_disguises
from skinsynth.report.checklist import Line, checklist
from skinsynth.stage import load_params, read_rows, run, write_metrics

SETTINGS = ReleaseConfig
TITLE = "Before this synthetic set is given away"
GUIDE = "What each answer means, and why it stops or warns: docs/release.md."
NOT_ASKED = (
    "What somebody can tell who has more: the generator, other images of a patient, several releases of one model.",
    "Whether who knows a lesion sees it in an image: look at the pairs.",
    "Attributes: what the set says about a group of patients at one hospital.",
    "Another training with the same settings: it differs as much as these intervals, or more.",
    "Copies put together of two images, and anything finer than the study's resolution.",
)

GRAVE = (Verdict.STOPS, Verdict.BLIND, Verdict.WARNS)


def main(
    details: Annotated[Path, "folder of tables that score_authenticity wrote about the very set to be given away"],
    split_metrics: Annotated[Path, "headlines of split_patients: who is on both sides"],
    lesions: Annotated[Path, "lesions.csv, for patients and licences of the training images"],
    split: Annotated[Path, "who is on which side"],
    page: Annotated[Path, "the answers as a page (Markdown), without images and ids"],
    metrics: Annotated[Path, "headlines: how many answers stop the set, warn, or ask for a person's eyes"],
) -> None:
    """Answer what a data steward asks first. Nothing found is no proof of privacy, and no answer says so."""
    config = load_params("check_release", ReleaseConfig)
    judged = Judged(**{name: read_rows(details / f"{name}.csv", "score_authenticity") for name in Judged._fields})
    training = lesions_of(lesions, images_of(read_split(split), "train")["image_id"].tolist())
    found = findings(config, json.loads(split_metrics.read_text()), training, judged)
    unseen = ", ".join(unseen_disguises(judged.disguises, config.seen))
    beyond = [f"Copies that no way of looking sees on these images: {unseen}.", *NOT_ASKED] if unseen else NOT_ASKED
    lines = [Line(one.section, one.verdict, one.question, one.found, one.verdict in GRAVE) for one in found]
    with written_whole(page) as aside:
        aside.write_text(checklist(TITLE, summary(found), GUIDE, lines, beyond))
    write_metrics(metrics, {"answers": len(found), **counts_of(found)})


def summary(found: Sequence[Finding]) -> str:
    """The worst in one sentence."""
    counts = Counter(one.verdict for one in found)
    if counts[Verdict.STOPS]:
        return f"Do not give this set away: {counts[Verdict.STOPS]} of {len(found)} answers stop it."
    if counts[Verdict.BLIND]:
        return f"This set cannot be judged: by {counts[Verdict.BLIND]} of {len(found)} answers comparisons do not hold."
    return (
        f"No answer below stops this set, and none can show that it is private. Of {len(found)} answers "
        f"{counts[Verdict.WARNS]} warn and {counts[Verdict.LOOK]} ask for a person's eyes."
    )


def counts_of(found: Sequence[Finding]) -> dict[str, int]:
    """How many answers have each verdict."""
    counts = Counter(one.verdict for one in found)
    return {verdict.replace(" ", "_"): counts[verdict] for verdict in Verdict}


if __name__ == "__main__":
    run(main)
