"""Processes that train one GAN together, each on its own part of every batch (torchrun starts them)."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

# While the first process scores and saves, the others wait for it.
PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Team:
    rank: int
    size: int

    @property
    def first(self) -> bool:
        """Whether this process writes, scores and talks for all."""
        return self.rank == 0

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes its sum over all processes; they travel as one."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        try:
            dist.all_reduce(flat)
        except RuntimeError as error:
            raise ConnectionError("another process of the team has ended: see its message above") from error
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def meet(self, device: torch.device) -> None:
        """Go on when every process has come here."""
        met = torch.zeros(1, device=device)
        self.sum_([met])
        met.item()  # a GPU's sum has been asked for until it is read


ALONE = Team(0, 1)


def started_by_torchrun() -> bool:
    """Whether this process is one of torchrun's."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def join_team() -> Iterator[tuple[Team, torch.device | None]]:
    """This process's place among those of torchrun and its GPU (None: there is none); without torchrun it is alone."""
    if not started_by_torchrun():
        yield ALONE, None
        return
    device = None
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device else "gloo", timeout=PATIENCE)
    try:
        yield Team(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()


def team_size(processes: int) -> int:
    """How many work together: as many as torchrun has started, else what the settings ask for (0: one for each GPU)."""
    if started_by_torchrun():
        return int(os.environ["WORLD_SIZE"])
    return processes or max(torch.cuda.device_count(), 1)


def ensure_team(processes: int) -> None:
    """Go on as one of so many processes (0: one for each GPU), or as what starts them, which ends here with them."""
    if processes != 1 and not started_by_torchrun():
        sys.exit(_run_as_team(processes))


def _run_as_team(processes: int) -> int:
    """Run this very command as so many processes under torchrun; its exit code.

    torchrun lives in this process, so that whoever ends this one ends them all. Raises ValueError where there are fewer
    GPUs than processes.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    gpus = torch.cuda.device_count()
    count = team_size(processes)
    if count < 1 or (gpus and count > gpus):
        raise ValueError(
            f"processes is 0 (one for each GPU) to {gpus or 'any number'}, but {processes} came: change it"
        )
    # Left alone, torchrun gives each process one thread, and the first one scores for all.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    try:
        run(parse_args(["--standalone", f"--nproc-per-node={count}", *sys.argv]))
    except ChildFailedError:
        return 1
    except SignalException as ended:
        return 128 + ended.sigval
    return 0
