"""Directions in a generator's latent space w, and what moving along them does to images."""
