"""The phantom study made small enough for a test: every stage does its true job in seconds."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent


def tiny_params(**overrides: Any) -> dict[str, Any]:
    """params.yaml with a scale `phantom` of tens of images and steps; `overrides` replace whole sections."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    scale = params["scales"]["phantom"]
    scale["prepare_images"]["sources"]["phantom"] |= {"patients": 60, "lesions_per_patient": 3, "height": 48}
    classifier = scale["train_classifier"]
    classifier["classifier"] |= {"epochs": 2, "seeds": [1]}
    classifier["bootstrap_draws"] = 50
    for scenario in classifier["scenarios"].values():
        scenario["synthetic"] = dict.fromkeys(scenario["synthetic"], 16)
    gan = scale["train_gan"]
    gan["schedule"] = {"images": 128, "images_per_tick": 32, "ticks_per_score": 2}
    gan["scored_images"], gan["shown_images"] = 16, 8
    gan["trainer"]["batch_size"] = 16
    for side in ("generator", "discriminator"):
        gan["trainer"][side] |= {"channel_base": 128, "channel_max": 8}
    federated = scale["train_federated"]
    federated["federation"] |= {"rounds": 2, "steps_per_round": 2, "rounds_per_score": 1}
    federated["scored_images"], federated["shown_images"] = 16, 8
    federated["trainer"] = gan["trainer"]
    scale["score_gan"] |= {"images": 60}
    scale["score_gan"]["path"] |= {"samples": 8}
    scale["score_gan"]["fidelity"] |= {"interval_draws": 3}
    scale["score_federated"] |= {"images": 24}
    scale["select_gan"] |= {"images_per_class": 12}
    scale["generate_images"]["images"] = {
        name: dict.fromkeys(counts, 16) for name, counts in scale["generate_images"]["images"].items()
    }
    doses = scale["measure_dose_response"]
    doses["doses"] |= {"patient_shares": [0.2, 1], "beside_patients": [0], "synthetic_shares": [0, 0.25]}
    doses["doses"] |= {"seeds_below_all_patients": [1, 2]}
    doses["doses"]["classifier"] |= {"epochs": 1, "seeds": [1]}
    doses |= {"headlines": ["100_percent_of_patients", "0.25x_synthetic"], "bootstrap_draws": 50}
    scale["generate_images"]["images"]["doses"] = {"benign": 40, "malignant": 20}
    _shrink_what_is_done_with_models(scale)
    scale |= overrides
    return {"scale": "phantom", "scales": {"phantom": scale}}


def _shrink_what_is_done_with_models(scale: dict[str, Any]) -> None:
    scale["write_tables"]["bootstrap_draws"] = 50
    explanation = scale["explain_classifier"]
    explanation["cases"]["most"], explanation["shown"] = 2, 1
    explanation["xrai"]["steps"] = 5
    explanation["faithfulness"] |= {"steps": 4, "random_orders": 2}
    scale["find_directions"] |= {"directions": 2, "images": 6, "steps": [-2, 0, 2], "pca_samples": 64}
    scale["train_detectors"]["classifier"] |= {"epochs": 2}
    scale["train_detectors"] |= {"least": 1, "bootstrap_draws": 20}
    scale["audit_artefacts"] |= {"bootstrap_draws": 20, "shown": 4}
    frames = scale["remove_frames"]
    frames["images"] = {"benign": 16, "malignant": 16}
    frames["removal"] |= {"images": 4, "least": 2, "most_draws": 64, "directions": 2, "samples": 64}
    frames["removal"] |= {
        "random_directions": 2,
        "batch_size": 32,
        "learning": {"steps": 2, "learning_rate": 0.1, "batch_size": 2},
    }
    edges = scale["augment_edges"]
    edges |= {"edge_share": 0.5, "most": 3, "images": {"benign": 16, "malignant": 16}}
    edges["projection"] |= {"steps": 3, "batch_size": 4, "statistics_samples": 64}
    scale["compare_classifiers"]["bootstrap_draws"] = 50
    scale["project_images"]["images"] = 6
    scale["project_images"]["projection"] |= {"steps": 3, "batch_size": 4, "statistics_samples": 64}
    scale["score_authenticity"]["shown_pairs"] = 4
    scale["embed_images"]["images_per_class"] = 4
    scale["embed_images"]["embedding"] |= {"pca_components": 4, "perplexity": 2, "iterations": 250, "neighbours": 2}
    scale["embed_images"]["embedding"] |= {"min_cluster_size": 3, "cluster_samples": 2}
    scale["score_authenticity"]["novelty"] |= {"cells": 2, "planted_images": 20}
    scale["score_authenticity"]["attacks"] |= {"components": 2, "draws": 20}


def write_params(folder: Path, params: dict[str, Any]) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
