"""Classifiers that see one artefact each: trained on known flags, so that synthetic images can be asked as well."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from skinsynth.classifier.classifier import Classifier, load_classifier, save_classifier
from skinsynth.classifier.training import ClassifierConfig, Examples, train_classifier
from skinsynth.files import written_whole

ABSENT, PRESENT = 0, 1  # the two classes of a detector
ABOUT = "detector.json"


@dataclass(frozen=True)
class Detector:
    """Says of images whether one artefact is in them; pixels come as uint8 and NCHW."""

    artefact: str
    classifier: Classifier
    threshold: float  # of the probability, from which on the artefact counts as present
    auc: float  # on test images

    def probabilities(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> Float[Tensor, " n"]:
        """Probability that the artefact is in each image, on the CPU."""
        return self.classifier.probabilities(pixels)[:, PRESENT].double().cpu()

    def sees(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> Bool[Tensor, " n"]:
        return self.probabilities(pixels) >= self.threshold

    def excess(self, images: Float[Tensor, "n 3 size size"]) -> Float[Tensor, " n"]:
        """Log odds beyond the threshold, of images in [-1, 1] and with their gradient: above 0 it sees the artefact."""
        absent, present = self.classifier.logits_differentiable(images).unbind(dim=1)
        # Rounding may put a sure detector's threshold at 0 or 1.
        return present - absent - torch.tensor(self.threshold).logit(eps=1e-6).to(images)


def train_detector(
    artefact: str, train: Examples, validation: Examples, config: ClassifierConfig, device: torch.device
) -> Detector:
    """A detector with the first seed of the settings, not judged yet; labels are ABSENT or PRESENT.

    Its threshold flags as many validation images as have the artefact: at one half, what is rare or hard to see would
    be counted too seldom.
    """
    classifier, _ = train_classifier(train, validation, config, 2, config.seeds[0], device)
    probabilities = classifier.probabilities(validation.pixels)[:, PRESENT].double().cpu()
    threshold = prevalence_threshold(probabilities, int(validation.labels.sum()))
    return Detector(artefact, classifier, threshold, float("nan"))


def prevalence_threshold(probabilities: Float[Tensor, " n"], count: int) -> float:
    """Half-way between the `count`-th highest probability and the next: so many lie above it, if these two differ."""
    ordered = probabilities.sort(descending=True).values
    return float(ordered[count - 1] + ordered[min(count, len(ordered) - 1)]) / 2


def counts_of(labels: Int64[Tensor, " n"]) -> dict[str, int]:
    """Counts of images with and without the artefact."""
    return {"with": int((labels == PRESENT).sum()), "without": int((labels == ABSENT).sum())}


def save_detector(folder: Path, detector: Detector) -> None:
    """Write the classifier's files, and beside them the threshold and the AUC on test images."""
    save_classifier(folder, detector.classifier)
    about = {"artefact": detector.artefact, "threshold": detector.threshold, "auc": detector.auc}
    with written_whole(folder / ABOUT) as aside:
        aside.write_text(json.dumps(about, indent=2) + "\n")


def load_detector(folder: Path, device: torch.device) -> Detector:
    """What `save_detector` wrote; a FileNotFoundError or ValueError says what is missing or does not fit."""
    if not (folder / ABOUT).is_file():
        raise FileNotFoundError(
            f"no detector at {folder}: run train_detectors, and see in its table whether the artefact was too rare"
        )
    try:
        about = json.loads((folder / ABOUT).read_text())
        artefact, threshold, auc = str(about["artefact"]), float(about["threshold"]), float(about["auc"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / ABOUT} is about no detector of ours ({error!r}): train it again") from error
    return Detector(artefact, load_classifier(folder, device), threshold, auc)


def load_detectors(folder: Path, device: torch.device) -> dict[str, Detector]:
    """Detectors by artefact, none where every artefact was too rare; a FileNotFoundError where there is no folder."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of detectors at {folder}: run train_detectors, or give the one it wrote")
    places = sorted(place.parent for place in folder.glob(f"*/{ABOUT}"))
    return {place.name: load_detector(place, device) for place in places}
