"""That service with our query tower as it was trained, run by torch without compiling anything."""

import os
from pathlib import Path

import numpy as np
import torch
from fastapi import FastAPI

from benchmarks.service_peers.stack import search_service
from models.towers import as_tensors
from models.training.run import Run


def create_app() -> FastAPI:
    """For `uvicorn --factory`; PEER_RUN is the run."""
    torch.set_num_threads(1)
    run = Run.open(Path(os.environ["PEER_RUN"]))
    tower = run.towers.query

    def embed(text: str, country: str | None) -> np.ndarray:
        with torch.inference_mode():
            vectors: np.ndarray = tower(*as_tensors(run.featurizer.query(text, country), tower)).numpy()
        return vectors

    return search_service(embed)
