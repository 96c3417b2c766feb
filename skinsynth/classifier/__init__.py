"""Networks that tell benign from malignant: their training, their files and their features."""
