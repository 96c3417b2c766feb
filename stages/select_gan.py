"""Choose among the GANs on equal counts: pooled and by class, with speed as images seen and operations per image."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch

from skinsynth.classifier.classifier import load_classifier
from skinsynth.features.extractor import Extractor, ExtractorConfig, build_extractor
from skinsynth.gan.family import copy_family, load_family
from skinsynth.images.archive import image_size, read_archive
from skinsynth.images.sets import read_image_set
from skinsynth.partition.split import images_of, read_split
from skinsynth.quality.by_class import Labelled, Sides, drawn_of_each, features_of, score_by_class
from skinsynth.quality.fidelity import FidelityConfig, FidelityScores
from skinsynth.quality.image_set import patients_of
from skinsynth.quality.proportions import labels_of_counts
from skinsynth.quality.selection import Candidate, rank, ranking_rows, selection_headlines, verdicts
from skinsynth.settings import Count, Names, Seed
from skinsynth.stage import best_device, cache_folder, entry_of, load_params, run, seed_of, write_metrics, write_rows


@dataclass(frozen=True)
class Settings:
    classes: Names
    candidates: dict[str, Names]  # candidate: the GANs that together make every class
    images_per_class: Count  # of each candidate and of the real training images; the rarest class may set fewer
    extractor: ExtractorConfig
    fidelity: FidelityConfig
    batch_size: Count
    seed: Seed


SETTINGS = Settings


def main(
    gans: Annotated[list[Path], "folders of all GANs, each called as in `candidates`"],
    images: Annotated[Path, "real images"],
    split: Annotated[Path, "CSV of split_patients: who is in train, validation and test"],
    classifier: Annotated[Path, "classifier of real images, the offline extractor"],
    selected: Annotated[Path, "folder that the winner is copied to"],
    metrics: Annotated[Path, "headlines of the winner"],
    ranking: Annotated[Path, "CSV of every candidate, pooled and by class, with intervals"],
    sets: Annotated[list[Path] | None, "image sets brought from elsewhere, ranked beside and never selected"] = None,
) -> None:
    """Rank the candidates by KID, then FID, against as many training images of each class, and copy the winner.

    Seconds of sampling are printed for the reader alone: no file holds a time.
    """
    settings = load_params("select_gan", Settings)
    device = best_device()
    extract = build_extractor(settings.extractor, load_classifier(classifier, device), device, cache_folder("features"))
    train = images_of(read_split(split), "train")
    count = min(settings.images_per_class, int(train["label"].value_counts().min()))
    rows = train.groupby("label").sample(count, random_state=settings.seed)
    real = features_of(extract, read_archive(images, rows["image_id"].tolist()), patients_of(rows))
    judge = Judge(settings, extract, real, count)
    folder_of = {folder.name: folder for folder in gans}
    ours = our_candidates(judge, folder_of, device)
    ranked = rank([*ours, *brought_candidates(judge, sets or [], image_size(images))])
    winner = next(candidate for candidate in ranked if candidate.name in settings.candidates)
    copy_family([folder_of[member] for member in settings.candidates[winner.name]], selected)
    print("\n".join(verdicts(ranked)))
    write_rows(ranking, ranking_rows(ranked))
    write_metrics(metrics, selection_headlines(winner, ranked))


@dataclass(frozen=True)
class Judge:
    """Scores every candidate against the same real images, on the same terms."""

    settings: Settings
    extract: Extractor
    real: Labelled
    count: int  # images of each class

    def scores(self, fake: Labelled) -> FidelityScores:
        """One candidate's, pooled and by class."""
        sides, own = Sides(self.real, fake, None), self.settings
        return score_by_class(sides, own.classes, own.fidelity, own.seed, self.extract)


def our_candidates(judge: Judge, folder_of: Mapping[str, Path], device: torch.device) -> list[Candidate]:
    """The candidates of the settings, in their order; how fast each is sampled is printed."""
    settings, found = judge.settings, []
    labels = labels_of_counts([judge.count] * len(settings.classes))
    for name, members in settings.candidates.items():
        family = load_family([entry_of(folder_of, member, "select_gan, candidates") for member in members], device)
        # Not the images by which `score_gan` judges the winner: chosen for its luck, it would keep it there.
        rng = torch.Generator(device).manual_seed(seed_of(settings.seed, "select_gan", name))
        start = time.monotonic()
        fake = family.sample(labels, settings.batch_size, rng, truncation_psi=1.0)
        print(f"{name}: {len(fake) / (time.monotonic() - start):,.0f} images/s sampled on this machine")
        scores = judge.scores(Labelled(judge.extract(fake), labels))
        found.append(Candidate(name, scores, family.cost().images_seen, family.cost().flops_per_image))
    return found


def brought_candidates(judge: Judge, sets: Sequence[Path], size: int) -> list[Candidate]:
    """Sets from elsewhere, as many images of each class drawn from each; nothing is known of their cost."""
    classes, seed, found = judge.settings.classes, judge.settings.seed, []
    for path in sets:
        features = features_of(judge.extract, read_image_set(path, classes, size))
        drawn = drawn_of_each(features, len(classes), judge.count, path, seed)
        found.append(Candidate(f"brought: {path.stem}", judge.scores(drawn), None, None))
    return found


if __name__ == "__main__":
    run(main)
