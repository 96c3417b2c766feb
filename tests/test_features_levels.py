"""Mean and spread of a classifier's maps: closed forms, any network of convolutions, what last features do not see."""

import pytest
import torch
from torch import nn

from skinsynth.classifier.classifier import IMAGENET_STD, Architecture, Classifier
from skinsynth.classifier.networks import Network, build_network
from skinsynth.features.levels import Levels
from skinsynth.quality.fid import frechet_distance


def pixels_of(rng, count=5, size=32):
    return torch.randint(0, 256, (count, 3, size, size), generator=rng, dtype=torch.uint8)


def classifier_around(body, dim):
    return Classifier(Network(body, dim, 2, 0.0), Architecture("planted", 2, 0.0))


def built(name, image_size=None):
    torch.manual_seed(0)
    network = build_network(name, 2, pretrained=False, dropout=0.2, image_size=image_size)
    return Classifier(network, Architecture(name, 2, 0.2))


class FirstChannel(nn.Module):
    """The mean of one channel, whatever the others are."""

    def forward(self, maps):
        return maps[:, :1].mean(dim=(2, 3))


class Spread(nn.Module):
    """As many constant maps, each of its own number."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, images):
        numbers = torch.arange(self.channels, dtype=images.dtype)[:, None, None]
        return numbers.expand(len(images), self.channels, *images.shape[2:])


def hooks_of(module):
    return [
        hook
        for layer in module.modules()
        for hooks in (layer._forward_hooks, layer._forward_pre_hooks)
        for hook in hooks.values()
    ]


def test_features_are_means_and_deviations_of_the_last_map_of_each_resolution_finest_first(rng):
    body = nn.Sequential(nn.Identity(), nn.Hardtanh(-1.0, 1.0), nn.AvgPool2d(4), FirstChannel())
    pixels = pixels_of(rng)
    normal = (pixels / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(IMAGENET_STD)[
        :, None, None
    ]
    fine = normal.clamp(-1, 1)
    coarse = nn.functional.avg_pool2d(fine, 4)
    expected = [part for maps in (fine, coarse) for part in (maps.mean((2, 3)), maps.std((2, 3)))]
    torch.testing.assert_close(Levels(classifier_around(body, 1)).embed(pixels), torch.cat(expected, dim=1))


def test_a_bare_convolution_and_a_map_of_one_pixel_are_no_levels(rng):
    body = nn.Sequential(nn.Conv2d(3, 7, 2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert Levels(classifier_around(body, 7)).embed(pixels_of(rng, size=9)).shape == (5, 2 * 7)


def test_the_compact_cnn_has_704_features_at_32_px(rng):
    assert Levels(built("cnn-108k")).embed(pixels_of(rng)).shape == (5, 2 * (32 + 64 + 128 + 128))


def test_of_many_channels_128_are_taken_evenly_spaced():
    body = nn.Sequential(Spread(300), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    pixels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    means, deviations = Levels(classifier_around(body, 300)).embed(pixels).split(128, dim=1)
    assert means[0].tolist() == [number * 300 // 128 for number in range(128)]
    assert means[0].equal(means[1])
    assert not deviations.any()


class Windows(nn.Module):
    """Four windows of each image, as attention has them, before maps of images of the same size."""

    def __init__(self, before):
        super().__init__()
        self.before, self.cut, self.after = before, Cut(), nn.AvgPool2d(2)

    def forward(self, images):
        if self.before:
            self.cut(images)
            return self.after(images).mean((2, 3))
        self.after(images)
        return self.cut(images).mean((2, 3)).view(len(images), -1)


class Cut(nn.Module):
    def forward(self, images):
        return images.unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


def test_windows_of_an_image_are_not_taken_for_its_map(rng):
    pixels = pixels_of(rng)
    before, after = (Levels(classifier_around(Windows(before), 3)).embed(pixels) for before in (True, False))
    assert before.shape == (5, 2 * 3)
    assert before.equal(after)


@pytest.mark.parametrize("name", ["cnn-108k", "resnet18", "efficientnet_b0", "mobilenetv3_small_050", "googlenet"])
def test_any_network_of_convolutions_has_levels_whatever_the_batch(name, rng):
    classifier, pixels = built(name), pixels_of(rng)
    before = classifier.embed(pixels)
    levels = Levels(classifier)
    whole = levels.embed(pixels)
    one_by_one = torch.cat([levels.embed(pixels[place : place + 1]) for place in range(len(pixels))])
    torch.testing.assert_close(one_by_one, whole, rtol=1e-3, atol=1e-5)
    assert whole.isfinite().all()
    assert not whole[0].allclose(whole[1], rtol=1e-3)
    assert classifier.embed(pixels).equal(before)
    assert not hooks_of(classifier.network)


def test_images_that_go_through_in_many_batches_keep_their_order(rng, monkeypatch):
    classifier, pixels = built("cnn-108k"), pixels_of(rng, 7)
    whole = Levels(classifier).embed(pixels)
    monkeypatch.setattr("skinsynth.classifier.classifier.PIXELS_AT_ONCE", {"cpu": 2 * 32 * 32})
    torch.testing.assert_close(Levels(classifier).embed(pixels), whole)


@pytest.mark.parametrize("fused", ["0", "1"])
@pytest.mark.parametrize(("name", "size"), [("vit_tiny_patch16_224", 32), ("swin_tiny_patch4_window7_224", 56)])
def test_a_network_without_maps_is_refused_in_one_line_and_left_as_it_was(name, size, fused, rng, monkeypatch):
    monkeypatch.setattr("timm.layers.config._USE_FUSED_ATTN", int(fused))
    classifier = built(name, image_size=size)
    with pytest.raises(ValueError, match="no square maps.*take classifier_levels out of `extractor`") as caught:
        Levels(classifier).embed(pixels_of(rng, 2, size))
    assert "\n" not in str(caught.value)
    assert not hooks_of(classifier.network)


def test_levels_see_what_the_last_features_drop(rng):
    body = nn.Sequential(nn.Identity(), nn.AvgPool2d(2), FirstChannel())
    classifier, pixels = classifier_around(body, 1), pixels_of(rng, 60)
    bluer = pixels.clone()
    bluer[:, 2] = 255
    assert frechet_distance(*(classifier.embed(images) for images in (pixels, bluer))) < 1e-5
    levels = Levels(classifier)
    assert frechet_distance(levels.embed(pixels), levels.embed(bluer)) > 1


def test_another_classifier_has_another_fingerprint():
    one, same, other = built("cnn-108k"), built("cnn-108k"), built("resnet18")
    assert Levels(one).fingerprint() == Levels(same).fingerprint()
    assert len({Levels(one).fingerprint(), Levels(other).fingerprint(), one.fingerprint()}) == 3
