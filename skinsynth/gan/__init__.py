"""StyleGAN2 with adaptive discriminator augmentation: networks, losses, training, storage and sampling."""
