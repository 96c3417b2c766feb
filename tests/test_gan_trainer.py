"""Training: what a step changes, and that a resumed run equals an undisturbed one."""

import copy
import dataclasses
import json
from contextlib import nullcontext
from functools import partial

import pytest
import torch

from benchmarks.gan_settings import halves_on_the_cpu
from skinsynth.gan import trainer as trainer_module
from skinsynth.gan.augment import AugmentConfig
from skinsynth.gan.batches import data_order, parts_of
from skinsynth.gan.checkpoint import INDEX, read_checkpoint, write_checkpoint
from skinsynth.gan.collapse import count_distinct
from skinsynth.gan.discriminator import DiscriminatorConfig
from skinsynth.gan.generator import GeneratorConfig
from skinsynth.gan.presets import PresetConfig, trainer_config
from skinsynth.gan.team import Team
from skinsynth.gan.trainer import StepReport, Trainer, TrainerConfig, TrainingDiverged, ema_decay
from skinsynth.gan.training import RunConfig, configure, labels_of
from skinsynth.process import keep_freed_memory
from skinsynth.settings import check_ranges

CONFIG = TrainerConfig(
    generator=GeneratorConfig(8, 3, 6, 6, 2, 2, 64, 8, None, 0, "float16", False),
    discriminator=DiscriminatorConfig(8, 3, 2, 2, 64, 8, "resnet", 2, 1, None, 0, "float16", False),
    augment=AugmentConfig("bgcfnc", 0.5, True, 0.6, 2, 100),
    batch_size=4,
    learning_rate=0.0025,
    betas=(0.0, 0.99),
    r1_gamma=1.0,
    r1_interval=3,
    path_length_weight=2.0,
    path_length_interval=2,
    path_length_decay=0.01,
    style_mixing_probability=0.9,
    ema_half_life_images=100.0,
    ema_rampup=0.05,
    x_flip=True,
    frozen_levels=0,
    images_per_pass=None,
    seed=0,
)


def toy_images(config, count=10):
    rng = torch.Generator().manual_seed(7)
    size = config.generator.resolution
    return torch.randint(0, 256, (count, 3, size, size), generator=rng, dtype=torch.uint8), torch.arange(count) % 2


def trainer_of(config=CONFIG):
    return Trainer(config, *toy_images(config), "cpu")


def assert_same_state(first, second):
    (tensors, numbers), (other_tensors, other_numbers) = first.state(), second.state()
    assert numbers == other_numbers
    assert tensors.keys() == other_tensors.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], other_tensors[name])] == []


@pytest.mark.parametrize("class_count", [0, 2])
def test_a_resumed_run_is_the_undisturbed_one_to_the_bit(tmp_path, class_count):
    config = dataclasses.replace(
        CONFIG,
        generator=dataclasses.replace(CONFIG.generator, class_count=class_count),
        discriminator=dataclasses.replace(CONFIG.discriminator, class_count=class_count),
    )
    undisturbed, killed = trainer_of(config), trainer_of(config)
    reports = [undisturbed.step() for _ in range(9)]
    for _ in range(5):
        killed.step()
    write_checkpoint(tmp_path, killed.state())
    resumed = trainer_of(config)
    resumed.restore(read_checkpoint(tmp_path))
    assert_same_state(resumed, killed)
    assert [resumed.step() for _ in range(4)] == reports[5:]
    assert_same_state(resumed, undisturbed)


def test_a_state_is_plain_tensors_and_json():
    trainer = trainer_of()
    trainer.step()
    tensors, numbers = trainer.state()
    assert json.loads(json.dumps(numbers)) == numbers
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    trainer.step()
    assert all(torch.equal(tensors[name], before[name]) for name in tensors)


def test_a_state_of_other_images_or_labels_of_the_same_number_is_refused():
    images, labels = toy_images(CONFIG)
    state = trainer_of().state()
    changed = images.clone()
    changed[-1, -1, -1, -1] ^= 1
    for others in ((changed, labels), (images.flip(0), labels), (images, 1 - labels)):
        with pytest.raises(ValueError, match=r"same settings and images.*start again"):
            Trainer(CONFIG, *others, "cpu").restore(state)


@pytest.mark.parametrize("class_count", [0, 2])
def test_a_state_of_an_older_version_that_does_not_know_its_images_goes_on(class_count):
    config = dataclasses.replace(
        CONFIG,
        generator=dataclasses.replace(CONFIG.generator, class_count=class_count),
        discriminator=dataclasses.replace(CONFIG.discriminator, class_count=class_count),
    )
    old, new = trainer_of(config), trainer_of(config)
    old.step()
    tensors, numbers = old.state()
    new.restore((tensors, {name: value for name, value in numbers.items() if name != "images_sha256"}))
    assert_same_state(new, old)


def test_a_state_of_other_settings_is_refused():
    trainer = trainer_of()
    with pytest.raises(ValueError, match="same settings"):
        trainer_of(dataclasses.replace(CONFIG, r1_gamma=2.0)).restore(trainer.state())


def test_a_step_moves_both_networks_and_reports():
    trainer = trainer_of()
    before, _ = trainer.state()
    report = trainer.step()
    after, _ = trainer.state()
    moved = {name for name in before if name in after and not torch.equal(before[name], after[name])}
    assert {"generator.synthesis.b8.conv1.weight", "discriminator.b8.conv0.weight", "generator.mapping.w_avg"} <= moved
    assert report.images_seen == trainer.images_seen == 4
    assert -1 <= report.real_sign <= 1
    assert report.path_length > 0
    assert report.r1 > 0


def test_a_discriminator_learns_to_tell_a_plain_set_from_noise():
    config = dataclasses.replace(CONFIG, augment=dataclasses.replace(CONFIG.augment, preset="none"), batch_size=8)
    images = torch.full((10, 3, 8, 8), 255, dtype=torch.uint8)
    trainer = Trainer(config, images, torch.zeros(10, dtype=torch.int64), "cpu")
    first = [trainer.step() for _ in range(30)]
    assert first[-1].discriminator_loss < first[0].discriminator_loss


@pytest.mark.slow
def test_the_generator_learns_a_colour():
    config = dataclasses.replace(
        CONFIG, augment=dataclasses.replace(CONFIG.augment, preset="none"), batch_size=8, learning_rate=0.01
    )
    images = torch.full((10, 3, 8, 8), 230, dtype=torch.uint8)
    trainer = Trainer(config, images, torch.zeros(10, dtype=torch.int64), "cpu")
    for _ in range(150):
        trainer.step()
    z = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
    assert trainer.generator_ema(z, torch.eye(2)[[0] * 16]).mean() > 0.3


def test_divergence_raises():
    trainer = trainer_of()
    with torch.no_grad():
        trainer.generator.synthesis.b4.const.fill_(torch.nan)
    with pytest.raises(TrainingDiverged, match="lower learning_rate"):
        trainer.step()


def test_what_would_fail_in_a_later_step_is_refused_at_the_start():
    three = dataclasses.replace(CONFIG, discriminator=dataclasses.replace(CONFIG.discriminator, mbstd_channels=3))
    with pytest.raises(ValueError, match="mbstd_channels divides the 8 feature maps at 4x4, but is 3"):
        trainer_of(three)
    networks = {
        name: dataclasses.replace(getattr(CONFIG, name), image_channels=4) for name in ("generator", "discriminator")
    }
    colourless = dataclasses.replace(CONFIG, **networks)
    images, labels = torch.zeros(10, 4, 8, 8, dtype=torch.uint8), torch.arange(10) % 2
    with pytest.raises(ValueError, match="'bgcfnc' turns colours, which images of 4 channels have none of: take bg"):
        Trainer(colourless, images, labels, "cpu")
    plain = dataclasses.replace(colourless, augment=dataclasses.replace(CONFIG.augment, preset="bg"))
    Trainer(plain, images, labels, "cpu").step()


def test_losses_that_explode_are_stopped_while_they_are_still_finite():
    trainer = trainer_of()
    with torch.no_grad():
        trainer.discriminator.get_submodule("b4.out").weight.mul_(1e7)
    with pytest.raises(TrainingDiverged, match="lower learning_rate"):
        trainer.step()


@pytest.mark.parametrize("columns", ["all", "of z"])
def test_a_generator_that_makes_one_image_or_one_a_class_is_stopped(columns):
    """Noise still makes its pixels differ, so the watch looks without it, and class by class."""
    trainer = trainer_of(dataclasses.replace(CONFIG, learning_rate=0.01))
    for _ in range(10):
        trainer.step()
    assert trainer.watch() > 0.1
    with torch.no_grad():
        weight = trainer.generator.mapping.fc0.weight
        weight[:, : None if columns == "all" else CONFIG.generator.z_size] = 0
    with pytest.raises(TrainingDiverged, match=r"0.0% of what real ones do.*lower learning_rate"):
        trainer.watch()


@pytest.mark.parametrize(("modes", "stops"), [(2, True), (4, True), (20, False)])
def test_a_generator_that_makes_a_few_images_is_stopped_and_one_that_knows_many_by_heart_is_not(modes, stops):
    config = dataclasses.replace(CONFIG, learning_rate=0.01)
    trainer = Trainer(config, *toy_images(config, 128), "cpu")
    for _ in range(10):
        trainer.step()
    rng = torch.Generator().manual_seed(1)
    known = torch.randn(modes, CONFIG.generator.z_size, generator=rng)

    def near_known(_, given):
        z, c = given
        return known[torch.arange(len(z)) % modes] + 0.01 * torch.randn(z.shape, generator=rng), c

    trainer.generator.register_forward_pre_hook(near_known)
    told = rf"only {modes} of \d+ images of a class are distinct"
    with pytest.raises(TrainingDiverged, match=told) if stops else nullcontext():
        trainer.watch()


def test_near_copies_count_once():
    images = torch.zeros(5, 3, 8, 8)
    images[2:] += torch.tensor([0.05, 0.2, 0.21])[:, None, None, None]
    assert [count_distinct(images, apart) for apart in (0.0, 0.02, 0.1, 1.0)] == [4, 3, 2, 1]


def test_a_weight_that_is_not_finite_is_seen_before_it_is_saved():
    trainer = trainer_of()
    with torch.no_grad():
        trainer.generator.synthesis.b8.conv1.bias[0] = torch.inf
    with pytest.raises(TrainingDiverged, match="of generator is not finite"):
        trainer.watch()


@pytest.mark.parametrize(
    ("network", "weight"),
    [
        ("discriminator", "b4.fc.weight"),
        ("generator_ema", "synthesis.b8.conv1.weight"),
        ("generator_ema", "mapping.w_avg"),
    ],
)
def test_a_network_that_makes_no_image_yet_is_watched_too(network, weight):
    trainer = trainer_of()
    with torch.no_grad():
        getattr(trainer, network).state_dict()[weight].fill_(torch.nan)
    with pytest.raises(TrainingDiverged, match=f"of {network} is not finite"):
        trainer.watch()


@pytest.mark.parametrize("bias", [100.0, -100.0])
def test_images_that_differ_beyond_white_or_black_only_are_one_image(bias):
    trainer = trainer_of()
    with torch.no_grad():
        for resolution in trainer.generator.synthesis.resolutions:
            trainer.generator.synthesis.get_submodule(f"b{resolution}").torgb.bias.fill_(bias)
    with pytest.raises(TrainingDiverged, match=r"0.0% of what real ones do"):
        trainer.watch()


def test_watching_changes_nothing():
    trainer = trainer_of()
    before, _ = trainer.state()
    trainer.watch()
    after, _ = trainer.state()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_one_image_a_class_cannot_be_watched():
    labels = torch.arange(2)
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    assert Trainer(CONFIG, images, labels, "cpu").watch() == 1


@pytest.mark.parametrize(("ranks", "passes"), [(1, 1), (1, 4), (2, 2), (4, 1)])
def test_parts_hold_each_row_once_and_never_split_a_group(ranks, passes):
    parts = [part for rank in range(ranks) for part in parts_of(16, 4, rank, ranks, passes, torch.device("cpu"))]
    rows = [part.of(torch.arange(16)) for part in parts]
    assert sorted(torch.cat(rows).tolist()) == list(range(16))
    for own in rows:
        # Of each part, the minibatch deviation groups every (n / 4)-th image: these are groups of the whole batch too.
        assert all(len({row % 4 for row in group}) == 1 for group in own.view(4, -1).T.tolist())


def assert_like_the_whole_batch(states, reports, whole):
    """Equal but for the order of sums."""
    expected = [whole.step() for _ in reports]
    for report, wanted in zip(reports, expected, strict=True):
        assert dataclasses.asdict(report) == pytest.approx(dataclasses.asdict(wanted), rel=1e-4, abs=1e-5)
    tensors, _ = whole.state()
    for name in ("generator.synthesis.b8.conv1.weight", "discriminator.b8.conv0.weight", "generator_ema.mapping.w_avg"):
        torch.testing.assert_close(states[name], tensors[name], rtol=1e-3, atol=1e-4)


DIVIDED = dataclasses.replace(CONFIG, batch_size=8, path_length_interval=1, r1_interval=2)


@pytest.mark.parametrize("images_per_pass", [2, 4])
def test_accumulated_passes_equal_the_whole_batch(images_per_pass):
    divided = trainer_of(dataclasses.replace(DIVIDED, images_per_pass=images_per_pass))
    reports = [divided.step() for _ in range(4)]
    assert_like_the_whole_batch(divided.state()[0], reports, trainer_of(DIVIDED))


def train_in_a_team(rank, folder):
    """One of two processes: the reports of a few steps and the state, written by each."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    config = dataclasses.replace(DIVIDED, images_per_pass=2)
    trainer = Trainer(config, *toy_images(config), "cpu", Team(rank, 2))
    reports = [dataclasses.asdict(trainer.step()) for _ in range(4)]
    torch.distributed.destroy_process_group()
    write_checkpoint(folder / str(rank), (trainer.state()[0], {"reports": reports}))


@pytest.mark.slow
def test_two_processes_equal_one_on_the_same_batch(tmp_path):
    torch.multiprocessing.spawn(train_in_a_team, args=(tmp_path,), nprocs=2)
    first, second = (read_checkpoint(tmp_path / str(rank)) for rank in range(2))
    assert first[1] == second[1]
    assert [name for name in first[0] if not torch.equal(first[0][name], second[0][name])] == []
    reports = [StepReport(**report) for report in first[1]["reports"]]
    assert_like_the_whole_batch(first[0], reports, trainer_of(DIVIDED))


@pytest.mark.parametrize(("change", "team"), [({"images_per_pass": 3}, Team(0, 1)), ({}, Team(0, 3)), ({}, Team(0, 8))])
def test_a_batch_that_cannot_be_divided_is_named(change, team):
    config = dataclasses.replace(DIVIDED, **change)
    with pytest.raises(ValueError, match="equal parts"):
        Trainer(config, *toy_images(config), "cpu", team)


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 32])
@pytest.mark.parametrize("resolution", [32, 128, 256, 512, 1024])
def test_the_auto_preset_falls_into_equal_parts_of_whole_groups(resolution, processes):
    auto = trainer_config(PresetConfig("auto", x_flip=True, seed=0), resolution, 3, processes)
    # The networks' size does not matter here.
    group = auto.discriminator.mbstd_group
    networks = {
        "generator": CONFIG.generator,
        "discriminator": dataclasses.replace(CONFIG.discriminator, mbstd_group=group),
    }
    config = dataclasses.replace(auto, **networks)
    assert Trainer(config, *toy_images(config), "cpu", Team(processes - 1, processes)).passes == 1
    assert auto.batch_size // processes % group == 0


RUN = RunConfig(classes=("benign",), conditional=False, augment="bgc", adaptive=False)
PRESET = trainer_config(PresetConfig("paper256", x_flip=True, seed=0), 256, 3)


def test_an_augmentation_that_stays_at_none_is_refused_and_says_how_to_set_its_strength():
    with pytest.raises(ValueError, match=r"'bgc' starts at 0.*give the run an initial_p above 0"):
        configure(PRESET, RUN)
    with pytest.raises(ValueError, match="initial_p above 0"):
        configure(CONFIG, dataclasses.replace(RUN, initial_p=0.0))
    for change in ({"adaptive": True}, {"augment": "none"}):
        assert configure(PRESET, dataclasses.replace(RUN, **change)).augment.initial_p == 0


def test_a_run_sets_the_strength_of_its_augmentation_or_leaves_it():
    fixed = configure(PRESET, dataclasses.replace(RUN, initial_p=0.3)).augment
    assert (fixed.preset, fixed.adaptive, fixed.initial_p) == ("bgc", False, 0.3)
    assert configure(CONFIG, RUN).augment.initial_p == CONFIG.augment.initial_p
    with pytest.raises(ValueError, match=r"run\.initial_p is 1\.5, but it must be 0 to 1"):
        check_ranges(dataclasses.replace(RUN, initial_p=1.5), "run")


@pytest.mark.parametrize("levels", [-1, 2])
def test_frozen_levels_that_there_are_not_are_refused(levels):
    with pytest.raises(ValueError, match="frozen_levels lies in 0 … 1"):
        trainer_of(dataclasses.replace(CONFIG, frozen_levels=levels))


def test_a_state_goes_on_in_other_passes():
    whole = trainer_of(DIVIDED)
    whole.step()
    divided = trainer_of(dataclasses.replace(DIVIDED, images_per_pass=4))
    divided.restore(whole.state())
    assert dataclasses.asdict(divided.step()) == pytest.approx(dataclasses.asdict(whole.step()), rel=1e-4)


def test_frozen_levels_keep_their_weights_and_the_rest_learns():
    trainer = trainer_of(dataclasses.replace(CONFIG, frozen_levels=1))
    before = copy.deepcopy(trainer.discriminator.state_dict())
    for _ in range(3):
        trainer.step()
    after = trainer.discriminator.state_dict()
    for name, weight in before.items():
        assert torch.equal(weight, after[name]) == name.startswith("b8."), name


def test_averaging_ramps_up_to_its_half_life():
    assert ema_decay(CONFIG, 0) == 0
    assert ema_decay(CONFIG, 80) == pytest.approx(0.5)
    assert ema_decay(CONFIG, 10**6) == pytest.approx(0.5 ** (4 / 100))
    assert ema_decay(dataclasses.replace(CONFIG, ema_rampup=None), 0) == pytest.approx(0.5 ** (4 / 100))


def test_the_average_lies_between_the_old_and_the_new_weights():
    trainer = trainer_of(dataclasses.replace(CONFIG, ema_rampup=None))
    start = trainer.generator_ema.synthesis.b8.conv1.weight.clone()
    trainer.step()
    latest = trainer.generator.synthesis.b8.conv1.weight
    expected = start.lerp(latest, 1 - 0.5 ** (4 / 100))
    torch.testing.assert_close(trainer.generator_ema.synthesis.b8.conv1.weight, expected)


def test_each_epoch_shows_every_image_once():
    order = data_order(10, 0, 30, seed=3).view(3, 10)
    assert all(sorted(epoch.tolist()) == list(range(10)) for epoch in order)
    assert order[0].tolist() != order[1].tolist()
    assert torch.equal(data_order(10, 7, 9, seed=3), order.flatten()[7:16])


def test_lazy_regularisation_slows_adam():
    trainer = trainer_of()
    group = trainer.generator_adam.param_groups[0]
    assert group["lr"] == pytest.approx(0.0025 * 2 / 3)
    assert group["betas"] == (0, pytest.approx(0.99 ** (2 / 3)))
    plain = trainer_of(dataclasses.replace(CONFIG, r1_gamma=0.0))
    assert plain.discriminator_adam.param_groups[0]["lr"] == 0.0025


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), "none came"),
        (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), "3 labels"),
        (torch.zeros(4, 3, 16, 16, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64), "resize"),
        (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.full([4], 2), "columns of c"),
    ],
)
def test_unfit_data_is_named(images, labels, message):
    with pytest.raises(ValueError, match=message):
        Trainer(CONFIG, images, labels, "cpu")


def test_no_checkpoint_is_none_and_a_new_one_replaces_the_old(tmp_path):
    assert read_checkpoint(tmp_path / "none") is None
    for value in (1.0, 2.0):
        write_checkpoint(tmp_path, ({"weight": torch.full([3], value)}, {"steps": 5}))
    tensors, numbers = read_checkpoint(tmp_path)
    assert tensors["weight"].tolist() == [2, 2, 2]
    assert numbers == {"steps": 5}
    assert len(list(tmp_path.iterdir())) == 2


def test_a_kill_between_the_two_files_leaves_the_old_checkpoint(tmp_path):
    write_checkpoint(tmp_path, ({"weight": torch.ones(3)}, {"steps": 1}))
    index = (tmp_path / INDEX).read_text()
    old = {file.name: file.read_bytes() for file in tmp_path.glob("state-*")}
    write_checkpoint(tmp_path, ({"weight": torch.zeros(3)}, {"steps": 2}))
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / INDEX).write_text(index)
    tensors, numbers = read_checkpoint(tmp_path)
    assert (tensors["weight"].tolist(), numbers["steps"]) == ([1, 1, 1], 1)


def test_a_damaged_or_foreign_checkpoint_is_not_resumed(tmp_path):
    write_checkpoint(tmp_path, ({"weight": torch.ones(3)}, {"steps": 1}))
    (file,) = tmp_path.glob("state-*")
    whole = file.read_bytes()
    for content in (whole[:-4], whole[:-4] + b"\0\0\0\1"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="no whole checkpoint"):
            read_checkpoint(tmp_path)
    (tmp_path / INDEX).write_text('{"format": "another"}')
    with pytest.raises(ValueError, match="another"):
        read_checkpoint(tmp_path)


def test_keeping_freed_memory_changes_no_result():
    first = trainer_of()
    reports = [first.step() for _ in range(2)]
    keep_freed_memory()
    second = trainer_of()
    assert [second.step() for _ in range(2)] == reports


def note_gradients(network, found):
    found.append(torch.cat([weight.grad.flatten() for weight in network.parameters()]))


def likeness_to_32_bits(half_levels, monkeypatch):
    """Cosine between a generator update's gradients and those in 32 bits, at a discriminator as flat as a new one of
    256 px is."""
    found = []
    for levels in (0, half_levels):
        config = dataclasses.replace(
            CONFIG,
            generator=dataclasses.replace(CONFIG.generator, resolution=16, half_levels=levels),
            discriminator=dataclasses.replace(CONFIG.discriminator, resolution=16, half_levels=levels),
            augment=dataclasses.replace(CONFIG.augment, preset="none", initial_p=0.0, adaptive=False),
        )
        trainer = trainer_of(config)
        with torch.no_grad():
            for weight in (trainer.discriminator.b4.out.weight, trainer.discriminator.b4.out.bias):
                weight.mul_(1e-5)
        with monkeypatch.context() as patch:
            patch.setattr(trainer.generator_adam, "step", partial(note_gradients, trainer.generator, found))
            trainer._update_generator()
    return float(torch.cosine_similarity(*found, dim=0))


@halves_on_the_cpu()
def test_gradients_too_small_for_float16_reach_the_generator(monkeypatch):
    assert likeness_to_32_bits(2, monkeypatch) > 0.99
    monkeypatch.setattr(trainer_module, "FLOAT16_LOSS_SCALE", 1.0)
    assert likeness_to_32_bits(2, monkeypatch) < 0.9


def test_a_run_s_labels_are_the_places_of_its_classes_in_rising_order():
    own = dataclasses.replace(RUN, classes=("naevus", "benign"))
    assert labels_of(own, ("benign", "malignant", "naevus")) == [0, 2]
    with pytest.raises(ValueError, match="among benign, malignant, but of naevus: correct"):
        labels_of(own, ("benign", "malignant"))


def test_each_adam_is_slowed_by_the_interval_of_its_own_regulariser_and_by_none_where_there_is_none():
    judge = trainer_of().discriminator_adam.param_groups[0]
    assert (judge["lr"], judge["betas"]) == (pytest.approx(0.0025 * 3 / 4), (0, pytest.approx(0.99 ** (3 / 4))))
    plain = trainer_of(dataclasses.replace(CONFIG, path_length_weight=0.0)).generator_adam.param_groups[0]
    assert (plain["lr"], plain["betas"]) == (0.0025, (0, 0.99))


def test_another_seed_shows_the_images_in_another_order():
    assert data_order(10, 0, 10, seed=3).tolist() != data_order(10, 0, 10, seed=4).tolist()
