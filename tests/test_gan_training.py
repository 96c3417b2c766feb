"""A whole training: ticks, curves, and going on from what was killed or ended before."""

import shutil
from pathlib import Path

import pytest

from skinsynth.gan.checkpoint import finished_folder, keep_finished, read_checkpoint
from skinsynth.gan.training import History, Schedule, train
from tests.test_gan_trainer import assert_same_state, trainer_of

TICKS = {"images_per_tick": 8, "ticks_per_score": 2}  # two steps a tick


def weight_of(generator) -> dict[str, float]:
    """In the place of a score: a number of the weights."""
    return {"sum": float(next(generator.parameters()).double().sum())}


def trained(folder: Path, images: int, score=weight_of):
    trainer = trainer_of()
    return trainer, train(trainer, Schedule(images, **TICKS), folder, score, "")


def ended(folder: Path, images: int):
    trainer, history = trained(folder, images)
    keep_finished(folder)
    return trainer, history


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training of 32 images that nothing disturbs."""
    return trained(tmp_path_factory.mktemp("whole") / "mal-0", 32)


def images_of(rows) -> list[float]:
    return [row["images"] for row in rows]


def test_each_tick_has_its_losses_and_every_second_one_a_score(whole):
    trainer, history = whole
    assert trainer.images_seen == 32
    assert images_of(history.losses) == [8, 16, 24, 32]
    assert images_of(history.scores) == [0, 16, 32]
    assert history.scores[-1]["sum"] == weight_of(trainer.generator_ema)["sum"]


def test_a_schedule_that_ends_within_a_tick_has_its_end_in_both_curves(tmp_path):
    _, history = trained(tmp_path / "mal-0", 12)
    assert images_of(history.losses) == [8, 12]
    assert images_of(history.scores) == [0, 12]


def test_a_training_killed_in_a_tick_goes_on_from_the_last_one(tmp_path, whole):
    def fails_late(generator):
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(None)
        return weight_of(generator)

    scored: list[None] = []
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "mal-0", 32, fails_late)
    trainer, history = trained(tmp_path / "mal-0", 32)
    assert_same_state(trainer, whole[0])
    assert history == whole[1]


def test_a_longer_training_goes_on_where_a_shorter_one_ended_and_is_as_if_it_had_never_ended(tmp_path, whole):
    first, _ = ended(tmp_path / "mal-0", 16)
    steps: list[int] = []
    trainer = trainer_of()
    step = trainer.step
    trainer.step = lambda: steps.append(trainer.images_seen) or step()
    history = train(trainer, Schedule(32, **TICKS), tmp_path / "mal-0", weight_of, "")
    assert steps[0] == first.images_seen == 16
    assert_same_state(trainer, whole[0])
    assert history == whole[1]


@pytest.mark.parametrize("end", [4, 12, 20])
def test_an_end_within_a_tick_leaves_a_row_of_losses_more_in_the_longer_training(tmp_path, whole, end):
    _, shorter = ended(tmp_path / "mal-0", end)
    assert images_of(shorter.scores)[-1] == end
    trainer, history = trained(tmp_path / "mal-0", 32)
    assert_same_state(trainer, whole[0])
    assert images_of(history.losses) == sorted([8, 16, 24, 32, end])
    assert history.scores == whole[1].scores


def test_a_training_killed_before_its_last_score_has_it_when_it_goes_on(tmp_path):
    trained(tmp_path / "mal-0", 12)
    trainer, history = trained(tmp_path / "mal-0", 12)
    assert images_of(history.losses) == [8, 12]
    assert history.scores[-1] == {"images": 12, **weight_of(trainer.generator_ema)}


@pytest.mark.parametrize("images", [16, 8])
def test_a_training_that_is_no_longer_than_the_ended_one_begins_anew(tmp_path, images):
    ended(tmp_path / "mal-0", 16)
    _, history = trained(tmp_path / "mal-0", images, lambda generator: weight_of(generator) | {"again": 1.0})
    assert [row.get("again") for row in history.scores] == [1.0] * len(history.scores)
    assert images_of(history.losses)[-1] == images


def test_what_was_killed_comes_before_what_has_ended(tmp_path):
    ended(tmp_path / "mal-0", 8)
    trained(tmp_path / "mal-0", 16, lambda _: {"sum": -1.0})
    _, history = trained(tmp_path / "mal-0", 24)
    assert [row["sum"] for row in history.scores if row["images"] == 16] == [-1.0]


def test_a_schedule_made_shorter_than_what_was_killed_begins_anew(tmp_path, whole):
    trained(tmp_path / "mal-0", 32)
    trainer, history = trained(tmp_path / "mal-0", 16)
    assert trainer.images_seen == 16
    assert history.losses == whole[1].losses[:2]


def test_one_state_is_kept_of_each_gan(tmp_path):
    for name in ("cgan-1", "cgan-no-aug-1", "cgan-2"):
        ended(tmp_path / name, 4)
        assert not (tmp_path / name).exists()
    assert sorted(folder.name for folder in (tmp_path / "finished").iterdir()) == ["cgan-2", "cgan-no-aug-1"]
    ended(tmp_path / "cgan-2", 8)
    _, numbers = read_checkpoint(finished_folder(tmp_path / "cgan-2"))
    assert numbers["trainer"]["images_seen"] == 8


def test_a_training_with_nothing_left_to_do_keeps_the_state_that_is_there(tmp_path):
    ended(tmp_path / "mal-0", 8)
    keep_finished(tmp_path / "mal-0")
    assert read_checkpoint(finished_folder(tmp_path / "mal-0")) is not None


def test_a_damaged_ended_state_is_said_and_not_gone_on_with(tmp_path):
    ended(tmp_path / "mal-0", 8)
    for file in finished_folder(tmp_path / "mal-0").glob("*.safetensors"):
        file.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"finished/mal-0 is no whole checkpoint.*remove it to start again"):
        trained(tmp_path / "mal-0", 16)
    shutil.rmtree(finished_folder(tmp_path / "mal-0"))
    assert isinstance(trained(tmp_path / "mal-0", 16)[1], History)
