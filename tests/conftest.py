"""What tests share: a seeded generator, the project's root, the real ISIC files where they lie beside the project."""

from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def golden() -> Path:
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def isic() -> Path:
    """The real ISIC files, read in place; a test that needs them is skipped, and counted, where they are missing."""
    folder = ROOT.parent / "shared" / "data" / "isic"
    if not folder.is_dir():
        pytest.skip(f"real ISIC files are not at {folder}")
    return folder
