"""The hospital's side of Flower: weights in, train, weights out."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod

from skinsynth.federated.folder import alone_in, read_state, write_state
from skinsynth.federated.hospital import Hospital, weights_of
from skinsynth.federated.messages import (
    ARRAYS,
    CONFIG,
    answer,
    failure,
    numbers_as_in,
    recall,
    remember,
    run_in,
    weights_in,
    work_in,
)

LOG = logging.getLogger(__name__)


def client_app(
    hospital_of: Callable[[Context], Hospital],
    mods: Sequence[Mod] = (),
    folder_of: Callable[[Context], Path] | None = None,
) -> ClientApp:
    """The app of every hospital; `hospital_of` finds whose it is, and `mods` change what it sends (`privacy.mods_of`).

    Its state lies with Flower (`context.state`), so that in one process the weights and the states of a round are kept
    or lost together. A SuperNode that is started again has forgotten it: give it a folder of the hospital's own.
    """
    app = ClientApp()

    def round_of(message: Message, context: Context) -> RecordDict:
        if folder_of is None:
            return train_round(hospital_of(context), message.content, context.state)
        folder = folder_of(context)
        with alone_in(folder, None):  # who is late ends a round before the next one
            return train_round(hospital_of(context), message.content, context.state, folder)

    @app.train(mods=list(mods))
    def train(message: Message, context: Context) -> Message:
        try:
            return Message(round_of(message, context), reply_to=message)
        except Exception as error:
            LOG.exception("this round failed")
            # Flower sends what it is told, and nothing of what went before.
            raise RuntimeError(told_of(error)) from None

    return app


def told_of(error: Exception) -> str:
    """What a federation hears of an error at a hospital: its kind. Texts name files and images, which stay there."""
    return f"{type(error).__name__}: its own log says more"


def train_round(hospital: Hospital, asked: RecordDict, memory: RecordDict, folder: Path | None = None) -> RecordDict:
    """One round from the state before it, which is replaced only if all goes well; an error becomes the reply."""
    try:
        config = asked.config_records[CONFIG]
        run, number = run_in(config), int(config["server-round"])  # type: ignore[arg-type]
        kept = recall(memory) if folder is None else read_state(folder, run, number)
        if kept is None:
            kept = hospital.state_at_start
        hospital.restore(kept)
        work = work_in(config)
        own = weights_of(hospital.trainer, work.averaged)
        result = hospital.train_round(numbers_as_in(own, weights_in(asked.array_records[ARRAYS])), work)
        if folder is None:
            remember(memory, hospital.state())
        else:
            write_state(folder, run, number, hospital.state())
    except Exception as error:
        # Whatever goes wrong at one hospital, the others' round goes on.
        LOG.exception("hospital %s: this round failed (its states: %s)", hospital.name, folder or "in memory")
        return failure(hospital.name, told_of(error))
    return answer(hospital.name, result)
