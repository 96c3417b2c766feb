"""How a classifier is trained: Adam, a plateau schedule, and a stop on the validation images alone."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau
from tqdm import tqdm

from skinsynth.classifier.augmentation import augment
from skinsynth.classifier.classifier import Architecture, Classifier, normalise
from skinsynth.classifier.networks import Network, build_network
from skinsynth.settings import Count, NotNegative, Positive, ProperShare, Seeds, ShareBelowOne, Whole


@dataclass(frozen=True)
class ClassifierConfig:
    network: str  # cnn-108k, googlenet, or any name that timm knows, such as efficientnet_b2
    pretrained: bool  # start from ImageNet weights
    dropout: ShareBelowOne
    epochs: Count  # at most
    patience: Count  # epochs without a lower validation loss before training ends
    learning_rate: Positive
    batch_size: Count
    rotation_degrees: NotNegative  # largest turn either way
    flips: bool
    balance: str  # a key of BALANCES
    plateau_factor: ProperShare  # what the learning rate is multiplied by on a plateau
    plateau_patience: Whole  # epochs without a lower validation loss before that
    mixed_precision: bool  # bfloat16 where there is a GPU
    seeds: Seeds  # one training each


class Examples(NamedTuple):
    """Images and their class indices."""

    pixels: UInt8[Tensor, "n 3 size size"]
    labels: Int64[Tensor, " n"]


def even_weights(counts: Float[Tensor, " classes"]) -> Float[Tensor, " classes"]:
    """Every image counts the same."""
    return torch.ones_like(counts)


def class_weights(counts: Float[Tensor, " classes"]) -> Float[Tensor, " classes"]:
    """Every class counts the same, whatever its number of images; the mean weight of an image is one."""
    return counts.sum() / (len(counts) * counts)


def shuffled(labels: Int64[Tensor, " n"], rng: torch.Generator) -> Int64[Tensor, " n"]:
    """Every image once, in random order."""
    return torch.randperm(len(labels), generator=rng, device=rng.device)


def evenly_drawn(labels: Int64[Tensor, " n"], rng: torch.Generator) -> Int64[Tensor, " n"]:
    """As many images as there are, drawn with replacement, every class as likely as another."""
    weights = 1 / labels.bincount().double()
    return torch.multinomial(weights[labels], len(labels), replacement=True, generator=rng)


class Balance(NamedTuple):
    """How much each class counts in training."""

    in_loss: Callable[[Tensor], Tensor]  # weight of an image by the number of images of each class
    in_all: Callable[[Tensor], Tensor]  # the same, with how often the image is drawn
    order: Callable[[Tensor, torch.Generator], Tensor]  # the images of an epoch


BALANCES = {
    "none": Balance(even_weights, even_weights, shuffled),
    "class_weights": Balance(class_weights, class_weights, shuffled),
    "balanced_sampling": Balance(even_weights, class_weights, evenly_drawn),
}


def train_classifier(
    train: Examples,
    validation: Examples,
    config: ClassifierConfig,
    class_count: int,
    seed: int,
    device: torch.device,
) -> tuple[Classifier, list[dict[str, int | float]]]:
    """The classifier of the epoch with the lowest validation loss, and one row of the learning curve per epoch.

    The stop looks at the loss rather than at the AUC: the AUC of a few malignant validation images moves in steps and
    stands still long before the loss does. Rows hold epoch, train_loss, validation_loss, validation_auc, learning_rate.
    """
    _check(train, validation, config, class_count)
    train, validation = _resident(train, device), _resident(validation, device)
    # Dropout and timm's initialisation take no generator of their own: torch's is seeded for this block only.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = build_network(
            config.network, class_count, config.pretrained, config.dropout, train.pixels.shape[-1]
        ).to(device)
        run = _Run(network, train, validation, config, class_count, torch.Generator(device).manual_seed(seed))
        history = list(tqdm(run.epochs(), total=config.epochs, unit="epoch", desc=f"{config.network}, seed {seed}"))
    if not math.isfinite(run.best_loss):
        raise ValueError(
            f"{config.network}, seed {seed}: the validation loss was not finite after any of {len(history)} epochs: "
            "lower learning_rate in params.yaml"
        )
    network.load_state_dict(run.best_weights)
    return Classifier(network, Architecture(config.network, class_count, config.dropout, network.image_size)), history


class Trained(NamedTuple):
    classifier: Classifier
    history: list[dict[str, int | float]]  # one row an epoch, with its seed


def train_classifiers(
    train: Examples, validation: Examples, config: ClassifierConfig, class_count: int, device: torch.device
) -> list[Trained]:
    """One classifier for each seed of the settings."""
    trained = []
    for seed in config.seeds:
        classifier, epochs = train_classifier(train, validation, config, class_count, seed, device)
        trained.append(Trained(classifier, [{"seed": seed, **epoch} for epoch in epochs]))
    return trained


class _Run:
    """One training: the network, its optimizer, and the best weights so far."""

    def __init__(
        self,
        network: Network,
        train: Examples,
        validation: Examples,
        config: ClassifierConfig,
        class_count: int,
        rng: torch.Generator,
    ) -> None:
        self.network, self.train, self.validation, self.config, self.rng = network, train, validation, config, rng
        self.optimizer = Adam(network.parameters(), lr=config.learning_rate, fused=True)
        self.schedule = ReduceLROnPlateau(
            self.optimizer, factor=config.plateau_factor, patience=config.plateau_patience
        )
        counts = _class_counts(train, class_count).to(rng.device)
        self.balance = BALANCES[config.balance]
        self.class_weights = self.balance.in_loss(counts)
        # Validation counts each class as training does: otherwise a training set with other proportions (synthetic
        # images are often balanced) would be stopped for its class shares instead of for what it learned.
        shares = self.balance.in_all(counts) * counts / counts.sum()
        self.validation_weights = shares / _class_counts(validation, class_count).to(rng.device)
        self.best_loss, self.best_weights = math.inf, copy.deepcopy(network.state_dict())

    def epochs(self) -> Iterator[dict[str, int | float]]:
        """Train until the validation loss has not fallen for `patience` epochs."""
        epochs_without_gain = 0
        for epoch in range(1, self.config.epochs + 1):
            learning_rate = self.optimizer.param_groups[0]["lr"]
            train_loss = self._train_epoch()
            validation_loss, validation_auc = self._validate()
            self.schedule.step(validation_loss)
            epochs_without_gain += 1
            if validation_loss < self.best_loss:
                self.best_loss, epochs_without_gain = validation_loss, 0
                self.best_weights = copy.deepcopy(self.network.state_dict())
            yield {
                "epoch": epoch,
                "train_loss": train_loss,
                "validation_loss": validation_loss,
                "validation_auc": validation_auc,
                "learning_rate": learning_rate,
            }
            if epochs_without_gain >= self.config.patience:
                return

    def _train_epoch(self) -> float:
        self.network.train()
        count = len(self.train.labels)
        order = self.balance.order(self.train.labels, self.rng)
        loss_sum = torch.zeros((), device=self.rng.device)
        # Batches of near-equal size: batch normalisation cannot work on a last batch of one image.
        for chosen in order.tensor_split(math.ceil(count / self.config.batch_size)):
            loss = self._loss(chosen)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            loss_sum += loss.detach() * len(chosen)
        return float(loss_sum) / count

    def _loss(self, chosen: Int64[Tensor, " batch"]) -> Float[Tensor, ""]:
        device = self.rng.device
        images = self.train.pixels[chosen.to(self.train.pixels.device)].to(device) / 255
        images = augment(images, self.config.rotation_degrees, self.config.flips, self.rng)
        labels = self.train.labels[chosen]
        losses = cross_entropy(self._logits(images), labels, reduction="none")
        return (losses * self.class_weights[labels]).mean()

    def _logits(self, images: Float[Tensor, "n 3 size size"]) -> Float[Tensor, "n classes"]:
        device = self.rng.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.config.mixed_precision and device == "cuda"):
            return self.network(normalise(images)).float()

    @torch.no_grad()
    def _validate(self) -> tuple[float, float]:
        self.network.eval()
        device = self.rng.device
        batches = self.validation.pixels.split(self.config.batch_size)
        logits = torch.cat([self._logits(batch.to(device) / 255) for batch in batches])
        labels = self.validation.labels
        losses = cross_entropy(logits, labels, reduction="none")
        loss = (losses * self.validation_weights[labels]).sum()
        return float(loss), mean_auc(logits.softmax(dim=1), labels)


def mean_auc(probabilities: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> float:
    """Area under the ROC curve of each class against the rest, averaged: Mann and Whitney's U, ties counted half."""
    areas = [_auc(probabilities[:, index], labels == index) for index in range(probabilities.shape[1])]
    return sum(areas) / len(areas)


def _auc(scores: Tensor, positive: Tensor) -> float:
    _, level, counts = scores.unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0) - (counts - 1) / 2)[level].double()
    positives, negatives = int(positive.sum()), int((~positive).sum())
    above = ranks[positive].sum() - positives * (positives + 1) / 2
    return float(above) / (positives * negatives)


def _class_counts(examples: Examples, class_count: int) -> Float[Tensor, " classes"]:
    return torch.bincount(examples.labels, minlength=class_count).float()


def _resident(examples: Examples, device: torch.device) -> Examples:
    """Labels on the device, and pixels too unless they would take more than half of what is free there."""
    fits = device.type != "cuda" or examples.pixels.nbytes < _free_bytes(device) / 2
    return Examples(examples.pixels.to(device) if fits else examples.pixels, examples.labels.to(device))


def _free_bytes(device: torch.device) -> int:
    """Memory of a GPU that nobody uses, with what torch keeps of an earlier training and will give to this one."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def _check(train: Examples, validation: Examples, config: ClassifierConfig, class_count: int) -> None:
    if config.balance not in BALANCES:
        raise ValueError(f"balance is one of {sorted(BALANCES)}, not {config.balance!r}")
    if class_count < 2:
        raise ValueError(f"a classifier needs two classes or more, not {class_count}")
    for side, examples in (("training", train), ("validation", validation)):
        if len(examples.labels) and int(examples.labels.max()) >= class_count:
            raise ValueError(f"{side} has label {int(examples.labels.max())}, but there are {class_count} classes")
        counts = torch.bincount(examples.labels, minlength=class_count).tolist()
        if 0 in counts:
            raise ValueError(
                f"{side} has no image of class {counts.index(0)} (images per class: {counts}): "
                "give more patients to that side or fewer classes to the study"
            )
