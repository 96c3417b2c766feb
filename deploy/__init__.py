"""Scripts that run a federation between real machines; README.md says how."""
