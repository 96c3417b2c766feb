"""Real images found again in a generator's latent space."""
