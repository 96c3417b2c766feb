"""Federated training: hospitals that share weights and never an image. The one place that imports Flower."""
