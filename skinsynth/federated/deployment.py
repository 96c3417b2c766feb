"""The two apps for real machines: a hospital that reads its own folder, and a server that keeps all in one of its own.

Both are made from one `Deployment`, which travels with the app, so that server and hospitals cannot differ in it.
"""

import dataclasses
import hashlib
import json
import logging
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from safetensors.torch import load_file

from skinsynth.federated.client import client_app
from skinsynth.federated.cohort import seeds_of
from skinsynth.federated.folder import alone_in
from skinsynth.federated.hospital import Hospital, Weights, first_weights, networks_of
from skinsynth.federated.privacy import mods_of
from skinsynth.federated.server import FederationConfig, FederationState, Server, check_federation
from skinsynth.files import write_lines
from skinsynth.gan.checkpoint import INDEX, read_checkpoint, write_checkpoint
from skinsynth.gan.family import save_trained
from skinsynth.gan.trainer import Trainer, TrainerConfig
from skinsynth.images.archive import Images, read_archive
from skinsynth.partition.split import images_of, read_split

LOG = logging.getLogger(__name__)
LOCK_SECONDS = 120.0
IMAGES, SPLIT, START = "images.zip", "split.csv", "start.safetensors"  # in a folder of a hospital's or the server's


@dataclass(frozen=True)
class Deployment:
    hospitals: tuple[str, ...]  # names of all that may take part; `seeds_of` says which seed is whose
    classes: tuple[str, ...]  # in the order of the labels
    trainer: TrainerConfig
    federation: FederationConfig

    def digest(self) -> str:
        """A name for all runs that may go on from one another: they differ in rounds, patience, who is needed, and in
        what changes nothing here, the order of the hospitals and how often a server without images would score.

        With privacy, whose noise is for so many hospitals, `check_deployment` wants least_hospitals to be all of them.
        """
        federation = dataclasses.replace(
            self.federation,
            rounds=1,
            patience_rounds=1,
            least_hospitals=1,
            rounds_per_score=1,
            reply_timeout_seconds=1.0,
        )
        alike = dataclasses.replace(self, hospitals=tuple(sorted(self.hospitals)), federation=federation)
        return hashlib.sha256(repr(alike).encode()).hexdigest()[:16]


def check_deployment(deployment: Deployment) -> None:
    """Raises ValueError where such a federation cannot run."""
    if len(set(deployment.hospitals)) < len(deployment.hospitals):
        raise ValueError(f"hospitals names each once, but it is {', '.join(deployment.hospitals)}: rename one")
    check_federation(deployment.federation, len(deployment.hospitals))


def hospital_app(deployment: Deployment, device: torch.device) -> ClientApp:
    """The app of a SuperNode whose `--node-config` says hospital="its name" and folder="its own folder".

    In the folder lie images.zip (of `prepare_images`) and, if some patients are held back, split.csv (of
    `split_patients`; only its train side is used). The hospital's state between rounds is kept there too.
    """

    def hospital_of(context: Context) -> Hospital:
        return hospital_in(_folder(context.node_config), str(context.node_config["hospital"]), deployment, device)

    def folder_of(context: Context) -> Path:
        return _folder(context.node_config) / f"federation-{deployment.digest()}"

    return client_app(hospital_of, mods_of(deployment.federation.privacy), folder_of)


def hospital_in(folder: Path, name: str, deployment: Deployment, device: torch.device) -> Hospital:
    """The hospital of that name with the images of its folder; ValueError where the federation does not know it."""
    if name not in deployment.hospitals:
        raise ValueError(f"{name!r} is none of this federation's hospitals, {', '.join(deployment.hospitals)}")
    real = training_images(folder)
    seed_of = seeds_of(deployment.hospitals, deployment.trainer.seed)
    config = dataclasses.replace(deployment.trainer, seed=seed_of[name])
    return Hospital(name, Trainer(config, torch.from_numpy(real.pixels), torch.from_numpy(real.labels), device))


def training_images(folder: Path) -> Images:
    """Those of a hospital's folder: all in images.zip, or the train side of split.csv where there is one."""
    split = folder / SPLIT
    ids = images_of(read_split(split), "train")["image_id"].tolist() if split.is_file() else None
    return read_archive(folder / IMAGES, ids)


def server_app(deployment: Deployment) -> ServerApp:
    """The app of the SuperLink; the run's `folder` is where it keeps its checkpoint and leaves the GAN and the tables.

    It holds no image and scores nothing: each hospital judges the GAN on its own images. Started again it goes on from
    the last round.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        serve(grid, deployment, _folder(context.run_config))

    return app


def serve(grid: Grid, deployment: Deployment, folder: Path) -> FederationState:
    """All rounds that are left, then the GAN in `folder`/model and a table of each kind beside it."""
    check_deployment(deployment)
    with alone_in(folder, LOCK_SECONDS):
        return _serve(grid, deployment, folder)


def _serve(grid: Grid, deployment: Deployment, folder: Path) -> FederationState:
    checkpoint = folder / "checkpoint"
    kept = read_checkpoint(checkpoint)
    if kept is None:
        state = FederationState(_start(folder, deployment), run=secrets.token_hex(8))
    else:
        check_settings(folder, deployment)
        state = FederationState.of_parts(*kept)

    def save(state: FederationState) -> None:
        tensors, numbers = state.parts()
        write_checkpoint(checkpoint, (tensors, {"deployment": deployment.digest(), **numbers}))
        _write_tables(folder, state)
        LOG.info("round %d of %d is over", state.round, deployment.federation.rounds)

    server = Server(deployment.federation, state, None, save, deployment.hospitals)
    server.run(grid)
    _write_gan(folder / "model", deployment, server.state)
    return server.state


def forget(folder: Path, name: str) -> None:
    """Let a hospital of the run in `folder` come back as another node, as it is with a new key.

    Its name is then that node's which first sends weights under it. BlockingIOError while the run is at work,
    ValueError where it knows no such hospital.
    """
    nodes = nodes_of(folder)
    if name not in nodes:
        known = ", ".join(nodes) or "none"
        raise ValueError(f"{folder} has heard of {known}, but not of {name!r}: there is nothing to forget")
    with alone_in(folder, LOCK_SECONDS):
        found = read_checkpoint(folder / "checkpoint")
        assert found is not None  # nodes_of has read it
        del found[1]["state"]["nodes"][name]
        write_checkpoint(folder / "checkpoint", found)


def nodes_of(folder: Path) -> dict[str, int]:
    """Flower's node of each hospital of the run in `folder`, by name, from its first whole reply on.

    It may be asked while the run is at work, which replaces this file in one step.
    """
    numbers = _numbers_in(folder)
    return {} if numbers is None else dict(sorted(numbers["state"]["nodes"].items()))


def check_settings(folder: Path, deployment: Deployment) -> None:
    """Raises ValueError where the run in `folder` has other settings, so that it cannot go on with these."""
    numbers = _numbers_in(folder)
    if numbers is not None and numbers["deployment"] != deployment.digest():
        raise ValueError(f"{folder} is of a federation with other settings: name another run with --run")


def _numbers_in(folder: Path) -> dict[str, Any] | None:
    """Those of the run's checkpoint; None before its first round is over."""
    index = folder / "checkpoint" / INDEX
    return json.loads(index.read_text())["numbers"] if index.is_file() else None


def _start(folder: Path, deployment: Deployment) -> Weights:
    """Those of a file that was laid there, else random ones."""
    drawn = first_weights(deployment.trainer, deployment.federation.averaged)
    if not (folder / START).is_file():
        return drawn
    given = load_file(folder / START)
    if {name: tensor.shape for name, tensor in given.items()} != {name: t.shape for name, t in drawn.items()}:
        raise ValueError(f"{folder / START} holds other networks or sizes than the settings say: remove or replace it")
    return {name: given[name] for name in drawn}


def _write_tables(folder: Path, state: FederationState) -> None:
    for name, rows in {"rounds": state.rounds, "hospitals": state.visits, "incidents": state.incidents}.items():
        write_lines(folder / f"{name}.jsonl", rows)


def _write_gan(folder: Path, deployment: Deployment, state: FederationState) -> None:
    generator, discriminator = networks_of(state.weights, deployment.trainer)
    save_trained(folder, generator, discriminator, list(range(len(deployment.classes))), state.images_shown)


def _folder(config: object) -> Path:
    folder = Path(str(config["folder"]))  # type: ignore[index]
    if not folder.is_absolute():
        raise ValueError(f"folder is an absolute path, since Flower runs apps in places of its own, but {folder} came")
    return folder
