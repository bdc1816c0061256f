"""POST /embed: the vector that a search uses, and the vector that the catalogue holds."""

import numpy as np
import pytest

from models.runtime import Release, open_release
from service.settings import Settings
from tests.service.harness import Client


@pytest.fixture(scope="module")
def release(settings: Settings) -> Release:
    assert settings.release is not None
    return open_release(settings.release)


def test_a_query_becomes_the_vector_of_its_tower(client: Client, release: Release) -> None:
    """Trimmed as in a search, country included, of norm 1, with the release that made it."""
    answer = client.post("/embed", json={"query": " green guitar ", "country": "US"}).json()

    assert "small" == answer["release"]
    np.testing.assert_allclose(release.embed_query("green guitar", "US"), answer["vector"], atol=1e-7)
    assert 1.0 == pytest.approx(np.linalg.norm(answer["vector"]))


def test_a_product_becomes_the_vector_of_its_tower(client: Client, release: Release) -> None:
    """Title, description and images, as the index build embeds them."""
    product = {"title": "green guitar", "description": "barely played", "image_vectors": [[0.1, 0.2, 0.3, 0.4]]}

    answer = client.post("/embed", json={"product": product}).json()

    np.testing.assert_allclose(release.embed_product(product), answer["vector"], atol=1e-7)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "query"),
        ({"query": "lamp", "product": {"title": "lamp"}}, "query"),
        ({"product": {"title": "lamp"}, "country": "GB"}, "query"),
        ({"query": ""}, "query"),
        ({"query": "la\x00mp"}, "query"),
        ({"query": "lamp", "country": "G" * 65}, "country"),
        ({"query": "lamp", "size": 3}, "size"),
        ({"product": {"title": ""}}, "product.title"),
        ({"product": {}}, "product"),
        ({"product": {"title": "lamp", "colour": "red"}}, "product"),
        ({"product": {"title": "lamp", "image_vectors": [[1.0]]}}, "product.image_vectors"),
        ({"product": {"title": "lamp", "image_vectors": [[1.0] * 4] * 6}}, "product.image_vectors"),
    ],
)
def test_what_cannot_be_embedded_is_422(client: Client, body: dict[str, object], field: str) -> None:
    """The field is named, inside the product too."""
    answer = client.post("/embed", json=body)

    assert 422 == answer.status_code
    assert field == answer.json()["field"]


def test_the_same_limits_hold_as_for_a_search(client: Client) -> None:
    """Broken JSON is 400, too large a body 413."""
    assert 400 == client.post("/embed", content=b"{").status_code
    assert 413 == client.post("/embed", content=b" " * 70_000).status_code
