"""Image files: decoding, archives, grids, duplicates."""
