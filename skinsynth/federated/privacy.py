"""Differential privacy of whole hospitals, by Flower's clipping wrappers (McMahan et al. 2018; Andrew et al. 2021).

Promised: the weights of all rounds are within (epsilon, delta) as likely whether a hospital takes part or sends an
update of zero in every round. To exchange a hospital's data for others is twice that far: half the noise multiplier.

Not promised: anything against the server, which sees each hospital's update and adds the noise; more for one patient
than for the whole hospital; the texts of errors and who was left out; scores against real images. The noise is numpy's:
floating point, and from a generator that is not cryptographic. Losses and numbers of images would not be covered, so
they do not travel.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord
from flwr.clientapp.mod import adaptiveclipping_mod, fixedclipping_mod
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideAdaptiveClipping,
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
    Strategy,
)
from flwr.serverapp.strategy.dp_adaptive_clipping import DifferentialPrivacyAdaptiveBase
from flwr.supercore import privacy_accounting
from flwr.supercore.differential_privacy import KEY_NORM_BIT
from flwr.supercore.privacy_accounting.rdp_accountant import RdpAccountant

from skinsynth.federated.hospital import MEASURED
from skinsynth.federated.messages import ARRAYS, IMAGES, IMAGES_SHOWN, METRICS
from skinsynth.settings import Positive, ProperShare, Seed, Share

# Noise is added after a strategy's step; z C / n is right for these, whose step is the mean of n.
PLAIN_MEANS = ("FedAvg", "FedProx")


@dataclass(frozen=True)
class AdaptiveConfig:
    """How the clipping norm follows the updates' lengths (Andrew et al. 2021, algorithm 1)."""

    target_clipped_quantile: Share  # the share of hospitals that is to be clipped: 1 - gamma
    clip_norm_lr: Positive  # eta_C
    clipped_count_stddev: Positive  # sigma_b: of the noise on how many hospitals were clipped; more than z / 2


@dataclass(frozen=True)
class PrivacyConfig:
    where: str  # a key of CLIPPED_AT: who clips; the noise is the server's either way
    noise_multiplier: Positive  # z: the noise on the mean of n updates has a deviation of z C / n in each weight
    clipping_norm: Positive  # C: no update is longer; where it adapts, its start
    adaptive: AdaptiveConfig | None  # None: C is fixed
    delta: ProperShare  # less than one in the number of hospitals
    max_epsilon: Positive | None  # the run ends before a round that would spend more; None: it is only counted
    # Of the noise; None: from the operating system. A known seed makes runs repeatable, but whoever knows it can take
    # the noise off again, and two runs with one seed have the same noise, which cancels in their difference.
    seed: Seed | None


class _AsPublished(DifferentialPrivacyAdaptiveBase):
    """Flower 1.41's adaptive clipping with two of its steps put right.

    Its norm runs away from the target: it shrinks where too many are clipped, since the paper's rule is for the share
    that is not. And it moves the norm before it adds the noise, which is then too little wherever the norm falls.
    """

    def _geometric_update(self, clipped_fraction: float) -> None:
        self.norm_that_clipped = self.clipping_norm
        # C exp(-eta_C (f - target)) becomes C exp(eta_C (clipped_fraction - target)).
        super()._geometric_update(2 * self.target_clipped_quantile - clipped_fraction)

    def _add_noise_to_aggregated_arrays(self, aggregated: ArrayRecord) -> ArrayRecord:
        moved, self.clipping_norm = self.clipping_norm, self.norm_that_clipped
        noisy = super()._add_noise_to_aggregated_arrays(aggregated)
        self.clipping_norm = moved
        return noisy


class _AdaptiveAtServer(_AsPublished, DifferentialPrivacyServerSideAdaptiveClipping):
    pass


class _AdaptiveAtHospital(_AsPublished, DifferentialPrivacyClientSideAdaptiveClipping):
    pass


@dataclass(frozen=True)
class _Wrappers:
    fixed: type[DifferentialPrivacyServerSideFixedClipping | DifferentialPrivacyClientSideFixedClipping]
    adaptive: type[_AdaptiveAtServer | _AdaptiveAtHospital]


CLIPPED_AT = {
    "server": _Wrappers(DifferentialPrivacyServerSideFixedClipping, _AdaptiveAtServer),
    "hospital": _Wrappers(DifferentialPrivacyClientSideFixedClipping, _AdaptiveAtHospital),
}


def check_privacy(privacy: PrivacyConfig, strategy: str) -> None:
    """Raises ValueError where the guarantee would not hold with these settings, however many hospitals there are."""
    if privacy.where not in CLIPPED_AT:
        raise ValueError(f"privacy: where is one of {', '.join(CLIPPED_AT)}, but {privacy.where!r} came: change it")
    if strategy not in PLAIN_MEANS:
        raise ValueError(
            f"privacy: its noise fits the mean of updates, which {strategy} is not: choose {' or '.join(PLAIN_MEANS)}"
        )
    for key in ("noise_multiplier", "clipping_norm"):
        if not 0 < getattr(privacy, key) < math.inf:
            raise ValueError(f"privacy: {key} is above 0 and finite, but {getattr(privacy, key)} came: change it")
    if not 0 < privacy.delta < 1:
        raise ValueError(f"privacy: delta is above 0 and below 1, but {privacy.delta} came: change it")
    if privacy.seed is not None and not 0 <= privacy.seed < 2**32:
        raise ValueError(f"privacy: seed is null or a whole number of 32 bits, but {privacy.seed} came: change it")
    if privacy.adaptive is not None:
        _check_adaptive(privacy.adaptive, privacy.noise_multiplier)
    first = spent(privacy, 1)["epsilon"]
    if privacy.max_epsilon is not None and not first <= privacy.max_epsilon:
        raise ValueError(
            f"privacy: the first round alone spends an epsilon of {first:.4g}, but max_epsilon is "
            f"{privacy.max_epsilon}: raise it or noise_multiplier"
        )


def _check_adaptive(adaptive: AdaptiveConfig, noise_multiplier: float) -> None:
    if not 0 <= adaptive.target_clipped_quantile <= 1:
        raise ValueError(
            f"privacy: target_clipped_quantile is a share from 0 to 1, but {adaptive.target_clipped_quantile} came: "
            "change it"
        )
    if not 0 < adaptive.clip_norm_lr < math.inf:
        raise ValueError(f"privacy: clip_norm_lr is above 0 and finite, but {adaptive.clip_norm_lr} came: change it")
    if not noise_multiplier / 2 < adaptive.clipped_count_stddev < math.inf:
        raise ValueError(
            f"privacy: clipped_count_stddev is more than half of noise_multiplier ({noise_multiplier}) and finite, but "
            f"{adaptive.clipped_count_stddev} came: raise it"
        )


def check_everybody_is_needed(privacy: PrivacyConfig, least: int, hospitals: int) -> None:
    """Raises ValueError unless a round needs all hospitals, and delta is smaller than one of them.

    The noise is that of a mean over n. Who answers may depend on a hospital's data, so a mean over those that happen to
    answer is another question, for which nothing is promised; Flower's own accounted wrapper refuses it as well.
    """
    if least != hospitals:
        raise ValueError(
            f"privacy needs all {hospitals} hospitals in every round, but least_hospitals is {least}: make it "
            f"{hospitals}"
        )
    if privacy.delta * hospitals >= 1:
        raise ValueError(
            f"privacy: a delta of {privacy.delta} allows to publish one of {hospitals} hospitals as it is: make it "
            f"much less than 1/{hospitals}"
        )


def spent(privacy: PrivacyConfig | None, releases: int) -> dict[str, float]:
    """Epsilon at delta after so many rounds that released weights, by Rényi's divergence; empty without privacy."""
    if privacy is None:
        return {}
    # All hospitals take part in each round: nothing is amplified, and their number does not matter.
    relation = privacy_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    sampling = privacy_accounting.SamplingMethod.NO_AMPLIFICATION
    accountant = RdpAccountant(privacy_accounting.PrivacyConfig(privacy.delta, 1, relation, sampling))
    if releases > 0:
        accountant.compose(privacy_accounting.GaussianPrivacyEvent(multiplier_of(privacy), 1, 1), releases)
    return {"epsilon": accountant.get_privacy_spent().epsilon, "delta": privacy.delta}


def multiplier_of(privacy: PrivacyConfig) -> float:
    """The noise of a round over how far one hospital that sends no change in its place moves what the round tells.

    Where the norm adapts, Flower makes the update's noise so that update and count together have the multiplier z if
    who stays away counts as half a clipped hospital: 1/z² = 1/z_Δ² + 1/(2σ_b)² (Andrew et al. 2021, theorem 1). Who
    sends no change was not clipped, which moves the count by 1 and not by 1/2: 1/z_Δ² + 1/σ_b².
    """
    z = privacy.noise_multiplier
    return z if privacy.adaptive is None else (z**-2 + 0.75 * privacy.adaptive.clipped_count_stddev**-2) ** -0.5


def affords(privacy: PrivacyConfig | None, releases: int) -> bool:
    """Whether so many releases stay within max_epsilon."""
    return privacy is None or privacy.max_epsilon is None or spent(privacy, releases)["epsilon"] <= privacy.max_epsilon


def private(strategy: FedAvg, privacy: PrivacyConfig, hospitals: int, clipping_norm: float) -> Strategy:
    """The strategy in Flower's wrapper, which clips to the norm reached so far and adds noise for so many hospitals."""
    wrappers, z = CLIPPED_AT[privacy.where], privacy.noise_multiplier
    # Flower divides by an update's length, and at a length of 0 only numpy's numbers give infinity, so that nothing is
    # clipped. A hospital that clips gets plain numbers, since no others travel: see `_clip`.
    norm = np.float64(clipping_norm) if privacy.where == "server" else clipping_norm
    if privacy.adaptive is None:
        return wrappers.fixed(strategy, z, norm, hospitals)
    adaptive = privacy.adaptive
    return wrappers.adaptive(
        strategy,
        z,
        hospitals,
        norm,
        adaptive.target_clipped_quantile,
        adaptive.clip_norm_lr,
        adaptive.clipped_count_stddev,
    )


@contextmanager
def noise_of_round(privacy: PrivacyConfig, number: int) -> Iterator[None]:
    """Within the block numpy's global random numbers, of which Flower makes its noise, are this round's own."""
    outer = np.random.get_state()
    np.random.seed(None if privacy.seed is None else [privacy.seed, number])
    try:
        with np.errstate(divide="ignore"):  # see `private`
            yield
    finally:
        np.random.set_state(outer)


def metrics_of(privacy: PrivacyConfig | None) -> frozenset[str]:
    """What a hospital tells of a round besides its weights."""
    if privacy is None:
        return frozenset((IMAGES, *MEASURED))
    bit = {KEY_NORM_BIT} if privacy.where == "hospital" and privacy.adaptive is not None else set()
    return frozenset({IMAGES, IMAGES_SHOWN, *bit})


def mods_of(privacy: PrivacyConfig | None) -> list[Mod]:
    """What a hospital's app needs, before all other mods: then nothing changes what these let out."""
    if privacy is None:
        return []
    if privacy.where == "server":
        return [_withhold]
    return [_clip_by(fixedclipping_mod if privacy.adaptive is None else adaptiveclipping_mod), _withhold]


def _withhold(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Every hospital weighs 1; what its trainer was shown follows from the settings, and nothing else is told."""
    reply = call_next(message, context)
    if reply.has_content() and METRICS in reply.content.metric_records:
        shown = reply.content.metric_records[METRICS][IMAGES_SHOWN]
        reply.content[METRICS] = MetricRecord({IMAGES: 1, IMAGES_SHOWN: shown})
    return reply


def _clip_by(flower: Mod) -> Mod:
    """Flower's mod where it has something to clip.

    It divides by the update's length even where that is 0, and turns a reply of ours that says what failed, or one with
    other arrays, into an error without a reason or a sender.
    """

    def clip(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        reply = call_next(message, context)
        if reply.has_error() or ARRAYS not in reply.content.array_records:
            return reply
        sent, trained = message.content.array_records[ARRAYS], reply.content.array_records[ARRAYS]
        if list(sent) != list(trained):
            raise ValueError("the trained networks have other arrays than the federation's")
        if all(np.array_equal(sent[name].numpy(), trained[name].numpy()) for name in sent):
            if flower is adaptiveclipping_mod:
                reply.content.metric_records[METRICS][KEY_NORM_BIT] = 0
            return reply
        return flower(message, context, lambda *_: reply)

    return clip
