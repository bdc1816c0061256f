"""`que2search serve`, `key`, `search`, `doctor`: the service, who may use it, what it says, what slows it down."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from commands.answers import hits_table, notes_of
from commands.options import Engine, JsonOption, ScopeName, home, in_home
from commands.output import console, errors, write_json


def serve(
    release: Annotated[Path | None, typer.Option(help="Default: Q2S_RELEASE or HOME/releases/sample.")] = None,
    catalogue: Annotated[Path | None, typer.Option(help="Default: Q2S_CATALOGUE or HOME/catalogue.")] = None,
    host: Annotated[str | None, typer.Option(help="Default: Q2S_HOST or 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Default: Q2S_PORT or 8000.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; they share the index. Default: Q2S_WORKERS or 1.")
    ] = None,
    engine: Annotated[
        Engine | None, typer.Option(help="What runs the query tower. Default: Q2S_ENGINE or onnx.")
    ] = None,
) -> None:
    """Answer /search over HTTP. Every other setting is a Q2S_ variable; see docs/operations.md."""
    # The first process of a container is deaf to a signal that it does not handle, and the imports take a while.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(0))
    from service.server import serve as serve_http
    from service.settings import load_settings

    usual = {"Q2S_RELEASE": str(home() / "releases/sample"), "Q2S_CATALOGUE": str(home() / "catalogue")}
    chosen = {
        "release": release,
        "catalogue": catalogue,
        "host": host,
        "port": port,
        "workers": workers,
        "engine": engine,
    }
    overrides = {name: value for name, value in chosen.items() if value is not None}
    serve_http(load_settings({**usual, **os.environ}, overrides=overrides))


def key(
    name: Annotated[str, typer.Option(help="Whose key: one word, for the file's reader.")],
    keys: Annotated[Path, in_home("--keys", "keys", "Key file to add it to; Q2S_KEYS_FILE names it to `serve`.")],
    scope: Annotated[ScopeName, typer.Option(help="What it opens; each includes those before it.")] = ScopeName.write,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Writes a second; Q2S_WRITE_RATE is for keys without.")
    ] = None,
) -> None:
    """Make an API key: shown once, kept as a hash. Delete its line, and start the server again, to revoke it."""
    from service.keys import new_key

    if not name or len(name.split()) != 1:
        raise typer.BadParameter(f"{name!r} is not one word", param_hint="--name")
    secret, key = new_key(name, scope.value, rate=rate)
    keys.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(keys, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a") as file:
        file.write(key.line())
    errors.print(f"added {name!r} with scope {scope.value} to {keys}; this is the only time that the key is shown:")
    print(secret)


def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    url: Annotated[str, typer.Option(help="The service.")] = "http://127.0.0.1:8000",
    country: Annotated[str | None, typer.Option(help="ISO 3166 code of the searcher.")] = None,
    page: Annotated[int | None, typer.Option(help="From 1.")] = None,
    size: Annotated[int | None, typer.Option(help="Hits per page, 1 to 100.")] = None,
    cursor: Annotated[str | None, typer.Option(help="Of the page before.")] = None,
    effort: Annotated[str | None, typer.Option(help="auto, minimal, low, balanced, high or exact.")] = None,
    min_score: Annotated[float | None, typer.Option(help="Nothing below this cosine.")] = None,
    timeout_ms: Annotated[float | None, typer.Option(help="Deadline; the effort is lowered to meet it.")] = None,
    category: Annotated[str | None, typer.Option(help="And those below it: 'Fashion > Shoes'.")] = None,
    price_min: Annotated[float | None, typer.Option(help="This price or more.")] = None,
    price_max: Annotated[float | None, typer.Option(help="This price or less.")] = None,
    seller: Annotated[str | None, typer.Option(help="Of this seller.")] = None,
    created_after: Annotated[str | None, typer.Option(help="Date or date and time, ISO 8601.")] = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", help="An expression: 'country = GB AND (tokens OR nn(radius=0.3))'.")
    ] = None,
    per_seller: Annotated[int | None, typer.Option(help="Hits of one seller, at most.")] = None,
    mode: Annotated[str | None, typer.Option(help="vector, lexical or hybrid.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show the parts of each score.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Ask a running service and print its answer."""
    from service.client import search as ask

    fields = {
        "q": query,
        "country": country,
        "page": page,
        "size": size,
        "cursor": cursor,
        "effort": effort,
        "min_score": min_score,
        "timeout_ms": timeout_ms,
        "category": category,
        "price_min": price_min,
        "price_max": price_max,
        "seller": seller,
        "created_after": created_after,
        "filter": filter_,
        "per_seller": per_seller,
        "mode": mode,
        "explain": explain or None,
    }
    answer = ask(url, {name: value for name, value in fields.items() if value is not None})
    console.print(hits_table(answer))
    for note in notes_of(answer):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    write_json(answer, json_file)


def doctor(
    catalogue: Annotated[Path | None, typer.Option(help="Whether its index fits into memory.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Look, and measure nothing.")] = False,
    json_file: JsonOption = None,
) -> None:
    """What this machine and installation are, what of them makes the service slow, and what that costs here."""
    from benchmarks.doctor import run

    diagnosis = run(quick=quick, catalogue=catalogue)
    console.print(diagnosis.table())
    write_json(diagnosis, json_file)
