"""What is to be killed, and when: repeated by a seed."""

import random
from collections.abc import Iterator
from itertools import count
from typing import Final, Literal, NamedTuple, get_args

from benchmarks.chaos_server import Victim
from service.activation import State

Moment = Literal["writing", "compacting", "swapping"]
VICTIMS: Final[tuple[Victim, ...]] = get_args(Victim)
MOMENTS: Final[tuple[Moment, ...]] = get_args(Moment)
STATES: Final[tuple[State, ...]] = ("validating", "embedding", "building", "switching")
MOST_WRITES: Final = 100
LONGEST_DELAY_S: Final = 0.3


class Kill(NamedTuple):
    """One SIGKILL, or one for each process of the server."""

    number: int
    victim: Victim
    moment: Moment
    writes: int  # acknowledged in this round before it
    state: State  # of a change of release, where the moment is one
    delay_s: float  # after the moment has come


def planned(seed: int) -> Iterator[Kill]:
    """Kills without end: every kind of process at every moment, then all of them again in another order."""
    draw = random.Random(seed)
    pairs = [(victim, moment) for victim in VICTIMS for moment in MOMENTS]
    numbers = count()
    while True:
        draw.shuffle(pairs)
        for victim, moment in pairs:
            writes, state = draw.randint(1, MOST_WRITES), draw.choice(STATES)
            yield Kill(next(numbers), victim, moment, writes, state, draw.random() * LONGEST_DELAY_S)
