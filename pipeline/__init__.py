"""Scripts that run the stages of dvc.yaml, with DVC and without."""
