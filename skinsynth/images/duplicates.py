"""Images that show the same photograph: equal files, nearly equal pictures, and pairs that somebody listed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from skinsynth.settings import Between

HASH_SIZE = 16  # a hash has 16 x 16 bits
# imagehash computes its DCT on a square of HASH_SIZE * factor pixels; 32 px is the smallest size that we train at, so
# that an image has nearly the same hash at every size.
HIGH_FREQUENCY_FACTOR = 2
ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class DuplicateConfig:
    """How far two hashes of 256 bits may lie apart for one photograph.

    Seen on 5,366 ISIC images (14.4 million pairs): all 36 pairs up to a distance of 40 show one lesion, most one
    photograph; the first two different lesions, small and round on plain skin, come at 46. JPEG at quality 40, half
    the size, a fifth darker or paler stay within 40; a crop of 2 % gives 32 at the median, one of 5 % 68 (missed), and
    mirror images lie at 128. The usual hash of 64 bits is too coarse for dermoscopy: among 2,108 images it puts 3 pairs
    of different patients at a distance of 2. Two lesions that are wrongly tied cost little (they stand on one side of
    the split), a copy that is missed leaks.
    """

    max_distance: Annotated[int, Between(0, 256)]  # bits, 0 to 256; 40 where the images are dermoscopy


@dataclass(frozen=True)
class Duplicates:
    groups: list[str]  # of each image: the smallest id of its group, "" where it is alone
    exact_pairs: int  # images whose file (or drawing) another image has too, less one for each such file
    near_pairs: int  # pairs of different files whose hashes lie close


def perceptual_hash(image: UInt8[np.ndarray, "height width 3"]) -> Bool[np.ndarray, " bits"]:
    """The 256 signs of the lowest frequencies of the grey image about their median (imagehash's phash)."""
    import imagehash  # 1 s to import, and only prepare_images needs it

    found = imagehash.phash(Image.fromarray(image), hash_size=HASH_SIZE, highfreq_factor=HIGH_FREQUENCY_FACTOR)
    return found.hash.ravel()


def find_duplicates(
    image_ids: Sequence[str],
    sha256: Sequence[str],
    hashes: Bool[np.ndarray, "n bits"],
    listed: Iterable[tuple[str, str]],
    config: DuplicateConfig,
) -> Duplicates:
    """Groups of images that equal files, close hashes and the listed pairs tie together."""
    here = set(image_ids)
    exact = _equal_pairs(image_ids, sha256)
    digest_of = dict(zip(image_ids, sha256, strict=True))
    near = [(image_ids[first], image_ids[second]) for first, second in near_pairs(hashes, config.max_distance)]
    known = [pair for pair in listed if pair[0] in here and pair[1] in here]
    return Duplicates(
        groups=duplicate_groups(image_ids, [*exact, *near, *known]),
        exact_pairs=len(exact),
        near_pairs=sum(digest_of[first] != digest_of[second] for first, second in near),
    )


def _equal_pairs(image_ids: Sequence[str], sha256: Sequence[str]) -> list[tuple[str, str]]:
    ids_of: dict[str, list[str]] = {}
    for image_id, digest in zip(image_ids, sha256, strict=True):
        ids_of.setdefault(digest, []).append(image_id)
    return [pair for ids in ids_of.values() for pair in pairwise(ids)]


def near_pairs(hashes: Bool[np.ndarray, "n bits"], max_distance: int) -> Int64[np.ndarray, "pairs 2"]:
    """Numbers of all pairs of hashes at a Hamming distance of `max_distance` or less, each once, the smaller first."""
    bits = hashes.shape[1]
    # With bits as +1 and -1 a scalar product is bits - 2 * distance: a matrix product, exact in float32.
    signs: Float32[np.ndarray, "n bits"] = np.where(hashes, np.float32(1), np.float32(-1))
    found = [np.zeros((0, 2), dtype=np.int64)]
    for start in range(0, len(signs), ROWS_AT_ONCE):
        product = signs[start : start + ROWS_AT_ONCE] @ signs[start:].T
        first, second = np.nonzero(product >= bits - 2 * max_distance)
        later = second > first
        found.append(start + np.stack([first[later], second[later]], axis=1))
    return np.concatenate(found)


def duplicate_groups(image_ids: Sequence[str], pairs: Iterable[tuple[str, str]]) -> list[str]:
    """The group of each image: the smallest id among those that chains of pairs tie to it, "" where there is none."""
    number_of = {image_id: number for number, image_id in enumerate(image_ids)}
    ties = np.array([(number_of[first], number_of[second]) for first, second in pairs], dtype=np.int64).reshape(-1, 2)
    shape = (len(image_ids), len(image_ids))
    graph = coo_array((np.ones(len(ties), dtype=np.int8), (ties[:, 0], ties[:, 1])), shape=shape)
    _, component = connected_components(graph, directed=False)
    members: dict[int, list[str]] = {}
    for image_id, number in zip(image_ids, component, strict=True):
        members.setdefault(int(number), []).append(image_id)
    return [min(members[int(number)]) if len(members[int(number)]) > 1 else "" for number in component]
