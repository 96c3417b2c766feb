"""The strategies that Flower ships, by name, and how many hospitals each needs."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import (
    Bulyan,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
    QFedAvg,
    Strategy,
)
from torch import Tensor

from skinsynth.federated.messages import ARRAYS, CONFIG, IMAGES

Options = Mapping[str, int | float]


@dataclass(frozen=True)
class StrategyConfig:
    name: str  # a key of STRATEGIES
    options: dict[
        str, int | float
    ]  # all that it takes (`options_of`) and no others; int first, or dacite reads 1 as 1.0


@dataclass(frozen=True)
class Offer:
    """A strategy and the fewest hospitals with which it does what it promises."""

    build: type[FedAvg]
    least: Callable[[Options], int]


def _one(_: Options) -> int:
    return 1


def _least_to_outvote(_: Options) -> int:
    """The median of two is their mean."""
    return 3


def _least_to_trim(options: Options) -> int:
    """Each end loses floor(beta n), which must be one or more (Yin et al. 2018)."""
    return math.ceil(1 / options["beta"]) if options["beta"] > 0 else 1


def _least_for_krum(options: Options) -> int:
    """Krum resists f of n where 2 f + 2 < n (Blanchard et al. 2017, proposition 1)."""
    return 2 * int(options["num_malicious_nodes"]) + 3


def _least_for_multikrum(options: Options) -> int:
    """Besides, the m that are averaged are at most n - f - 2 (Damaskinos et al. 2019, theorem 1)."""
    return max(_least_for_krum(options), int(options["num_nodes_to_select"]) + int(options["num_malicious_nodes"]) + 2)


def _least_for_bulyan(options: Options) -> int:
    """El Mhamdi et al. 2018, section 4: n >= 4 f + 3."""
    return 4 * int(options["num_malicious_nodes"]) + 3


STRATEGIES = {
    "FedAvg": Offer(FedAvg, _one),
    "FedAvgM": Offer(FedAvgM, _one),
    "FedProx": Offer(FedProx, _one),
    "QFedAvg": Offer(QFedAvg, _one),
    "FedAdam": Offer(FedAdam, _one),
    "FedYogi": Offer(FedYogi, _one),
    "FedAdagrad": Offer(FedAdagrad, _one),
    "FedMedian": Offer(FedMedian, _least_to_outvote),
    "FedTrimmedAvg": Offer(FedTrimmedAvg, _least_to_trim),
    "Krum": Offer(Krum, _least_for_krum),
    "MultiKrum": Offer(MultiKrum, _least_for_multikrum),
    "Bulyan": Offer(Bulyan, _least_for_bulyan),
}
# Of FedOpt's: Flower only prints it, the hospitals' learning rate is the trainer's.
UNUSED = ("eta_l",)
# Bounds of options that Flower takes without a look: at least, and less than.
BOUNDS = {
    "server_learning_rate": (0, math.inf),
    "server_momentum": (0, 1),
    "proximal_mu": (0, math.inf),
    "client_learning_rate": (1e-12, math.inf),
    "q": (0, math.inf),
    "eta": (0, math.inf),
    "beta_1": (0, 1),
    "beta_2": (0, 1),
    "tau": (1e-12, math.inf),
    "beta": (0, 0.5),
    "num_malicious_nodes": (0, math.inf),
    "num_nodes_to_select": (1, math.inf),
}


def options_of(name: str) -> dict[str, type]:
    """The numbers that a strategy takes beyond FedAvg's own settings, with their types."""
    if name not in STRATEGIES:
        raise ValueError(f"a strategy is one of {', '.join(STRATEGIES)}, but {name!r} came")
    shared = inspect.signature(FedAvg).parameters
    own = inspect.signature(STRATEGIES[name].build).parameters
    return {
        key: parameter.annotation
        for key, parameter in own.items()
        if key not in shared and key not in UNUSED and parameter.annotation in (int, float)
    }


def least_hospitals(config: StrategyConfig) -> int:
    """With how many a round does what the strategy promises; ValueError where an option is missing, foreign or off."""
    _check_options(config)
    return STRATEGIES[config.name].least(config.options)


def check_strategy(config: StrategyConfig, hospitals: int) -> None:
    """Raises ValueError where there are too few hospitals for the strategy."""
    least = least_hospitals(config)
    if hospitals < least:
        said = "".join(f", {key} {value}" for key, value in config.options.items())
        raise ValueError(
            f"{config.name}{said} needs {least} hospitals or more, but there are {hospitals}: add hospitals or choose "
            "another strategy"
        )


def build_strategy(config: StrategyConfig, hospitals: int) -> FedAvg:
    """The strategy, which waits for so many hospitals in each round and asks all that are there."""
    check_strategy(config, hospitals)
    options: dict[str, Any] = dict(config.options)
    return STRATEGIES[config.name].build(
        fraction_train=1.0,
        min_train_nodes=hospitals,
        min_available_nodes=hospitals,
        weighted_by_key=IMAGES,
        arrayrecord_key=ARRAYS,
        configrecord_key=CONFIG,
        **options,
    )


def _check_options(config: StrategyConfig) -> None:
    known = options_of(config.name)
    if config.options.keys() != known.keys():
        missing, unknown = sorted(known.keys() - config.options), sorted(config.options.keys() - known)
        raise ValueError(
            f"{config.name} takes the options {', '.join(known) or '(none)'}: missing {missing}, unknown {unknown}"
        )
    for key, value in config.options.items():
        least, bound = BOUNDS[key]
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or (known[key] is float and isinstance(value, float))) or not least <= value < bound:
            kind = "a whole number" if known[key] is int else "a number"
            raise ValueError(
                f"{config.name}: {key} is {kind} of at least {least} and below {bound}, but {value!r} came"
            )


def memory_of(strategy: Strategy, names: list[str]) -> dict[str, Tensor]:
    """What the strategy carries from round to round (momenta), by kind and name; `names` is the order of its lists."""
    memory: dict[str, Tensor] = {}
    for kind in ("m_t", "v_t", "momentum_vector"):
        kept = getattr(strategy, kind, None)
        if kept:
            by_name = kept if isinstance(kept, dict) else dict(zip(names, kept, strict=True))
            memory |= {f"{kind}/{name}": torch.as_tensor(array) for name, array in by_name.items()}
    if isinstance(strategy, FedAvgM) and strategy.current_arrays is not None:
        kept = strategy.current_arrays.items()
        memory |= {f"current_arrays/{name}": torch.from_numpy(array.numpy()) for name, array in kept}
    return memory


def remind(strategy: FedAvg, memory: Mapping[str, Tensor], names: list[str]) -> None:
    """Give a new strategy the `memory_of` another."""
    kinds = {key.partition("/")[0] for key in memory}
    for kind in sorted(kinds):
        arrays: dict[str, Any] = {name: memory[f"{kind}/{name}"].numpy() for name in names}
        if kind == "current_arrays":
            kept: Any = ArrayRecord({name: Array(array) for name, array in arrays.items()})
        else:
            kept = list(arrays.values()) if kind == "momentum_vector" else arrays
        setattr(strategy, kind, kept)
