"""Loggers that people have: numbers of a run go there too, as they are written. None of them needs an account.

TensorBoard writes files into the run folder; so do the others, unless their own variables (WANDB_MODE,
MLFLOW_TRACKING_URI) name a server.
"""

import hashlib
import os
from collections.abc import Mapping
from importlib import import_module
from typing import Protocol

from howdeep.runs.folder import Run


class Logger(Protocol):
    """Where numbers go too."""

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Take the numbers of one event."""
        ...

    def close(self) -> None:
        """Write what is held back."""
        ...


class TensorBoard:
    """Files in RUN/tensorboard."""

    def __init__(self, run: Run) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(run.path / "tensorboard"))

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Add a scalar each."""
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush the file."""
        self.writer.close()


class Wandb:
    """Weights & Biases: offline in RUN/wandb, unless WANDB_MODE says otherwise; a run folder is one run there."""

    def __init__(self, run: Run) -> None:
        wandb = import_module("wandb")
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "howdeep"),
            name=run.path.name,
            id=_id(run),
            resume="allow",
            dir=str(run.path),
            config=run.record.get("config"),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Log them at a step."""
        self.run.log(dict(numbers), step=step)

    def close(self) -> None:
        """End the run."""
        self.run.finish()


class MLflow:
    """MLflow: a database in RUN/mlflow.db, unless MLFLOW_TRACKING_URI names a server; a run folder is one run there."""

    def __init__(self, run: Run) -> None:
        mlflow = import_module("mlflow")
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.path.resolve() / 'mlflow.db'}"
        self.client = mlflow.MlflowClient(tracking_uri=uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "howdeep")
        experiment = self.client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self.client.create_experiment(name)
        known = self.client.search_runs([number], filter_string=f"tags.howdeep = '{_id(run)}'")
        if known:
            self.id = known[0].info.run_id
            return
        self.id = self.client.create_run(number, run_name=run.path.name, tags={"howdeep": _id(run)}).info.run_id
        for option, value in run.record.get("config", {}).items():
            self.client.log_param(self.id, option, value)

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Log a metric each."""
        for name, value in numbers.items():
            self.client.log_metric(self.id, name, value, step=step)

    def close(self) -> None:
        """Say that the run has ended; a resumed one goes on."""
        self.client.set_terminated(self.id)


LOGGERS = {"tensorboard": TensorBoard, "wandb": Wandb, "mlflow": MLflow}


def _id(run: Run) -> str:
    """Return what tells a run folder from others, and stays when the run resumes."""
    return hashlib.blake2b(f"{run.path.resolve()}".encode(), digest_size=6).hexdigest()
