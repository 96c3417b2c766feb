"""Membership inference: planted members are found, fresh images are not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn.functional import interpolate

from skinsynth.gan.discriminator import Discriminator, DiscriminatorConfig
from skinsynth.gan.family import Family
from skinsynth.gan.generator import Generator, GeneratorConfig
from skinsynth.gan.model import Gan
from skinsynth.images.archive import Images
from skinsynth.privacy.attacks import (
    attack_rows,
    auc,
    density_ratios,
    discriminator_scores,
    reconstruction_scores,
    tpr_at_1_percent_fpr,
)
from skinsynth.privacy.evidence import headlines
from skinsynth.privacy.membership import AttackConfig, feature_attack_rows, other_attack_rows, pixel_attack_rows
from skinsynth.privacy.patients import PatientFeatures, PatientImages, halves_by_group


def reconstructed(images, generated, reference):
    """Scores by one reference, the whole of it."""
    return reconstruction_scores(images, generated, reference, [np.arange(len(reference))])[0]


def density_ratio(images, generated, reference, components=4):
    """The same of the density ratio; its bandwidth is that of half the reference."""
    return density_ratios(images, generated, reference, [np.arange(len(reference))], components)[0]


FEATURE_ATTACKS = {"reconstruction": reconstructed, "density_ratio": density_ratio}


@pytest.fixture
def draws():
    return np.random.default_rng(0)


def rows_by(member_scores, non_member_scores, draws, patients=None):
    """The rows of one attack by metric; every image is its own patient unless `patients` says how many there are."""
    sides = [torch.as_tensor(side, dtype=torch.float64) for side in (member_scores, non_member_scores)]
    groups = [np.arange(len(side)) % (patients or len(side)) for side in sides]
    rows = attack_rows({"one": sides[0]}, {"one": sides[1]}, *groups, 200, draws)
    return {row["metric"]: row for row in rows}


def tiny_gan(class_count=2):
    rng = torch.Generator().manual_seed(3)
    generator = Generator(GeneratorConfig(8, 3, 6, 6, class_count, 2, 64, 8, None, 0, "float16", False), rng)
    config = DiscriminatorConfig(8, 3, class_count, 2, 64, 8, "resnet", 4, 1, None, 0, "float16", False)
    return Gan(generator, Discriminator(config, rng), [0, 1])


def noise_images(count, rng, size=8):
    return torch.randint(0, 256, (count, 3, size, size), generator=rng, dtype=torch.uint8)


def test_random_scores_are_chance_within_the_interval(draws):
    found = rows_by(draws.normal(size=400), draws.normal(size=300), draws)
    assert found["auc"]["low"] < 0.5 < found["auc"]["high"]
    assert found["auc"]["value"] == pytest.approx(0.5, abs=0.06)
    assert found["tpr_at_1_percent_fpr"]["value"] < 0.05


def test_perfect_separation_is_one_and_its_reverse_nought(draws):
    low, high = np.arange(150), np.arange(150, 300)
    for row in rows_by(high, low, draws).values():
        assert (row["value"], row["low"], row["high"]) == (1, 1, 1)
    for row in rows_by(low, high, draws).values():
        assert (row["value"], row["low"], row["high"]) == (0, 0, 0)


def test_auc_is_that_of_scikit_learn_with_ties(draws):
    members, others = draws.normal(0.5, size=40).round(1), draws.normal(size=30).round(1)
    expected = roc_auc_score([1] * 40 + [0] * 30, np.concatenate([members, others]))
    assert auc(members, others) == pytest.approx(expected, abs=1e-12)


def test_at_the_threshold_one_non_member_in_a_hundred_at_most_is_taken_for_a_member():
    others = np.arange(200.0)
    assert tpr_at_1_percent_fpr(np.array([196.5, 197.0, 197.5, 198.5]), others) == 0.5
    assert tpr_at_1_percent_fpr(np.array([198.5, 199.5]), others[:199]) == 1
    assert tpr_at_1_percent_fpr(np.zeros(5), np.zeros(300)) == 0


def test_a_rate_of_less_than_one_image_is_noted(draws):
    for others, note in ((99, "too few"), (100, "")):
        found = rows_by(draws.normal(size=20), draws.normal(size=others), draws)
        assert (found["auc"]["note"], found["tpr_at_1_percent_fpr"]["note"]) == ("", note)
        assert (found["auc"]["members"], found["auc"]["non_members"]) == (20, others)


def test_intervals_hold_their_value_and_widen_where_patients_are_few(draws):
    patients = draws.normal(size=(2, 10))
    scores = [np.tile(side, 30) for side in patients]
    alone, together = rows_by(*scores, draws), rows_by(*scores, draws, patients=10)
    for found in (alone, together):
        assert all(row["low"] <= row["value"] <= row["high"] for row in found.values())
    widths = [found["auc"]["high"] - found["auc"]["low"] for found in (alone, together)]
    assert widths[1] > 3 * widths[0]


def test_one_patient_has_no_interval(draws):
    found = rows_by([2.0, 3.0], [0.0, 1.0, 2.0], draws, patients=1)
    assert all(np.isnan([row["low"], row["high"]]).all() for row in found.values())
    assert found["auc"]["value"] == pytest.approx(5.5 / 6)


@pytest.mark.parametrize("attack", FEATURE_ATTACKS)
def test_generated_near_copies_give_the_training_images_away(rng, draws, attack):
    others, reference = torch.randn(2, 300, 6, generator=rng)
    train = torch.randn(40, 6, generator=rng)
    generated = train.repeat(10, 1) + 0.1 * torch.randn(400, 6, generator=rng)
    scores = [FEATURE_ATTACKS[attack](images, generated, reference) for images in (train, others)]
    found = rows_by(*scores, draws)["auc"]
    assert found["value"] >= 0.8
    assert found["low"] > 0.5


@pytest.mark.parametrize("attack", FEATURE_ATTACKS)
def test_fresh_draws_give_nobody_away(rng, draws, attack):
    train, others, reference, generated = torch.randn(4, 300, 16, generator=rng)
    scores = [FEATURE_ATTACKS[attack](images, generated, reference) for images in (train, others)]
    found = rows_by(*scores, draws)["auc"]
    assert found["low"] < 0.5 < found["high"]


@pytest.mark.parametrize("attack", FEATURE_ATTACKS)
def test_feature_scores_follow_their_images_and_no_order(rng, attack):
    images, generated, reference = torch.randn(3, 50, 6, generator=rng)
    score, order = FEATURE_ATTACKS[attack], torch.randperm(50, generator=rng)
    expected = score(images, generated, reference)
    torch.testing.assert_close(score(images[order], generated, reference), expected[order])
    torch.testing.assert_close(score(images, generated[order], reference[order.flip(0)]), expected)


def test_the_ratio_of_two_known_densities_is_found(rng):
    """Normal densities of one deviation, their means apart: the logarithm of their ratio is a straight line."""
    reference, generated = torch.randn(2, 4000, 1, generator=rng)
    x = torch.linspace(-1, 2, 13)[:, None]
    ratio = density_ratio(x, generated + 1, reference, 1)
    torch.testing.assert_close(ratio, (x[:, 0] - 0.5).double(), atol=0.2, rtol=0)


def test_a_density_far_from_everything_is_still_a_number(rng):
    images, generated, reference = torch.randn(3, 50, 6, generator=rng)
    assert density_ratio(1e4 * images, generated, reference).isfinite().all()


@pytest.mark.parametrize("components", [0, 3])
def test_components_beyond_the_rank_are_refused_in_one_line(rng, components):
    flat = torch.randn(50, 4, generator=rng) * torch.tensor([1.0, 1, 0, 0])
    with pytest.raises(ValueError, match="^a density ratio looks at 1 … 2 components[^\n]*change components[^\n]*$"):
        density_ratio(flat, flat, flat, components)


def test_a_gan_that_makes_one_image_only_is_no_error_and_gives_that_image_away(rng):
    images, reference = torch.randn(2, 60, 6, generator=rng)
    scores = density_ratio(images, images[:1].repeat(100, 1), reference)
    assert scores.isfinite().all()
    assert scores.argmax() == 0


def test_halves_share_no_patient_and_hold_every_image_once(draws):
    groups = np.repeat(np.arange(40), draws.integers(1, 9, size=40))
    draws.shuffle(groups)
    first, second = halves_by_group(groups.astype(str), draws)
    assert sorted([*first, *second]) == list(range(len(groups)))
    assert not set(groups[first]) & set(groups[second])
    assert abs(len(first) - len(second)) <= 8


def test_halves_are_drawn_anew_by_another_seed_only():
    groups = [f"patient {number // 3}" for number in range(60)]
    drawn = [halves_by_group(groups, np.random.default_rng(seed))[0].tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_one_patient_has_no_halves(draws):
    with pytest.raises(ValueError, match="2 patients, but 1 came"):
        halves_by_group(["a", "a"], draws)


@pytest.mark.parametrize("class_count", [0, 2])
def test_a_logit_is_the_images_own_whoever_stands_beside_it(rng, class_count):
    gan, pixels, labels = tiny_gan(class_count), noise_images(10, rng), torch.arange(10) % 2
    expected = discriminator_scores(gan, pixels, labels, 10)
    order = torch.randperm(10, generator=rng)
    for batch_size in (1, 3, 10):
        scores = discriminator_scores(gan, pixels[order], labels[order], batch_size)
        torch.testing.assert_close(scores, expected[order], atol=1e-5, rtol=1e-4)
    assert expected.std() > 0


def test_a_logit_is_that_of_a_group_of_copies(rng):
    gan, pixels, labels = tiny_gan(), noise_images(1, rng), torch.ones(1, dtype=torch.int64)
    copies = (pixels.expand(4, -1, -1, -1) / 127.5 - 1), gan.condition(labels.expand(4))
    with torch.no_grad():
        expected = gan.discriminator(*copies)[:1, 0].double()
    torch.testing.assert_close(discriminator_scores(gan, pixels, labels, 4), expected, atol=1e-5, rtol=1e-4)


def test_a_logit_is_that_of_the_images_class(rng):
    gan, pixels = tiny_gan(), noise_images(4, rng)
    benign, malignant = (discriminator_scores(gan, pixels, torch.full((4,), label), 4) for label in (0, 1))
    assert not torch.allclose(benign, malignant)


def test_images_that_the_discriminator_does_not_read_are_named(rng):
    with pytest.raises(ValueError, match=r"images of \(3, 8, 8\), but \(2, 3, 16, 16\) came: resize"):
        discriminator_scores(tiny_gan(), noise_images(2, rng, size=16), torch.zeros(2, dtype=torch.int64), 2)


def test_scores_without_their_group_or_their_other_side_are_named(draws):
    ten, nine = torch.zeros(10).double(), torch.zeros(9).double()
    for members, others, message in (
        ({"a": ten}, {"b": ten}, r"\['a'\] and \['b'\]"),
        ({"a": nine}, {"a": ten}, "9 and 10 scores of a"),
        ({"a": ten}, {"a": ten.log() - ten.log()}, "10 scores of a are nan"),
    ):
        with pytest.raises(ValueError, match=message):
            attack_rows(members, others, np.arange(10), np.arange(10), 10, draws)


def test_the_interval_of_random_guesses_holds_one_half_as_often_as_it_says(draws):
    """95 % intervals: of 40 guesses some 38 hold it, and fewer than 33 would be less than one chance in a thousand."""
    rows = [rows_by(draws.random(120), draws.random(90), draws, patients=40)["auc"] for _ in range(40)]
    assert sum(row["low"] <= 0.5 <= row["high"] for row in rows) >= 33


def two_each(count):
    """Patients of two images each."""
    return np.arange(count) // 2


def pictures(count, rng):
    images = Images([f"{n}" for n in range(count)], noise_images(count, rng).numpy(), np.arange(count) % 2)
    return PatientImages(images, two_each(count))


def features(count, rng):
    return PatientFeatures(torch.randn(count, 6, generator=rng), two_each(count))


def test_the_table_of_attacks_has_a_control_that_knows_nothing(rng):
    train, held_out = pictures(300, rng), pictures(400, rng)
    family = Family({"cgan": tiny_gan()}, {})
    config = AttackConfig(components=3, draws=100, batch_size=50, seed=1)
    rows = other_attack_rows(train, held_out, family, config)
    assert {row["attack"] for row in rows} == {"discriminator of cgan", "random guess"}
    (control,) = (row for row in rows if (row["attack"], row["metric"]) == ("random guess", "auc"))
    assert control["low"] < 0.5 < control["high"]
    assert (control["members"], control["non_members"]) == (300, 400)
    sides = features(300, rng), features(400, rng)
    by_features = feature_attack_rows(*sides, torch.randn(200, 6, generator=rng), config)
    assert {row["attack"] for row in by_features} == {"reconstruction", "density_ratio"}
    assert {(row["members"], row["non_members"]) for row in by_features} == {(300, 400)}


def test_attacks_by_features_find_copied_patients_with_either_half_as_their_reference(rng):
    train, held_out = features(300, rng), features(400, rng)
    config = AttackConfig(components=3, draws=100, batch_size=50, seed=1)
    copies = train.features + 0.01 * torch.randn(300, 6, generator=rng)
    found = [row for row in feature_attack_rows(train, held_out, copies, config) if row["metric"] == "auc"]
    low = {row["attack"]: row["low"] for row in found}
    assert low["reconstruction"] > 0.95
    assert low["density_ratio"] > 0.5
    others = feature_attack_rows(train, held_out, held_out.features, config)
    assert all(row["high"] < 0.5 for row in others if row["metric"] == "auc"), "nobody is his own reference"


def lesions(count, rng, size=16):
    """Smooth pictures, two a patient, of which no two are alike."""
    coarse = torch.rand(count, 3, 4, 4, generator=rng)
    pixels = (255 * interpolate(coarse, size=size, mode="bilinear")).byte().numpy()
    images = Images([f"{n}" for n in range(count)], pixels, np.arange(count) % 2)
    return PatientImages(images, two_each(count))


def repainted(pixels, rng):
    """The same pictures with noise of ten grey levels."""
    noise = 10 * torch.randn(pixels.shape, generator=rng).numpy()
    return (pixels + noise).clip(0, 255).astype(np.uint8)


def test_attacks_by_pixels_find_whose_images_were_painted_over_again_and_again(rng):
    train, held_out, fresh = lesions(30, rng), lesions(120, rng), lesions(600, rng)
    config = AttackConfig(components=3, draws=100, batch_size=50, seed=1)

    def found(generated):
        rows = pixel_attack_rows(train, held_out, generated, config)
        return {row["attack"]: row for row in rows if row["metric"] == "auc"}

    copied = found(repainted(np.repeat(train.images.pixels, 20, axis=0), rng))
    assert copied["reconstruction"]["value"] > 0.95
    assert copied["density_ratio"]["low"] > 0.5
    assert all(row["low"] < 0.5 < row["high"] for row in found(fresh.images.pixels).values())


def test_a_discriminator_that_knows_no_class_of_the_set_is_not_asked(rng):
    gans = {name: replace(tiny_gan(0), classes=[label]) for label, name in enumerate(("ben", "mal"))}
    train, held_out = (side.of([1]) for side in (pictures(80, rng), pictures(60, rng)))
    config = AttackConfig(components=3, draws=10, batch_size=50, seed=1)
    rows = other_attack_rows(train, held_out, Family(gans, {}), config)
    assert {row["attack"] for row in rows} == {"discriminator of mal", "random guess"}


def feature_rows(train, held_out, generated, seed=1):
    """AUCs by attack, each with its interval."""
    config = AttackConfig(components=3, draws=60, batch_size=50, seed=seed)
    rows = feature_attack_rows(train, held_out, generated, config)
    return {row["attack"]: row for row in rows if row["metric"] == "auc"}


def test_attacks_by_features_are_drawn_by_patient(rng):
    """Ten images of a patient that are nearly alike say little more than one of them."""
    train, held_out = (torch.randn(count, 6, generator=rng).repeat_interleave(10, 0) for count in (20, 30))
    features_of = train, held_out + 1e-3 * torch.randn(300, 6, generator=rng)
    generated = torch.randn(100, 6, generator=rng)
    width = []
    for size in (1, 10):
        sides = [PatientFeatures(side, np.arange(len(side)) // size) for side in features_of]
        width.append({name: row["high"] - row["low"] for name, row in feature_rows(*sides, generated).items()})
    assert width[1]["density_ratio"] > 2 * width[0]["density_ratio"]


def test_intervals_of_attacks_by_features_know_that_other_halves_would_move_their_value(rng):
    """Each held-out patient has a twin, and whom the halves part from his twin is told by his reference at once.
    With scores of one draw of halves intervals were half as wide as their value varied; as a mean it varies less."""
    twins = torch.randn(10, 5, 6, generator=rng).repeat(2, 1, 1)
    train = PatientFeatures(torch.randn(150, 6, generator=rng), np.arange(150))
    held_out = PatientFeatures((twins + 1e-3 * torch.randn(20, 5, 6, generator=rng)).flatten(0, 1), np.arange(100) // 5)
    generated = torch.randn(100, 6, generator=rng)
    found = [feature_rows(train, held_out, generated, seed)["reconstruction"] for seed in range(20)]
    deviation = np.std([row["value"] for row in found])
    assert np.mean([row["high"] - row["low"] for row in found]) > 0.8 * 3.92 * deviation


def test_scores_by_a_reference_are_those_by_its_images_alone(rng):
    images, generated, among = torch.randn(60, 3, generator=rng), *torch.randn(2, 50, 3, generator=rng)
    references = [np.arange(25), np.arange(25, 50)]
    reconstruction = reconstruction_scores(images, generated, among, references)
    ratio = density_ratios(images, generated, among, references, 3)
    for number, chosen in enumerate(references):
        alone = among[torch.from_numpy(chosen)]
        torch.testing.assert_close(reconstruction[number], reconstructed(images, generated, alone))
        # Twice, since the bandwidth is that of half of what there is.
        torch.testing.assert_close(ratio[number], density_ratio(images, generated, alone.repeat(2, 1), 3))


def test_the_score_of_an_image_is_how_much_nearer_generated_images_come_than_the_reference(rng):
    images, generated, reference = torch.randn(3, 40, 6, generator=rng)
    nearest = [torch.cdist(images.double(), side.double()).min(dim=1).values for side in (reference, generated)]
    torch.testing.assert_close(reconstructed(images, generated, reference), nearest[0] - nearest[1])


def test_a_reference_far_from_an_image_has_a_density_still(rng):
    images, generated, among = torch.randn(3, 40, 6, generator=rng)
    images[0] *= 1e4
    assert density_ratios(images, generated, among, [np.arange(20), np.arange(20, 40)], 4).isfinite().all()


@pytest.mark.slow
def test_intervals_of_attacks_by_features_are_as_wide_as_their_values_vary(rng):
    """Without a leak, 300 training and 150 held-out images in patients of five: of 60 samples the limits of each attack
    leave 0.5 out in 3 by chance, and in 9 or more less than once in 200."""
    found = {name: [] for name in FEATURE_ATTACKS}
    for seed in range(60):
        sides = []
        for count in (60, 30):
            patients = torch.randn(count, 1, 16, generator=rng) + torch.randn(count, 5, 16, generator=rng)
            sides.append(PatientFeatures(patients.flatten(0, 1) / 2**0.5, np.arange(5 * count) // 5))
        for name, row in feature_rows(*sides, torch.randn(300, 16, generator=rng), seed).items():
            found[name].append([row["value"], row["low"], row["high"]])
    for value, low, high in (np.array(rows).T for rows in found.values()):
        assert sum((low > 0.5) | (high < 0.5)) < 9
        assert 0.8 < (high - low).mean() / (3.92 * value.std()) < 1.5


def test_the_bandwidth_is_that_of_scott_for_the_smaller_set(rng):
    """In one dimension, against sums of Gaussian kernels written out."""
    generated, among = torch.randn(2000, 1, generator=rng) + 1, torch.randn(40, 1, generator=rng)
    x = torch.linspace(-1, 2, 13)[:, None]
    width = 20 ** (-1 / 5) * float(torch.cat([generated, x]).double().std())
    of = [(-(((x - part.T) / width) ** 2) / 2).double().exp().mean(dim=1).log() for part in (generated, among[:20])]
    ratio = density_ratios(x, generated, among, [np.arange(20)], 1)[0]
    torch.testing.assert_close(ratio, of[0] - of[1], atol=1e-3, rtol=1e-3)


def test_halves_are_at_most_the_largest_patient_apart_in_images():
    groups = np.repeat(np.arange(40), np.random.default_rng(0).integers(1, 9, size=40))
    for seed in range(20):
        first, second = halves_by_group(groups, np.random.default_rng(seed))
        assert abs(len(first) - len(second)) <= 8


def attack_row(attack, value, saw_the_set):
    return {"attack": attack, "metric": "auc", "value": value, "low": value - 0.1, "saw_the_set": saw_the_set}


def test_the_strongest_attack_is_neither_the_guess_nor_one_by_features_that_learnt_from_the_set():
    said = [
        attack_row("reconstruction", 0.9, 1),
        attack_row("random guess", 0.8, 0),
        attack_row("density_ratio", 0.6, 0),
    ]
    rates = [row | {"metric": "tpr_at_1_percent_fpr", "value": 0.99} for row in said]
    named = {"class": "all", "features_of": "real", "value": 0.5}
    judged = [
        named | {"metric": metric, "of": of}
        for metric, of in (
            ("authenticity", "generated"),
            ("authenticity", "held-out real"),
            ("copying_beyond_strangers", "generated"),
        )
    ]
    tables = {"authenticity": judged, "copies": [], "attacks": [*said, *rates], "distances": []}
    found = headlines(tables, ["real"])
    assert (found["strongest_attack_auc"], found["strongest_attack_auc_low"]) == (0.6, 0.5)


def test_attacks_by_pixels_see_the_picture_however_faint_it_is_beside_fine_noise(rng):
    """Half of 32 px in noise that thumbnails of 16 px average out: what is left of the picture has unit length."""
    train, held_out, fresh = lesions(60, rng, 32), lesions(120, rng, 32), lesions(400, rng, 32)

    def noisy(pixels):
        checks = 90 * (np.indices((32, 32)).sum(axis=0) % 2 * 2 - 1)
        return (pixels // 4 + 95 + checks).clip(0, 255).astype(np.uint8)

    copies = np.concatenate([noisy(train.images.pixels), fresh.images.pixels])
    config = AttackConfig(components=3, draws=20, batch_size=50, seed=1)
    rows = pixel_attack_rows(train, held_out, copies, config)
    (found,) = (row for row in rows if (row["attack"], row["metric"]) == ("reconstruction", "auc"))
    assert found["value"] > 0.95
