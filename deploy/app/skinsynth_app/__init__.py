"""The app that a federation's server hands to its hospitals."""
