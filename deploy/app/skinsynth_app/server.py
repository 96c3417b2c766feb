"""What runs beside the SuperLink."""

from pathlib import Path

from skinsynth.federated.deployment import Deployment, server_app
from skinsynth.process import tune_process
from skinsynth.stage import load_params

tune_process()
app = server_app(load_params("federation", Deployment, Path(__file__).parent / "settings.yaml"))
