"""Where images lie in a classifier's features: a map in three dimensions, nearest neighbours and clusters."""
