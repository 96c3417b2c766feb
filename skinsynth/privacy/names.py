"""What this package's tables hold, and what they and their rows are called, for who writes them and who reads them."""

Row = dict[str, str | float | int]
RowsByTable = dict[str, list[Row]]  # by the names in TABLES

# Of score_authenticity.
TABLES = (
    "authenticity",
    "planted",
    "copies",
    "copies_of_held_out",
    "disguises",
    "pixels",
    "distances",
    "histogram",
    "attacks",
    "judged",
)
GENERATED = "generated"
HELD_OUT = "held-out real"  # whom all that is said of generated images is read against
EXACT_COPIES = "exact copies"  # of training images, planted
HALF_COPIES = "half copies"  # the other half held-out images
UNCHANGED = "none"  # in the place of a disguise
PIXELS = "pixels"  # thumbnails, in the place of a classifier's features
NO_FEATURES = "none"  # in the place of a space, of attacks that look at none
# Of the table of what was judged:
LABELS = "labels of these classes"
SHA256_OF_SPLIT = "sha256 of the split"
SHA256_OF_LESIONS = "sha256 of lesions.csv"
CONTROL = "random guess"  # beside the attacks
