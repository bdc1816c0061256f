"""The server's settings: read once from `Q2S_*` variables, typed, frozen, unknown ones refused."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import SettingsError
from service.schemas import EffortName

PREFIX = "Q2S_"
# Ours too, but read by the command line and the tests, or set by the server for its workers.
OTHERS = frozenset({"Q2S_HOME", "Q2S_TEST_DATA", "Q2S_WATCH_DIR", "Q2S_COMMITS_DIR"})


class Settings(BaseSettings):
    """What an operator decides. Each field `x` is the variable `Q2S_X`; workers read the same variables."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    release: Path | None = Field(default=None, description="directory of the release: towers, tokenizer, manifest")
    catalogue: Path | None = Field(default=None, description="directory of the catalogue and its index generations")
    engine: Literal["onnx", "int8", "torchscript"] = Field(default="onnx", description="what runs the query tower")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    drain_timeout_s: Annotated[int, Field(ge=1)] = Field(default=30, description="SIGTERM waits so long for requests")

    keys_file: Path | None = Field(
        default=None, description="API keys, as `que2search key` writes them; without, this machine alone may write"
    )

    max_effort: EffortName = Field(default="exact", description="the highest effort that a request may ask for")
    timeout_ms: Annotated[float, Field(gt=0)] = Field(
        default=1000.0, description="deadline of a request that names none, and the longest one that it may name"
    )
    max_waiting_ms: Annotated[float, Field(gt=0)] = Field(
        default=50.0, description="a request that waited longer is refused (429); past half of it the effort is lowered"
    )
    max_standing_ms: Annotated[float, Field(gt=0)] = Field(
        default=5.0, description="the same once requests wait without a break for 0.1 s, and for 1 s after a refusal"
    )
    max_in_flight: Annotated[int, Field(ge=1)] = Field(default=256, description="requests at once in one worker (429)")
    max_body_bytes: Annotated[int, Field(ge=1)] = Field(default=65_536, description="larger bodies are refused (413)")

    max_line_bytes: Annotated[int, Field(ge=1)] = Field(
        default=262_144, description="a larger product, by itself or as a line of POST /products, is refused (413)"
    )
    max_backlog: Annotated[int, Field(ge=1)] = Field(
        default=100_000, description="products that may wait to be embedded before further writes are refused (429)"
    )
    write_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.0, description="writes a second of a key that has no rate of its own, in each worker (0: no limit)"
    )
    write_burst: Annotated[int, Field(ge=1)] = Field(default=1_000, description="and so many at once after a pause")
    writes: bool = Field(
        default=True,
        description="take writes, alone on the catalogue, with an indexer and a builder; False: only search",
    )
    compact_at: Annotated[float, Field(ge=0)] = Field(
        default=0.05, description="share of the products whose changes call for a new generation (0: none ever do)"
    )
    compact_from: Annotated[int, Field(ge=1)] = Field(default=10_000, description="and at least so many changes")

    query_cache: Annotated[int, Field(ge=0)] = Field(
        default=20_000, description="query vectors that each worker keeps, about 1 kB each (0: none)"
    )
    query_cache_hours: Annotated[float, Field(gt=0)] = Field(default=8.0, description="how long it keeps one")

    warmup_queries: Annotated[int, Field(ge=1)] = Field(
        default=64, description="golden queries that a worker answers to itself before it is ready"
    )
    watch_share: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.01, description="share of the searches that the sampler searches again, exactly (0: none)"
    )
    watch_cpu: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="share of the time that the sampler may work, at the lowest priority"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    access_log_every: Annotated[int, Field(ge=0)] = Field(
        default=100, description="log one request in so many (1: all, 0: none); failures are always logged"
    )


def load_settings(
    environ: Mapping[str, str] = os.environ, *, overrides: Mapping[str, object] | None = None
) -> Settings:
    """The settings of the environment; `overrides`, by field name, win over it (the command line's options).

    Raises:
        SettingsError: a `Q2S_` variable is unknown or a value is impossible; names it.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    if unknown := {name for name in environ if name.startswith(PREFIX)} - known - OTHERS:
        raise SettingsError(f"unknown settings {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")
    given = {name: environ[PREFIX + name.upper()] for name in Settings.model_fields if PREFIX + name.upper() in environ}
    try:
        return Settings.model_validate({**given, **(overrides or {})})
    except ValidationError as exc:
        wrong = [f"{PREFIX}{str(e['loc'][0]).upper()}={e['input']!r}: {e['msg']}" for e in exc.errors()]
        raise SettingsError("; ".join(wrong)) from exc


def as_environment(settings: Settings) -> dict[str, str]:
    """The variables that give `settings` back: how they reach the worker processes."""
    values = settings.model_dump(mode="json", exclude_none=True)
    return {PREFIX + name.upper(): str(value) for name, value in values.items()}
