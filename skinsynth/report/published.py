"""What the paper (papers/000) reports, and in what its protocol differs from that of a run."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

FIDELITY_METRICS = ("kid_percent", "fid", "precision", "recall", "ppl")
PREDICTION_METRICS = ("accuracy", "auc")

# Table 1. The text we have of the paper lost the mark of its second cGAN, which its caption tells to be without colour
# augmentation; the run without any augmentation is called worse there and has no numbers.
FIDELITY = {
    "ben": (0.42, 7.99, 0.77, 0.45, 60.0),
    "mal": (0.47, 15.46, 0.62, 0.40, 51.0),
    "cgan": (0.32, 7.33, 0.75, 0.42, 193.0),
    "cgan-no-color": (0.24, 7.02, 0.75, 0.44, 101.0),
}

# Table 2, printed in percent there.
PREDICTION = {
    "real": (0.978, 0.988),
    "synth-gan": (0.941, 0.942),
    "aug-gan": (0.978, 0.986),
    "synth-cgan": (0.947, 0.967),
    "aug-cgan": (0.978, 0.986),
    "synth-cgan-no-color": (0.926, 0.927),
    "aug-cgan-no-color": (0.979, 0.988),
}

DECIMALS = {
    "kid_percent": 2,
    "fid": 2,
    "precision": 2,
    "recall": 2,
    "ppl": 0,
    "accuracy": 3,
    "auc": 3,
    "positive_auc": 3,
}

# The paper names Inception; the others are what NVIDIA's code takes, which it trains with.
NETWORK_OF = {"kid_percent": "inception", "fid": "inception", "precision": "vgg16", "recall": "vgg16", "ppl": "vgg16"}

IMAGES = 37_648  # ISIC 2020 and the 4,522 melanomas of ISIC 2019
IMAGE_SIZE = 256
CLASSIFIER = "efficientnet_b2"


@dataclass(frozen=True)
class Facts:
    """What a run did, where its tables do not show it."""

    source: str  # of the images, as in prepare_images
    images: int  # that are split
    image_size: int  # pixels, square
    protocol: str  # of the split: patient or paper
    network: str  # of the classifier
    pretrained: bool
    synthetic: Mapping[str, int]  # images added by each scenario
    classes: Sequence[str]
    positive: str  # the class that sensitivity is about


def paper_rows(names: Sequence[str], metrics: Sequence[str], values_of: Mapping[str, Sequence[float]]) -> list[dict]:
    """One row for each of our names that the paper knows and each metric it reports."""
    return [
        {"name": name, "metric": metric, "paper": value, "paper_network": NETWORK_OF.get(metric, CLASSIFIER)}
        for name in names
        if name in values_of
        for metric, value in zip(metrics, values_of[name], strict=True)
    ]


def fidelity_differences(
    facts: Facts, extractor: str | None, path_network: str | None, further: Collection[str] = ()
) -> list[str]:
    """What forbids to read Table 1 as one number against another, a line each; `further` are other extractors."""
    return [
        *_data(facts),
        *_features([extractor, *further]),
        *_levels([extractor, *further]),
        *_spread_networks(extractor, path_network),
        "FID grows as fewer images are compared, and the paper does not say how many it compares; its interval is for "
        "FID at this number of images. FID extrapolated is extrapolated to infinitely many real and generated images.",
        "Recall falls and coverage rises as more generated images are compared: at unequal counts neither can be "
        f"compared. Of {_with_counts(further)} only the floor and as many generated images as held out have the same "
        "counts.",
        "GANs of one class are compared with the real images of that class: their rows are not to be ranked against "
        "each other or against the others.",
        "The floor compares held-out real images with training images, and is to be read against as many generated "
        "ones.",
        "Intervals come from random halves of the real patients and of the generated images; near the floor they are "
        "wider than they need be.",
        "KID is in percent, as in the paper.",
    ]


def prediction_differences(facts: Facts, seeds: Sequence[int], shown: Collection[str], margin: float) -> list[str]:
    """What forbids to read Table 2, with these scenarios, as one number against another, a line each."""
    return [
        *_data(facts),
        _split(facts),
        *_classifier(facts),
        _seeds(seeds),
        *_synthetic(facts, shown),
        *_classes(facts),
        "Always saying benign is right for 86.4 % of the paper's images (5,106 of 37,648 are malignant): its "
        "accuracies are to be read against that.",
        "The paper prints accuracy and AUC in percent; they are shares of 1 here.",
        "Sensitivity is the recall of malignant images, specificity that of all others. papers/003 swaps the two; its "
        "table is not set beside ours.",
        "The difference of AUC is between mean predictions over seeds. Its interval and p (patients) take the images "
        "of a patient as one cluster (Obuchowski 1997); p (DeLong) takes images for independent. p (Holm) is "
        "p (patients) corrected for the number of scenarios; intervals are not.",
        "Scenarios are trained on other shares of the classes than real images have, and a classifier expects those: "
        "accuracy, balanced accuracy, F1, sensitivity, specificity and calibration error compare this, too. AUC, "
        "average precision and sensitivity at 90 % specificity do not.",
        "Of few images the calibration error is too high where it is small: even a calibrated classifier has one.",
        f"At most {margin:g} below real: yes where the whole interval of the difference lies above -{margin:g}, no "
        "where all of it lies below; else it cannot be told, as of few patients (a test for non-inferiority). The "
        "margin is the AUC that one would give up, to be chosen before the run. The interval is over test patients and "
        "knows nothing of other trainings.",
    ]


def _data(facts: Facts) -> list[str]:
    if (facts.images, facts.image_size) == (IMAGES, IMAGE_SIZE):
        return []
    drawn = ", which the project draws itself: no photograph is among them" if facts.source == "phantom" else ""
    return [
        f"The paper has {IMAGES:,} images of ISIC 2020 and 2019 at {IMAGE_SIZE} px; here are {facts.images:,} images "
        f"of the source {facts.source} at {facts.image_size} px{drawn}."
    ]


def _with_counts(further: Collection[str]) -> str:
    """The tables that have sets of several sizes."""
    return "Table 1c and those after it" if further else "Table 1c"


def _features(extractors: Sequence[str | None]) -> list[str]:
    others = [name for name in extractors if name not in (None, "inception")]
    if not others:
        return []
    own = "the project's own classifier of real images"
    named = dict.fromkeys(own if name in ("classifier", "classifier_levels") else str(name) for name in others)
    return [
        f"Features are those of {' and '.join(named)}, the paper's of Inception-v3: KID and FID of the two are on "
        "different scales, and may order GANs differently."
    ]


def _levels(extractors: Sequence[str | None]) -> list[str]:
    """Why the classifier is asked twice."""
    if not {"classifier", "classifier_levels"} <= set(extractors):
        return []
    return [
        "The classifier's last features (classifier) keep what tells the classes apart and drop most else: precision "
        "and density in them may be high for images that show no lesion. Those of classifier_levels, mean and spread "
        "of its maps of every size, see colours and textures. FID and KID of the two are on different scales."
    ]


def _spread_networks(extractor: str | None, path_network: str | None) -> list[str]:
    """A note on precision, recall and path length: the paper does not name their networks."""
    ours = [f"precision and recall are in features of {extractor}"] if extractor not in (None, "vgg16") else []
    ours += [f"PPL is in features of {path_network}"] if path_network not in (None, "vgg16") else []
    named = "The paper names no network for precision, recall and PPL; NVIDIA's code, which it trains with, takes VGG16"
    return [f"{named}. Here {' and '.join(ours)}."] if ours else []


def _split(facts: Facts) -> str:
    if facts.protocol == "paper":
        return (
            "As in the paper, images are split one by one, and the results are of the images that stopped training: "
            "patients can have images on both sides."
        )
    return (
        "The paper reports on the images that stopped its training; split one by one, all of those from ISIC 2020 "
        "share a patient with training images. Here all images of a patient are on one side, training stops on the "
        "validation side, and the results are of the test side."
    )


def _classifier(facts: Facts) -> list[str]:
    if facts.network == CLASSIFIER and facts.pretrained:
        return []
    start = "pretrained on ImageNet" if facts.pretrained else "from random weights"
    return [f"The paper trains EfficientNet-B2 pretrained on ImageNet; here it is {facts.network} {start}."]


def _seeds(seeds: Sequence[int]) -> str:
    if not seeds:
        return "The paper gives no intervals; ours of 95 % are over patients and say nothing about other trainings."
    count = str(max(seeds)) if min(seeds) == max(seeds) else f"{min(seeds)} to {max(seeds)}"
    trained = "values are of one training" if max(seeds) == 1 else f"values are means over {count} seeds"
    return (
        f"The paper gives one number without an interval; here {trained}, with 95 % intervals over patients, which say "
        "nothing about other trainings."
    )


def _synthetic(facts: Facts, shown: Collection[str]) -> list[str]:
    taken = [f"{count:,} by {scenario}" for scenario, count in facts.synthetic.items() if count and scenario in shown]
    if not taken:
        return []
    return [
        "The paper takes 55,000 synthetic images, as many of each class (synth), or adds 22,000 melanomas (aug); here "
        f"are taken {', '.join(taken)}."
    ]


def _classes(facts: Facts) -> list[str]:
    """A note on which AUC of more than two classes is meant where."""
    if len(facts.classes) == 2:
        return []
    return [
        f"The AUC of {facts.positive} ranks its images above those of all other classes, and so does its difference to "
        "that of real; averaged over classes, the AUC ranks each class above the rest. The paper has two classes."
    ]
