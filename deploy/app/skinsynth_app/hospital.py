"""What runs beside a hospital's SuperNode."""

from pathlib import Path

from skinsynth.federated.deployment import Deployment, hospital_app
from skinsynth.process import tune_process
from skinsynth.stage import best_device, load_params

tune_process()
app = hospital_app(load_params("federation", Deployment, Path(__file__).parent / "settings.yaml"), best_device())
