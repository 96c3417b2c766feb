"""The five places where images come from, behind one door."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from skinsynth.lesions.catalogue import Catalogue, present
from skinsynth.lesions.diagnoses import check_classes, class_labels
from skinsynth.lesions.folders import FoldersConfig, read_folders
from skinsynth.lesions.hospital import TableConfig, read_hospital_table
from skinsynth.lesions.isic import IsicConfig, read_isic
from skinsynth.lesions.isic2017 import Isic2017Config, read_isic2017
from skinsynth.lesions.phantom import PhantomConfig, draw_phantom


@dataclass(frozen=True)
class SourceConfigs:
    """The settings of every source; params' `source` names the one that is used."""

    phantom: PhantomConfig
    isic: IsicConfig
    isic2017: Isic2017Config
    folders: FoldersConfig
    table: TableConfig


SOURCES: dict[str, Callable[[SourceConfigs, Sequence[str]], Catalogue]] = {
    "phantom": lambda configs, _: draw_phantom(configs.phantom),
    "isic": lambda configs, _: read_isic(configs.isic),
    "isic2017": lambda configs, _: read_isic2017(configs.isic2017),
    "folders": lambda configs, classes: read_folders(configs.folders, classes),
    "table": lambda configs, _: read_hospital_table(configs.table),
}


def load_catalogue(source: str, configs: SourceConfigs, classes: Sequence[str]) -> Catalogue:
    """The rows of a source that have an image, sorted by image_id, with their label; every class has an image."""
    if source not in SOURCES:
        raise ValueError(f"source is {source!r}: choose one of {', '.join(SOURCES)}")
    catalogue = present(SOURCES[source](configs, classes))
    table = catalogue.table.sort_values("image_id", ignore_index=True)
    try:
        label = class_labels(table["diagnosis"], table["malignancy"], classes)
    except ValueError as error:
        raise ValueError(f"{catalogue.name}: {error}") from error
    check_classes(label, classes, catalogue.name, catalogue.help_for)
    return replace(catalogue, table=table.drop(columns="malignancy").assign(label=label))
