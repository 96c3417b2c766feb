"""The comparison of ways to compute a GAN: what each one sets, and when it says that one is not worse."""

import dataclasses

import pytest

from benchmarks.gan_settings import PLAIN, WAYS, computed_in, within_plain
from tests.test_gan_trainer import CONFIG


@pytest.mark.parametrize("way", WAYS)
def test_a_way_sets_both_networks_and_nothing_else(way):
    there = dataclasses.replace(CONFIG, generator=dataclasses.replace(CONFIG.generator, half_levels=1))
    found = computed_in(there, way)
    networks = found.generator, found.discriminator
    assert [network.half_levels for network in networks] == ([0, 0] if way == PLAIN else [1, 2])
    assert {network.fused for network in networks} == {way.startswith("fused")}
    if way != PLAIN:
        assert {network.half_type for network in networks} == {way.removeprefix("fused-")}
    same = {"half_levels": 0, "half_type": "float16", "fused": False}
    plain = [dataclasses.replace(network, **same) for network in networks]
    assert plain == [dataclasses.replace(network, **same) for network in (CONFIG.generator, CONFIG.discriminator)]
    assert dataclasses.replace(found, generator=CONFIG.generator, discriminator=CONFIG.discriminator) == CONFIG


def test_a_way_is_within_where_all_its_ends_lie_between_those_of_float32():
    ends_of = {
        PLAIN: [{"images": 9, "fid": 3.0, "kid": 0.5}, {"images": 9, "fid": 2.0, "kid": 0.4}],
        "float16": [{"images": 9, "fid": 2.5, "kid": 0.4}, {"images": 9, "fid": 2.0, "kid": 0.6}],
    }
    found = within_plain(ends_of)
    assert found["fid"] == {PLAIN: [2.0, 3.0], "float16": {"ends": [2.5, 2.0], "within": True}}
    assert not found["kid"]["float16"]["within"]
    assert "images" not in found
