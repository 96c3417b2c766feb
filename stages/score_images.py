"""Score a set of images, ours or brought from elsewhere, against real images of its classes: no generator needed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from skinsynth.classifier.classifier import load_classifier
from skinsynth.features.extractor import ExtractorConfig, build_extractors
from skinsynth.images.archive import image_size
from skinsynth.images.sets import read_image_set
from skinsynth.quality.fidelity import FidelityConfig
from skinsynth.quality.image_set import judge_images, pooled_places, real_sides
from skinsynth.settings import Names, Seed
from skinsynth.stage import best_device, cache_folder, load_params, run, write_metrics, write_rows


@dataclass(frozen=True)
class Settings:
    classes: Names
    extractor: ExtractorConfig  # of the headlines
    further_extractors: tuple[ExtractorConfig, ...]  # each with rows of its own
    fidelity: FidelityConfig
    seed: Seed


SETTINGS = Settings


def main(
    name: Annotated[str, "what the set is called"],
    synthetic: Annotated[Path, "a ZIP of ours, or a ZIP or folder with a folder of images for each class"],
    images: Annotated[Path, "real images"],
    split: Annotated[Path, "CSV of split_patients: who is in train, validation and test"],
    classifier: Annotated[Path, "classifier of real images, the offline extractor"],
    metrics: Annotated[Path, "headlines, pooled over the set's classes in the real proportions"],
    details: Annotated[Path, "folder for intervals.csv and colour.csv (pooled and by class), hues.csv"],
) -> None:
    """Compare the set with training and with held-out images; images are cropped and resized as the real ones were."""
    settings = load_params("score_images", Settings)
    device = best_device()
    configs = (settings.extractor, *settings.further_extractors)
    extractors = build_extractors(configs, load_classifier(classifier, device), device, cache_folder("features"))
    judged = read_image_set(synthetic, settings.classes, image_size(images))
    real = real_sides(images, split, set(judged.labels.tolist()))
    kept = len(pooled_places(judged, real.train, settings.seed))
    print(f"{name}: pooled numbers are of {kept} of {len(judged.labels)} images, in the class shares of the real ones")
    found = judge_images(judged, real, extractors, settings.classes, settings.fidelity, settings.seed)
    for file, rows in {"intervals": found.fidelity, "colour": found.colours, "hues": found.hues}.items():
        write_rows(details / f"{file}.csv", [{"set": name, **row} for row in rows])
    write_metrics(metrics, found.headline)


if __name__ == "__main__":
    run(main)
