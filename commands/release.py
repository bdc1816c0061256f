"""`que2search release`: change the release that is served, without a gap."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.options import JsonOption, KeyOption, ServiceUrl, home
from commands.output import console, finish, write_json
from commands.progress import progress_bars

if TYPE_CHECKING:
    from service.activation import Activation


def activate(
    name: Annotated[str, typer.Argument(help="The release's folder, beside the one that is served.")],
    url: ServiceUrl = "http://127.0.0.1:8000",
    catalogue: Annotated[
        Path | None, typer.Option(help="Instead of a running service: this catalogue, while none runs.")
    ] = None,
    releases: Annotated[
        Path | None, typer.Option(help="With --catalogue: where releases lie. Default: HOME/releases.")
    ] = None,
    key: KeyOption = None,
) -> None:
    """Embed what the catalogue holds by another release, build its index, and serve it. Run again, it goes on.

    What was served before stays to be gone back to, by the same command.
    """
    from service.client import activate_release

    with progress_bars("embedding", "building") as bars:
        progress = dict(zip(("embedding", "building"), bars, strict=True))

        def tell(activation: "Activation") -> None:
            if activation.total:
                progress[activation.state](activation.done, activation.total)

        if catalogue is None:
            for activation in activate_release(url, name, key=key):
                tell(activation)
        else:
            activate_offline(name, catalogue, releases or home() / "releases", tell)
    finish(f"release {name} is served", {"release": name}, None)


def show(url: ServiceUrl = "http://127.0.0.1:8000", key: KeyOption = None, json_file: JsonOption = None) -> None:
    """What a running service serves, what it served before, and how far a change is."""
    from service.client import release_status

    status = release_status(url, key=key)
    for name, value in status.items():
        console.print(f"{name}: {value}", markup=False, highlight=False)
    write_json(status, json_file)


def activate_offline(name: str, catalogue: Path, releases: Path, tell: "Callable[[Activation], None]") -> None:
    """Activate a release while no server runs on the catalogue."""
    from index.catalogue import Catalogue
    from index.lock import exclusive
    from service.activator import Activator
    from service.logs import make_logger

    with (
        exclusive(catalogue, use="que2search release activate"),
        Catalogue.open(catalogue, readonly=False) as opened,
    ):
        log = make_logger("warning")
        activator = Activator(opened, releases=releases, engine="onnx", workers=0, threads=None, log=log)
        activator.activate(name, tell=tell)
