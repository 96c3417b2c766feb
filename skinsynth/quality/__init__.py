"""How good generated images and predictions are."""
