"""Speed of classifier training, and which share of it goes into getting images to the network, as JSON.

    python benchmarks/train_classifier.py                                             # the default network at 32 px
    python benchmarks/train_classifier.py --network efficientnet_b2 --size 256 --batch 64   # the paper's, for a GPU

Images are noise and lie in memory, on the device where they fit, as in training. Timed are whole epochs, and by itself
the fetching of an epoch's batches: picked in random order, brought to the device, divided by 255. On a GPU both wait
for the device at their end; `fetching_from_cpu_share` is of images that stay on the CPU because they do not fit.
"""

import argparse
import json
import statistics
from collections.abc import Callable

import torch

from benchmarks.measuring import now, rounded
from skinsynth.classifier.networks import build_network
from skinsynth.classifier.training import ClassifierConfig, Examples, _resident, _Run
from skinsynth.process import tune_process

EPOCHS = 5  # the first is left out


def noise(count: int, size: int) -> Examples:
    """Images of two classes in turn."""
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, size, size), generator=rng, dtype=torch.uint8)
    return Examples(pixels, torch.arange(count) % 2)


def median_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of all but the first round."""
    seconds = []
    for _ in range(EPOCHS):
        start = now(device)
        work()
        seconds.append(now(device) - start)
    return statistics.median(seconds[1:])


def fetch_all(examples: Examples, batch: int, rng: torch.Generator) -> None:
    """What an epoch does before it turns and flips images."""
    for chosen in torch.randperm(len(examples.labels), generator=rng, device=rng.device).split(batch):
        examples.pixels[chosen.to(examples.pixels.device)].to(rng.device) / 255


def measure(flags: argparse.Namespace, device: torch.device) -> dict[str, object]:
    """One network on one device."""
    config = ClassifierConfig(
        network=flags.network, pretrained=False, dropout=0.2, epochs=1, batch_size=flags.batch, learning_rate=5e-4,
        plateau_factor=0.1, plateau_patience=2, patience=3, rotation_degrees=15.0, flips=True, mixed_precision=True,
        balance="none", seeds=(0,),
    )  # fmt: skip
    examples = noise(flags.images, flags.size)
    resident = _resident(examples, device)
    network = build_network(flags.network, 2, False, 0.2, flags.size).to(device)
    rng = torch.Generator(device).manual_seed(0)
    run = _Run(network, resident, resident, config, 2, rng)
    epoch = median_seconds(run._train_epoch, device)
    on_cpu = Examples(examples.pixels, resident.labels)
    result = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads",
        **vars(flags),
        "images_per_second": flags.images / epoch,
        "ms_a_step": 1000 * epoch * flags.batch / flags.images,
        "fetching_share": median_seconds(lambda: fetch_all(resident, flags.batch, rng), device) / epoch,
    }
    if device.type == "cuda":
        from_cpu = median_seconds(lambda: fetch_all(on_cpu, flags.batch, rng), device)
        result["fetching_from_cpu_share"] = from_cpu / epoch
    return result


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="cnn-108k", help="any that train_classifier takes")
    parser.add_argument("--size", type=int, default=32, help="pixels of a side")
    parser.add_argument("--images", type=int, default=2048, help="in an epoch")
    parser.add_argument("--batch", type=int, default=32, help="images in a step")
    flags = parser.parse_args()
    tune_process()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(json.dumps(rounded(measure(flags, device)), indent=2))


if __name__ == "__main__":
    main()
