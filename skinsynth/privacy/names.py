"""What rows of this package's tables are called, for who writes them and who reads them."""

GENERATED = "generated"
HELD_OUT = "held-out real"  # whom all that is said of generated images is read against
EXACT_COPIES = "exact copies"  # of training images, planted
PIXELS = "pixels"  # thumbnails, in the place of a classifier's features
CONTROL = "random guess"  # beside the attacks
