"""Whether generated images are new."""
