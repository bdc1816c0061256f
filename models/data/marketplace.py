"""The synthetic marketplace: products, eight weeks of events and judgements, from one seed.

What every product is and what every searcher wants is drawn first; titles, images, queries, clicks and ratings
are all made from this hidden truth (`models.data.synthetic`), so they agree. Equal seed, equal tables.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from models.data.schema import DatasetWriter, Manifest
from models.data.synthetic.events import SEARCHES_PER_PRODUCT, write_events
from models.data.synthetic.facts import Facts, draw_facts
from models.data.synthetic.golden import write_judgements
from models.data.synthetic.images import ImageMaker
from models.data.synthetic.listings import write_listings
from models.data.synthetic.matches import Truth
from models.data.synthetic.queries import draw_pool
from models.data.synthetic.vocabulary import Vocabulary, load_vocabulary
from models.errors import DataError

_CHUNK = 5_000  # products whose text and images are in memory at a time


def sample(
    out: Path, *, products: int = 20_000, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> Manifest:
    """Writes the dataset directory `out`; products are written chunk by chunk, only their facts are kept.

    `progress(done, total)` counts rows of products and searches. Raises DataError where `products` is not
    positive or `out` holds something else.
    """
    if products < 1:
        raise DataError(f"products={products} must be at least 1")
    vocabulary = load_vocabulary()
    searches = products * SEARCHES_PER_PRODUCT
    report = progress or (lambda _done, _total: None)
    writer = DatasetWriter(out, source="synthetic marketplace", licence="Apache-2.0", seed=seed)
    with writer:
        facts = _write_products(writer, vocabulary, products, seed, lambda n: report(n, products + searches))
        truth = Truth(vocabulary, facts)
        pool = draw_pool(vocabulary, facts, np.random.default_rng([seed, 2]))
        done = products
        for table in write_events(vocabulary, truth, pool, count=searches, seed=seed):
            writer.add_events(table)
            done = min(done + table.num_rows, products + searches)
            report(done, products + searches)
        writer.add_judgements(write_judgements(vocabulary, truth, pool, rng=np.random.default_rng([seed, 4])))
        report(products + searches, products + searches)
    return writer.published()


def _write_products(
    writer: DatasetWriter, vocabulary: Vocabulary, count: int, seed: int, report: Callable[[int], None]
) -> Facts:
    images = ImageMaker(vocabulary, seed)
    chunks = []
    for chunk, first in enumerate(range(0, count, _CHUNK)):
        rng = np.random.default_rng([seed, 1, chunk])
        facts = draw_facts(vocabulary, min(_CHUNK, count - first), rng)
        writer.add_products(write_listings(vocabulary, facts, first=first, images=images, rng=rng))
        chunks.append(facts)
        report(first + len(facts))
    return Facts.concatenate(chunks)
