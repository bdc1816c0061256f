"""An answer as JSON bytes: the products are joined as they are stored, only the frame is encoded."""

import msgspec

from service.clock import Clock
from service.pipeline import Answer

_encode = msgspec.json.Encoder().encode


def render(answer: Answer, clock: Clock) -> bytes:
    """The body of a search's answer. Stops the clock, since the answer holds its `total`."""
    head: dict[str, object] = {"query": answer.query, "page": answer.page}
    if answer.query_truncated:
        head["query_truncated"] = True
    point = answer.point
    tail: dict[str, object] = {
        "cursor": answer.cursor,
        "search": {
            "mode": answer.mode,
            "effort": point.effort,
            "nprobe": point.nprobe,
            "candidates": point.candidates,
            "min_score": point.min_score,
            "filter": answer.filter,
            "per_seller": answer.per_seller,
            "release": answer.release,
            "generation": answer.generation,
            "degraded": answer.degraded,
        },
    }
    if answer.explanation is not None:
        tail["explain"] = answer.explanation
    before, after = _encode(head)[:-1], _encode(tail)[1:-1]
    hits = b",".join(answer.hits)
    clock.stop()
    timings = _encode(clock.microseconds())
    return b'%b,"hits":[%b],%b,"timings_us":%b}' % (before, hits, after, timings)
