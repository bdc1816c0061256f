"""GET and POST /search over the whole application."""

from tests.service.harness import Client


def test_a_search_answers_products_that_share_words(client: Client) -> None:
    """The towers sum 3-grams, so a title's own words find it."""
    answer = client.get("/search", params={"q": "green guitar", "size": 3}).json()

    assert 3 == len(answer["hits"])
    print(answer)
    assert all("green guitar" in hit["title"] for hit in answer["hits"])
