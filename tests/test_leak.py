"""What a split by image makes up: of the phantom the truth is known."""

from dataclasses import replace

import pytest

from benchmarks.leak import PROTOCOLS, draw_study, planted, repeat, shared, with_phantom
from skinsynth.partition.split import split_patients


@pytest.fixture(scope="module")
def shared_of():
    """What training knows of the images that each protocol reports on, in a study where every image comes twice."""
    setting = planted()
    phantom = replace(setting.prepare.sources.phantom, seed=1, patients=20, lesions_per_patient=8.0)
    lesions = draw_study(with_phantom(setting.prepare, phantom)).lesions
    return {
        protocol: shared(lesions, split_patients(lesions, replace(setting.split, protocol=protocol)))
        for protocol in PROTOCOLS
    }


def test_the_paper_s_protocol_reports_on_patients_and_lesions_that_it_trained_on(shared_of):
    assert shared_of["paper"]["sharing_patient_percent"] > 90
    assert shared_of["paper"]["sharing_lesion_percent"] > 60


def test_the_patient_protocol_keeps_copies_that_name_nobody_beside_their_lesion(shared_of):
    assert shared_of["patient"]["sharing_patient_percent"] == 0
    assert shared_of["patient"]["sharing_lesion_percent"] == 0


@pytest.mark.slow
def test_the_paper_s_protocol_makes_up_auc_and_the_patient_protocol_does_not():
    """Bounds leave room for other threads and machines: found were 0.18 (0.12 to 0.23) and -0.02 (-0.10 to 0.06)."""
    paper, patient = repeat(planted(), seed=1)
    assert paper["inflation"].low > 0.05
    assert paper["true"].value < paper["said"].low
    assert patient["inflation"].low < 0
    assert patient["inflation"].value == pytest.approx(0, abs=0.12)
