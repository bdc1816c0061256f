"""How fast one key may write: a bucket of tokens for each, refilled at its rate, a token for each write.

A single write that finds the bucket empty is refused; the lines of a bulk load wait for their tokens instead, so that a
load goes as fast as it may. Each worker has buckets of its own.
"""

import asyncio
import math
from collections.abc import Callable
from time import monotonic

from service.errors import OverloadedError
from service.keys import Key
from service.metrics import Metrics


class Bucket:
    """Tokens that may be owed: those who take more than there are wait until the debt is paid.

    Args:
        rate: tokens a second.
        burst: as many as it holds, and holds at first.
        now: a clock, seconds.
    """

    def __init__(self, *, rate: float, burst: int, now: Callable[[], float] = monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._now = now
        self._tokens = float(burst)
        self._at = now()

    def lacking_s(self, count: int) -> float:
        """How long until it holds `count` tokens, seconds; 0: it does."""
        now = self._now()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (count - self._tokens) / self._rate)

    def take(self, count: int) -> None:
        """Take tokens, whether it holds them or not."""
        self._tokens -= count


class WriteRates:
    """The buckets of all who write.

    Args:
        rate: writes a second of a key that has no rate of its own, and of all together who write without a key;
            0: as many as they like.
        burst: writes at once after a pause.
        metrics: counts who was refused and who had to wait.
    """

    def __init__(self, *, rate: float, burst: int, metrics: Metrics) -> None:
        self._rate = rate
        self._burst = burst
        self._metrics = metrics
        self._buckets: dict[Key | None, Bucket] = {}

    def check(self, key: Key | None) -> None:
        """Let one write pass. Raises OverloadedError, with the seconds to wait, where its key writes too fast."""
        bucket = self._bucket_of(key)
        if bucket is None:
            return
        lacking_s = bucket.lacking_s(1)
        if lacking_s > 0:
            self._metrics.write_refused()
            raise OverloadedError(
                f"writes come faster than {self._rate_of(key):g} a second; write more slowly, or many at once by "
                "POST /products, which waits",
                retry_after_s=math.ceil(lacking_s),
            )
        bucket.take(1)

    async def pace(self, key: Key | None, lines: int) -> None:
        """Let a group of a bulk load's lines pass, as soon as what was taken before is paid for."""
        bucket = self._bucket_of(key)
        if bucket is None:
            return
        lacking_s = bucket.lacking_s(0)
        bucket.take(lines)  # before the wait, so that others who come meanwhile stand behind
        if lacking_s > 0:
            self._metrics.lines_slowed(lines)
            await asyncio.sleep(lacking_s)

    def _bucket_of(self, key: Key | None) -> Bucket | None:
        """None: it may write as fast as it likes."""
        rate = self._rate_of(key)
        if not rate:
            return None
        if key not in self._buckets:
            self._buckets[key] = Bucket(rate=rate, burst=self._burst)
        return self._buckets[key]

    def _rate_of(self, key: Key | None) -> float:
        return self._rate if key is None or key.rate is None else key.rate
