"""Frame removal: a planted frame axis is found, what keeps class and centre wins, and random moves do worse."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from skinsynth.directions.candidates import (
    PARTS,
    candidate_moves,
    hyperplane_strides,
    learnt_moves,
    moves,
    random_moves,
)
from skinsynth.directions.choice import choose, draw_pairs, draw_pairs_of_family, measure, nothing_sought
from skinsynth.directions.learnt import LearningConfig
from skinsynth.directions.removal import (
    CENTRE,
    Effect,
    Latents,
    Move,
    RemovalConfig,
    Seers,
    best_move,
    centre_gap,
    draw_with_artefact,
    effect,
    load_moves,
    moved_pixels,
    random_gap,
    rendered,
    save_moves,
)
from skinsynth.gan.discriminator import Discriminator, DiscriminatorConfig
from skinsynth.gan.family import Family
from skinsynth.gan.generator import Generator, GeneratorConfig
from skinsynth.gan.model import Gan
from skinsynth.intervals import NORMAL_95
from tests.plain_mapping import PlainMapping

SIZE, W = 16, 4
CONFIG = RemovalConfig(
    images=40,
    least=5,
    most_draws=2000,
    truncation_psi=1.0,
    directions=4,
    samples=500,
    layers=(None,),
    steps=(-3.0, 3.0),
    most_change=0.05,
    most_centre_change=0.5,
    random_directions=5,
    batch_size=100,
    learning=LearningConfig(steps=100, learning_rate=0.2, batch_size=20),
)
LINE = (torch.arange(SIZE) + 0.5) / SIZE - 0.5
RADIUS = (LINE[:, None] ** 2 + LINE**2).sqrt()


class Drawing(nn.Module):
    """w[0] darkens the corners, w[1] the middle, w[2] both; w[3] does nothing."""

    layer_count = 2

    def forward(self, ws, noise_mode):
        assert noise_mode == "const"
        w = ws[:, 0, :, None, None]
        corners = (w[:, 0] + w[:, 2]) * (RADIUS > 0.5)
        middle = (w[:, 1] + w[:, 2]) * (RADIUS < 0.3)
        return (0.5 - 0.3 * (corners + middle))[:, None].expand(-1, 3, -1, -1).clamp(-1, 1)


class DrawingGenerator(Generator):
    def __init__(self):
        nn.Module.__init__(self)
        self.config = GeneratorConfig(SIZE, 3, W, W, 0, 2, 32, 4, None, 0, "float16", False)
        self.synthesis = Drawing()
        self.mapping = PlainMapping(W, Drawing.layer_count)


@pytest.fixture
def gan(rng):
    sizes = DiscriminatorConfig(SIZE, 3, 0, 2, 32, 4, "orig", 1, 0, None, 0, "float16", False)
    return Gan(DrawingGenerator(), Discriminator(sizes, rng), [1])


def seeing(level):
    """Who sees a frame where the corners are darker than a level, and answers by the middle."""
    corners, middle = RADIUS > 0.5, RADIUS < 0.3

    def darkness(pixels):
        return (level - pixels.float()[:, :, corners].mean(dim=(1, 2))) / 10

    def answers(pixels):
        return torch.sigmoid((190 - pixels.float()[:, :, middle].mean(dim=(1, 2))) / 20)

    def of_images(seen):
        return lambda images: seen(127.5 * (images + 1))

    return Seers(
        sees=lambda pixels: darkness(pixels) > 0,
        answers=answers,
        black=lambda pixels: (pixels < 40).all(dim=1).double().mean(dim=(1, 2)),
        excess=of_images(darkness),
        probability=of_images(answers),
    )


@pytest.fixture
def seers():
    return seeing(110)


@pytest.fixture
def framed(gan, seers, rng):
    return draw_with_artefact(gan, seers, CONFIG, rng)


def test_only_images_with_the_artefact_are_kept_and_draws_tell_its_share(gan, seers, rng, framed):
    assert len(framed.found.labels) == CONFIG.images
    assert seers.sees(framed.found.pixels).all()
    everyone = draw_with_artefact(gan, replace_sees(seers, all), CONFIG, rng)
    assert (everyone.draws, everyone.seen, len(everyone.found.labels)) == (100, 100, CONFIG.images)
    nobody = draw_with_artefact(gan, replace_sees(seers, None), CONFIG, rng)
    assert (len(nobody.found.labels), nobody.draws) == (0, CONFIG.most_draws)


def latents_of(gan, seers, w, labels):
    pixels = rendered(gan, w)
    return Latents(w, labels, pixels, seers.answers(pixels))


def random_latents(gan, seers, count, rng):
    return latents_of(gan, seers, torch.randn(count, W, generator=rng), torch.ones(count, dtype=torch.int64))


def replace_sees(seers, kind):
    answer = torch.ones if kind is all else torch.zeros
    return seers._replace(sees=lambda pixels: answer(len(pixels), dtype=torch.bool))


def test_the_planted_frame_axis_wins_and_holds_on_fresh_images(gan, seers, rng, framed):
    tried = list(moves({"axis": torch.eye(W)}, CONFIG))
    gap = random_gap(framed.found)
    rows = [effect(gan, framed.found, move, seers).row(gap) for move in tried]
    best = tried[best_move(rows, CONFIG)]
    assert (best.number, best.step) == (1, -3.0)
    fresh = draw_with_artefact(gan, seers, CONFIG, rng).found
    seen = effect(gan, fresh, best, seers).row(random_gap(fresh))
    assert seen["remaining_share"] < 0.1
    assert seen["mean_absolute_change"] < 0.01
    others = [effect(gan, fresh, move, seers).row(gap)["remaining_share"] for move in random_moves(best, 20, rng)]
    assert sum(others) / len(others) > seen["remaining_share"] + 0.3


def test_an_axis_that_takes_the_class_along_is_left_out(gan, seers, framed):
    tried = list(moves({"both": torch.eye(W)[2:3]}, CONFIG))
    rows = [effect(gan, framed.found, move, seers).row(random_gap(framed.found)) for move in tried]
    assert min(row["remaining_share"] for row in rows) < 0.1
    assert best_move(rows, CONFIG) is None


def test_the_hyperplane_points_along_the_frame_and_conditioned_away_from_the_class(gan, seers, rng, framed):
    found = hyperplane_strides(random_latents(gan, seers, 2000, rng), framed.found, seers)
    plain, conditional = (found[name][0] for name in ("hyperplane", "conditional hyperplane"))
    assert plain[0] > 0.3
    assert plain[:3].abs().max() > 5 * plain[3].abs()
    assert conditional[1].abs() + conditional[2].abs() < plain[1].abs() + plain[2].abs() + 0.6


def test_a_learnt_move_is_the_planted_frame_axis_and_leaves_an_axis_that_no_image_shows(gan, seers, rng, framed):
    w = torch.randn(500, W, generator=rng)
    tried = list(learnt_moves(gan, framed.found, w, seers, CONFIG, rng))
    assert [move.step / tried[0].step for move in tried] == pytest.approx([part / PARTS[0] for part in PARTS])
    for move in tried:
        assert move.vector[0] < -5 * move.vector[1:].abs().max()
        assert move.vector[3] == 0
        # One step is a standard deviation of w along the vector.
        assert float((w @ move.vector / move.vector.norm()).std()) * move.step == pytest.approx(
            float(move.vector.norm()), rel=1e-4
        )
    rows = [effect(gan, framed.found, move, seers).row(random_gap(framed.found)) for move in tried]
    best = tried[best_move(rows, CONFIG)]
    fresh = draw_with_artefact(gan, seers, CONFIG, rng).found
    seen = effect(gan, fresh, best, seers).row(random_gap(fresh))
    assert seen["remaining_share"] < 0.1
    assert seen["mean_absolute_change"] < CONFIG.most_change


class OneAxis(Drawing):
    """All of w but w[2] is blind, so that a frame goes with the middle or not at all."""

    def forward(self, ws, noise_mode):
        return super().forward(ws * torch.eye(W)[2], noise_mode)


def test_a_learnt_move_goes_as_far_as_the_class_may_change_and_no_further(gan, rng):
    gan.generator.synthesis, seers = OneAxis(), seeing(150)
    framed = draw_with_artefact(gan, seers, CONFIG, rng).found
    remaining = []
    for most in (0.05, 0.2, 1.0):
        config = replace(CONFIG, most_change=most, most_centre_change=1e6)
        whole = PARTS.index(1.0)
        move = list(learnt_moves(gan, framed, torch.randn(500, W, generator=rng), seers, config, rng))[whole]
        row = effect(gan, framed, move, seers).row(random_gap(framed))
        assert row["mean_absolute_change"] < 1.05 * most
        remaining.append(row["remaining_share"])
    assert remaining[0] > remaining[1] > remaining[2] == 0


def test_a_move_that_is_nothing_changes_nothing(gan, seers, framed):
    (still,) = moves({"none": torch.zeros(1, W)}, replace(CONFIG, steps=(3.0,)))
    assert moved_pixels(gan, framed.found.w, still).equal(framed.found.pixels)
    assert effect(gan, framed.found, still, seers).row(1.0) == {
        "remaining_share": 1.0,
        "mean_absolute_change": 0.0,
        "mean_change": 0.0,
        "centre_change": 0.0,
    }


@pytest.mark.parametrize("layers", [None, (0, 1)])
def test_a_saved_move_removes_again_what_it_removed(gan, framed, tmp_path, layers):
    chosen = {"mal": Move("conditional hyperplane", 1, layers, -2.0, -2 * torch.eye(W)[0])}
    save_moves(tmp_path / "moves.safetensors", chosen)
    read = load_moves(tmp_path / "moves.safetensors")
    assert read.keys() == chosen.keys()
    assert read["mal"][:4] == chosen["mal"][:4]
    assert moved_pixels(gan, framed.found.w, read["mal"]).equal(moved_pixels(gan, framed.found.w, chosen["mal"]))


def test_where_no_gan_has_a_move_none_is_read_again(tmp_path):
    save_moves(tmp_path / "moves.safetensors", {})
    assert load_moves(tmp_path / "moves.safetensors") == {}


def test_random_moves_are_as_long_as_the_chosen_one(rng):
    (move,) = moves({"axis": torch.eye(W)[:1]}, replace(CONFIG, steps=(3.0,)))
    assert all(float(one.vector.norm()) == pytest.approx(3.0, rel=1e-5) for one in random_moves(move, 4, rng))


def test_the_centre_does_not_see_the_corners():
    first = torch.full((2, 3, SIZE, SIZE), 200, dtype=torch.uint8)
    second = torch.where(RADIUS > CENTRE, torch.zeros_like(first), first)
    assert centre_gap(first, second).tolist() == [0, 0]
    assert centre_gap(first, first - 10).tolist() == pytest.approx([10, 10])


def test_images_of_two_classes_are_not_compared_with_each_other(gan, seers):
    w = torch.zeros(4, W)
    w[[1, 3], 1] = 3
    images = latents_of(gan, seers, w, torch.tensor([0, 1, 0, 1]))
    assert random_gap(images) == 0
    assert random_gap(images._replace(labels=torch.zeros(4, dtype=torch.int64))) > 0


def test_a_frame_of_one_axis_goes_from_fresh_images_and_stays_after_random_moves(gan, seers, rng, monkeypatch):
    # A drawing has no style weights, which SeFa looks at.
    monkeypatch.setattr("skinsynth.directions.candidates.find_axes", lambda *_: ())
    chosen = choose(gan, seers, CONFIG, rng)
    assert chosen.found["remaining_share"] <= 0.1
    assert chosen.found["random_remaining_share"] > 0.4
    assert chosen.found["black_share_after"] < chosen.found["black_share_before"]
    assert chosen.found["remaining_share_high"] > chosen.found["remaining_share"]
    assert chosen.after.equal(moved_pixels(gan, chosen.before.w, chosen.move))
    assert all(move.method == method for method, move in chosen.by_method.items())


def test_moves_are_learnt_within_classes_and_not_along_what_tells_them_apart(gan, seers, framed, rng, monkeypatch):
    """A GAN of several classes has a mean of w for each, and their distance is no spread of latents."""
    seen = []

    def apart(_, labels, rng):
        return torch.randn(len(labels), W, generator=rng) + 100 * torch.arange(len(labels))[:, None].ge(10)

    monkeypatch.setattr("skinsynth.directions.candidates.find_axes", lambda *_: ())
    monkeypatch.setattr("skinsynth.directions.candidates.spread_evenly", lambda *_: torch.arange(20) // 10)
    monkeypatch.setattr("skinsynth.directions.candidates.sample_w", apart)
    monkeypatch.setattr("skinsynth.directions.candidates.learnt_moves", lambda _, __, w, *___: seen.append(w) or [])
    candidate_moves(gan, framed.found, seers, CONFIG, rng)
    assert float(seen[0].abs().max()) < 10


def test_too_few_framed_images_leave_a_gan_as_it_is(gan, seers, rng):
    chosen = choose(gan, replace_sees(seers, None), CONFIG, rng)
    assert (chosen.move, chosen.found["note"], chosen.found["with_artefact"]) == (None, "too few", 0)
    pairs = draw_pairs(gan, torch.ones(20, dtype=torch.int64), chosen.move, seers, 1.0, rng)
    assert pairs.plain.equal(pairs.edited)
    assert not pairs.moved.any()
    assert nothing_sought(gan).found == {"note": "no detector"}


def test_of_pairs_those_with_a_frame_are_moved_and_no_other(gan, seers, rng):
    move = Move("axis", 1, None, 1.0, -3 * torch.eye(W)[0])
    pairs = draw_pairs(gan, torch.ones(200, dtype=torch.int64), move, seers, 1.0, rng)
    assert pairs.moved.equal(seers.sees(pairs.plain))
    assert 0 < int(pairs.moved.sum()) < 200
    assert pairs.edited[~pairs.moved].equal(pairs.plain[~pairs.moved])
    assert not seers.sees(pairs.edited[pairs.moved]).all()


def test_each_pair_of_a_family_is_drawn_and_moved_by_the_member_that_makes_its_class(gan, seers):
    members = {name: replace(gan, classes=[label]) for label, name in enumerate(("ben", "mal"))}
    moves = {"ben": None, "mal": Move("axis", 1, None, 1.0, -3 * torch.eye(W)[0])}
    labels = torch.tensor([1, 0, 1, 1, 0] * 20)
    found = draw_pairs_of_family(Family(members, {}), labels, moves, seers, 1.0, torch.Generator().manual_seed(1))
    rng = torch.Generator().manual_seed(1)
    for label, (name, member) in enumerate(members.items()):
        own = labels == label
        for of_family, alone in zip(found, draw_pairs(member, labels[own], moves[name], seers, 1.0, rng), strict=True):
            assert of_family[own].equal(alone)
    assert found.moved.any()


def test_truncated_to_nought_all_images_are_one(gan, seers):
    for psi, different in ((1.0, True), (0.0, False)):
        rng = torch.Generator().manual_seed(1)
        found = draw_with_artefact(gan, replace_sees(seers, all), replace(CONFIG, truncation_psi=psi), rng).found
        plain = draw_pairs(gan, torch.ones(20, dtype=torch.int64), None, seers, psi, rng).plain
        assert (found.w.unique(dim=0).shape[0] > 1) == different
        assert (plain.unique(dim=0).shape[0] > 1) == different


def test_of_moves_that_leave_as_many_artefacts_the_one_that_changes_the_class_least_wins():
    told = {"centre_change": 0.1, "remaining_share": 0.2}
    rows = [{**told, "mean_absolute_change": change} for change in (0.04, 0.01, 0.03)]
    assert best_move(rows, CONFIG) == 1
    assert best_move([*rows, {**told, "remaining_share": 0.1, "mean_absolute_change": 0.05}], CONFIG) == 3


def test_the_interval_of_a_change_is_that_of_its_size_whatever_its_direction(gan, seers, rng, framed):
    towards = Move("axis", 2, None, 0.1, 0.1 * torch.eye(W)[1])
    images = framed.found
    # Half of them come from the other side: their answers change the other way.
    mixed = images._replace(answers=torch.where(torch.arange(len(images.labels)) % 2 == 0, images.answers, 0.9))
    _, row = measure(gan, mixed, towards, seers, 1, rng)
    change = effect(gan, mixed, towards, seers).change
    assert change.min() < 0 < change.max()
    reach = NORMAL_95 * float(change.abs().double().std()) / len(change) ** 0.5
    assert row["mean_absolute_change_high"] - row["mean_absolute_change"] == pytest.approx(reach)
    assert row["mean_absolute_change"] - row["mean_absolute_change_low"] == pytest.approx(reach)


def test_changes_both_ways_do_not_cancel():
    pixels = torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)
    found = Effect(pixels, torch.tensor([True, False]), torch.tensor([0.5, -0.5]), torch.tensor([1.0, 3.0])).row(4.0)
    expected = {"remaining_share": 0.5, "mean_absolute_change": 0.5, "mean_change": 0.0, "centre_change": 0.5}
    assert found == expected


def test_a_stride_along_the_hyperplane_is_one_standard_deviation_of_w(gan, seers, rng, framed):
    others = random_latents(gan, seers, 2000, rng)
    wide = [part._replace(w=5 * part.w) for part in (others, framed.found)]
    found = hyperplane_strides(*wide, seers)["hyperplane"]
    assert float(found.norm()) > 3
