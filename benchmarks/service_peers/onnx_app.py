"""That service with our query tower as torch's exporter writes it, under ONNX Runtime."""

from fastapi import FastAPI

from benchmarks.service_peers.plain_tower import PlainTower
from benchmarks.service_peers.stack import search_service


def create_app() -> FastAPI:
    """For `uvicorn --factory`."""
    return search_service(PlainTower().embed)
