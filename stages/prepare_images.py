"""Bring a raw source (phantom, ISIC, folders, a hospital's table) to square images in one ZIP and a table."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np

from skinsynth.files import written_whole
from skinsynth.images.archive import ArchiveWriter, encode_png
from skinsynth.images.decode import Decoding, Facts
from skinsynth.images.duplicates import DuplicateConfig, find_duplicates
from skinsynth.lesions.sources import SourceConfigs, load_catalogue
from skinsynth.lesions.table import write_lesions
from skinsynth.settings import Count, Names
from skinsynth.stage import load_params, run, write_metrics


@dataclass(frozen=True)
class Settings:
    source: str  # a key of SOURCES
    classes: Names  # in the order of the labels
    size: Count  # pixels, square
    on_bad_image: str  # stop or skip
    duplicates: DuplicateConfig
    sources: SourceConfigs


SETTINGS = Settings


def main(
    raw: Annotated[Path, "folder that the roots in params.yaml start from"],
    images: Annotated[Path, "ZIP to write: shows real images, stays on this machine"],
    lesions: Annotated[Path, "table to write, one row an image"],
    metrics: Annotated[Path, "counts: images, rows without an image, bad files, duplicates"],
) -> None:
    """Decode on all cores, crop to the middle, find duplicates; neither file is replaced unless all went well."""
    settings = load_params("prepare_images", Settings)
    catalogue = load_catalogue(settings.source, placed_below(raw, settings.sources), settings.classes)
    table = catalogue.table
    label_of = dict(zip(table["image_id"], table["label"], strict=True))
    tasks = [(image_id, catalogue.pictures[image_id]) for image_id in table["image_id"]]
    decoding = Decoding(tasks, settings.size, os.cpu_count() or 1, settings.on_bad_image)
    facts: list[Facts] = []
    with written_whole(lesions) as table_aside, ArchiveWriter(images) as archive:
        for decoded in decoding:
            archive.add(decoded.key, encode_png(decoded.pixels), label_of[decoded.key])
            facts.append(decoded.facts)
        table = table[table["image_id"].isin({fact.key for fact in facts})].assign(
            width=[fact.width for fact in facts],
            height=[fact.height for fact in facts],
            sha256=[fact.sha256 for fact in facts],
        )
        hashes = np.stack([fact.hash for fact in facts])
        found = find_duplicates(
            table["image_id"].tolist(), table["sha256"].tolist(), hashes, catalogue.listed_pairs, settings.duplicates
        )
        write_lesions(table_aside, table.assign(duplicate_group=found.groups))
    for note in [*catalogue.notes, *decoding.bad]:
        print(note)
    counts = {f"{name}_images": int((table["label"] == label).sum()) for label, name in enumerate(settings.classes)}
    write_metrics(
        metrics,
        {
            **counts,
            "rows_without_image": catalogue.rows_without_image,
            "bad_images": len(decoding.bad),
            "exact_duplicates": found.exact_pairs,
            "near_duplicates": found.near_pairs,
        },
    )


def placed_below(raw: Path, sources: SourceConfigs) -> SourceConfigs:
    """The same sources with their places below `raw`; an absolute place stays where it is."""
    return replace(
        sources,
        isic=replace(sources.isic, root=str(raw / sources.isic.root)),
        isic2017=replace(sources.isic2017, root=str(raw / sources.isic2017.root)),
        folders=replace(sources.folders, root=str(raw / sources.folders.root)),
        table=replace(sources.table, csv=str(raw / sources.table.csv), images=str(raw / sources.table.images)),
    )


if __name__ == "__main__":
    run(main)
