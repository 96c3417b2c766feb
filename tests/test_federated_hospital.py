"""One hospital: its rounds are the trainer's own steps, and what it keeps survives as Flower's records."""

import dataclasses

import pytest
import torch
from flwr.app import RecordDict

from skinsynth.federated.client import train_round
from skinsynth.federated.hospital import (
    NETWORKS,
    Hospital,
    LocalWork,
    _pulled,
    check_averaged,
    load_weights,
    networks_in,
    weights_of,
)
from skinsynth.federated.messages import (
    ARRAYS,
    CONFIG,
    HOSPITAL,
    arrays_of,
    recall,
    remember,
    run_in,
    weights_in,
    work_in,
    work_record,
)
from skinsynth.gan.discriminator import DiscriminatorConfig
from skinsynth.gan.generator import GeneratorConfig
from skinsynth.gan.trainer import Trainer, moved_weights
from tests.test_gan_trainer import CONFIG as TRAINER

ALL = tuple(NETWORKS)
TINY = dataclasses.replace(
    TRAINER,
    generator=GeneratorConfig(8, 3, 4, 4, 2, 1, 32, 4, None, 0, "float16", False),
    discriminator=DiscriminatorConfig(8, 3, 2, 1, 32, 4, "resnet", 2, 1, None, 0, "float16", False),
    augment=dataclasses.replace(TRAINER.augment, preset="blit"),
)


def tiny_trainer(images=10, data=0, config=TINY):
    """A trainer of 8-pixel images in two classes; another `data` makes other images."""
    rng = torch.Generator().manual_seed(data)
    pixels = torch.randint(0, 256, (images, 3, 8, 8), generator=rng, dtype=torch.uint8)
    return Trainer(config, pixels, torch.arange(images) % 2, "cpu")


def work(steps=2, averaged=ALL, proximal_mu=0.0):
    return LocalWork(steps, averaged, proximal_mu)


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def distance(first, second):
    return torch.stack([(first[name] - second[name]).double().norm() for name in first]).norm().item()


def test_rounds_from_its_own_weights_are_the_trainers_own_steps():
    hospital, alone = Hospital("small", tiny_trainer()), tiny_trainer()
    weights = weights_of(alone, ALL)
    for _ in range(3):
        result = hospital.train_round(weights, work())
        weights = result.weights
        reports = [alone.step() for _ in range(2)]
    assert_same(weights, weights_of(alone, ALL))
    assert result.images == 10
    assert result.measured["images_shown"] == 8
    assert result.measured["real_sign"] == pytest.approx(sum(report.real_sign for report in reports) / 2)
    losses = [report.generator_loss + report.discriminator_loss for report in reports]
    assert result.measured["train_loss"] == pytest.approx(sum(losses) / 2)
    assert hospital.state()[1] == alone.state()[1]


def test_new_weights_leave_optimisers_ada_random_numbers_and_order_alone():
    trainer = tiny_trainer()
    for _ in range(3):
        trainer.step()
    before, numbers = trainer.state()
    load_weights(trainer, {name: tensor + 1 for name, tensor in weights_of(trainer, ALL).items()}, ALL)
    after, same_numbers = trainer.state()
    assert numbers == same_numbers
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(NETWORKS.values())


def test_networks_that_are_not_averaged_stay_at_the_hospital():
    hospital, other = Hospital("small", tiny_trainer()), tiny_trainer(config=dataclasses.replace(TINY, seed=1))
    own = weights_of(hospital.trainer, ("discriminator",))
    load_weights(hospital.trainer, weights_of(other, ("generator",)), ("generator",))
    assert_same(weights_of(hospital.trainer, ("generator",)), weights_of(other, ("generator",)))
    assert_same(weights_of(hospital.trainer, ("discriminator",)), own)
    result = hospital.train_round(weights_of(other, ("generator",)), work(averaged=("generator",)))
    assert all(name.startswith("generator/") for name in result.weights)


@pytest.mark.parametrize("averaged", [ALL, ("generator",), ("generator", "ema")])
def test_the_federations_networks_are_the_average_over_steps_where_it_travels(averaged):
    like, other = tiny_trainer(), tiny_trainer(config=dataclasses.replace(TINY, seed=1))
    other.step()
    generator, discriminator = networks_in(weights_of(other, averaged), like)
    expected = other.generator_ema if "ema" in averaged else other.generator
    assert_same(generator.state_dict(), expected.state_dict())
    assert_same(discriminator.state_dict(), (other if "discriminator" in averaged else like).discriminator.state_dict())
    assert_same(weights_of(like, ALL), weights_of(tiny_trainer(), ALL))


def test_a_state_in_flowers_records_goes_on_to_the_bit():
    first = Hospital("small", tiny_trainer())
    weights = weights_of(first.trainer, ALL)
    first.train_round(weights, work(3))
    memory = RecordDict()
    remember(memory, first.state())
    second = Hospital("small", tiny_trainer())
    second.restore(recall(memory))
    assert_same(first.train_round(weights, work()).weights, second.train_round(weights, work()).weights)
    assert_same(first.state()[0], second.state()[0])


def test_a_round_that_fails_leaves_the_memory_as_it_was_and_says_why():
    hospital, memory = Hospital("small", tiny_trainer()), RecordDict()
    good = asked(weights_of(hospital.trainer, ALL), 1)
    train_round(hospital, good, memory)
    kept, _ = recall(memory)
    ruined = {name: torch.full_like(tensor, torch.nan) for name, tensor in weights_in(good[ARRAYS]).items()}
    reply = train_round(hospital, RecordDict({ARRAYS: arrays_of(ruined), CONFIG: good[CONFIG]}), memory)
    assert "TrainingDiverged" in reply[HOSPITAL]["error"]
    assert not reply.array_records
    assert_same(recall(memory)[0], kept)
    again, undisturbed = train_round(hospital, good, memory), Hospital("small", tiny_trainer())
    memory = RecordDict()
    train_round(undisturbed, good, memory)
    assert_same(weights_in(again[ARRAYS]), weights_in(train_round(undisturbed, good, memory)[ARRAYS]))


def test_a_weight_that_is_not_finite_ends_a_round_whose_losses_are_and_no_state_of_it_is_kept():
    hospital, memory = Hospital("small", tiny_trainer()), RecordDict()
    weights = weights_of(hospital.trainer, ALL)
    next(tensor for name, tensor in weights.items() if name.startswith("ema/")).fill_(torch.inf)  # no loss sees it
    reply = train_round(hospital, asked(weights, 1), memory)
    assert "TrainingDiverged" in reply[HOSPITAL]["error"]
    assert not reply.array_records
    assert recall(memory) is None
    good, undisturbed = asked(weights_of(tiny_trainer(), ALL), 2), Hospital("small", tiny_trainer())
    assert_same(*(weights_after(train_round(one, good, RecordDict())) for one in (hospital, undisturbed)))


def asked(weights, number, run="0123456789abcdef"):
    config = work_record(work(), run)
    config["server-round"] = number
    return RecordDict({ARRAYS: arrays_of(weights), CONFIG: config})


def weights_after(reply):
    return weights_in(reply[ARRAYS])


def test_a_folder_outlives_a_restart_of_the_hospital_and_of_the_server(tmp_path):
    undisturbed, memory = Hospital("small", tiny_trainer()), RecordDict()
    weights = [weights_of(undisturbed.trainer, ALL)]
    for number in range(1, 5):
        weights.append(weights_after(train_round(undisturbed, asked(weights[-1], number), memory)))

    def restarted(number):
        reply = train_round(
            Hospital("small", tiny_trainer()), asked(weights[number - 1], number), RecordDict(), tmp_path
        )
        return weights_after(reply)

    # The server forgets round 3 once, and asks for it again.
    for number in (1, 2, 3, 3, 4):
        assert_same(restarted(number), weights[number])
        assert len(list(tmp_path.glob("*/after-*"))) == min(number, 2)


def test_a_hospital_that_is_late_in_a_second_run_does_not_go_on_from_the_first(tmp_path):
    weights = weights_of(tiny_trainer(), ALL)
    for number in (1, 2):
        train_round(Hospital("small", tiny_trainer()), asked(weights, number), RecordDict(), tmp_path)
    second = asked(weights, 3, run="fedcba9876543210")
    late = train_round(Hospital("small", tiny_trainer()), second, RecordDict(), tmp_path)
    new = train_round(Hospital("small", tiny_trainer()), second, RecordDict())
    assert_same(weights_after(late), weights_after(new))
    assert [place.name for place in tmp_path.iterdir()] == ["fedcba9876543210"]


def test_a_run_is_no_path(tmp_path):
    reply = train_round(
        Hospital("small", tiny_trainer()),
        asked(weights_of(tiny_trainer(), ALL), 1, run="../elsewhere"),
        RecordDict(),
        tmp_path,
    )
    assert "ValueError" in reply[HOSPITAL]["error"]
    assert not list(tmp_path.iterdir())


def test_a_proximal_pull_keeps_a_hospital_near_the_federation():
    """Adam's steps do not grow with the gradient, so the pull shows once the weights have moved."""
    moved = {}
    for mu in (0.0, 1e4):
        hospital = Hospital("small", tiny_trainer())
        start = weights_of(hospital.trainer, ("generator", "discriminator"))
        result = hospital.train_round(start, work(12, ("generator", "discriminator"), mu))
        moved[mu] = distance(start, result.weights)
        assert not hospital.trainer.generator_adam._optimizer_step_pre_hooks
    assert moved[1e4] < 0.7 * moved[0.0]


def test_the_pull_is_mu_times_the_way_from_where_the_round_began():
    """The gradient of mu / 2 ||w - w_start||² (FedProx, eq. 2), beside that of the loss."""
    trainer, pulls = tiny_trainer(), {}
    with _pulled(trainer, 0.5):
        for adam in (trainer.generator_adam, trainer.discriminator_adam):
            for number, weight in enumerate(moved_weights(adam)):
                weight.data += 0.25 * number
                weight.grad = torch.ones_like(weight)
            handle = adam.register_step_pre_hook(
                lambda one, *_: pulls.update({id(one): [weight.grad.clone() for weight in moved_weights(one)]})
            )
            adam.step()
            handle.remove()
    assert len(pulls) == 2
    for gradients in pulls.values():
        for number, gradient in enumerate(gradients):
            torch.testing.assert_close(gradient, torch.full_like(gradient, 1 + 0.5 * 0.25 * number))


def test_work_arrives_as_it_was_sent():
    record = work_record(work(7, ("generator",)), "0123456789abcdef")
    assert run_in(record) == "0123456789abcdef"
    assert work_in(record) == work(7, ("generator",))
    record["proximal-mu"] = 0.5
    assert work_in(record) == work(7, ("generator",), 0.5)


def test_weights_of_other_sizes_are_refused():
    trainer = tiny_trainer()
    weights = weights_of(trainer, ALL)
    for others in ({**weights, "generator/more": torch.zeros(1)}, dict(list(weights.items())[1:])):
        with pytest.raises(ValueError, match="other networks or sizes"):
            load_weights(trainer, others, ALL)


@pytest.mark.parametrize("averaged", [(), ("discriminator",), ("generator", "generator"), ("generator", "mapping")])
def test_what_is_averaged_has_a_generator_and_only_networks(averaged):
    with pytest.raises(ValueError, match="averaged names generator"):
        check_averaged(averaged)


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_hospital_has_a_plain_name(name):
    with pytest.raises(ValueError, match="name"):
        Hospital(name, tiny_trainer())
