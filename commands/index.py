"""`que2search build` and `tune`: an index generation over the catalogue, and its operating points."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.embedding import embed_missing, fill_catalogue
from commands.judged import judged_fusion, judged_queries, judged_radius, strata_of
from commands.options import CatalogueOption, DataOption, JsonOption, ReleaseOption, home
from commands.output import console, finish
from commands.progress import progress_bar
from commands.tables import operating_points_table, radius_table, strata_table, trials_table

if TYPE_CHECKING:
    from index.catalogue import Catalogue
    from index.generations import Generation
    from index.tune import Tuning
    from models.runtime import Release


def build(
    release: ReleaseOption,
    data: DataOption,
    catalogue: CatalogueOption,
    factory: Annotated[
        str | None, typer.Option(help="Faiss factory, such as OPQ32,IVF256,PQ32; default: by size.")
    ] = None,
    goal_recall: Annotated[
        float | None, typer.Option(help="Measure several indexes: ann_recall@10 to reach. Default with a goal: 0.95.")
    ] = None,
    goal_bytes: Annotated[float | None, typer.Option(help="Measure several indexes: bytes a product, at most.")] = None,
    goal_us: Annotated[
        float | None, typer.Option(help="Measure several indexes: p50 in microseconds, at most.")
    ] = None,
    attributes: Annotated[
        list[str],
        typer.Option("--attribute", help="Of the products' attributes, one to filter by. May be given several times."),
    ] = [],  # noqa: B006
    from_catalogue: Annotated[
        bool, typer.Option("--from-catalogue", help="No dataset: embed what the catalogue holds, as after an import.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Embed the products, fill the catalogue, and build its next index generation. A killed build goes on.

    With a goal, every candidate index is built over the products and searched by the release's golden queries first.
    """
    from index.build import build_generation
    from index.catalogue import Catalogue
    from index.generations import generation_path, open_generation
    from index.lock import exclusive
    from models.data.schema import Dataset
    from models.runtime import open_release

    opened, dataset = open_release(release), None if from_catalogue else Dataset.open(data)
    with exclusive(catalogue, use="que2search build"), Catalogue.create(catalogue) as store:
        with progress_bar("embedding") as progress:
            if dataset is None:
                embed_missing(store, opened, progress)
            else:
                fill_catalogue(store, dataset, opened, progress)
        if (goal_recall, goal_bytes, goal_us) != (None, None, None):
            if factory is not None:
                raise typer.BadParameter(f"--factory {factory} names the index; leave it out, or the goals")
            factory = measured_factory(store, opened, goal_recall, goal_bytes, goal_us)
        with progress_bar("indexing") as progress:
            number = build_generation(
                store, release=opened.id, factory=factory, attributes=attributes, progress=progress
            )
    manifest = open_generation(generation_path(catalogue, number), verify=False).manifest
    finish(
        f"generation {number} of {catalogue}: {manifest.factory} over {manifest.count:,} products", manifest, json_file
    )


def measured_factory(
    store: "Catalogue", release: "Release", recall: float | None, size: float | None, p50_us: float | None
) -> str:
    """The index that meets the goals best, with the table of all that were tried."""
    from index.build import spec_for
    from index.choose import Goals, choose_by_measuring

    goals = Goals(ann_recall_at_10=0.95 if recall is None else recall, bytes_per_product=size, p50_us=p50_us)
    spec = spec_for(store, release=release.id)
    with progress_bar("vectors of all candidates") as progress:
        choice = choose_by_measuring(
            lambda: store.vectors(release.id),
            release.golden_vectors(),
            count=spec.count,
            dim=spec.dim,
            goals=goals,
            progress=progress,
        )
    console.print(trials_table(choice))
    for note in choice.notes:
        console.print(f"note: {note}", highlight=False)
    return choice.factory


def tune(
    catalogue: CatalogueOption,
    release: Annotated[Path | None, typer.Option(help="Default: the current generation's, beside the others.")] = None,
    minimal: Annotated[
        float | None, typer.Option(help="ann_recall@10 of this effort.", show_default="0.80, or --low")
    ] = None,
    low: Annotated[float, typer.Option(help="Of first pages.")] = 0.95,
    balanced: Annotated[float | None, typer.Option(help="Between the two.", show_default="0.97, or halfway")] = None,
    high: Annotated[float, typer.Option(help="Of later pages.")] = 0.99,
    radius_loss_first: Annotated[
        float, typer.Option(help="Share of the relevant judged products that the radius of first pages may lose.")
    ] = 0.01,
    radius_loss_later: Annotated[float, typer.Option(help="The same of later pages, efforts high and exact.")] = 0.02,
    no_radius: Annotated[bool, typer.Option("--no-radius", help="Return results of any score.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Measure the current generation on golden queries and set its operating points.

    Judgements set the radius and the weights of hybrid search.
    """
    from index.efforts import Targets
    from index.generations import open_current
    from index.radius import RadiusRule
    from index.tune import tune as tune_generation
    from models.runtime import open_release

    targets = Targets.of(minimal=minimal, low=low, balanced=balanced, high=high)
    rule = RadiusRule(loss_first=radius_loss_first, loss_later=radius_loss_later)
    generation = open_current(catalogue)
    opened = open_release(release or release_named(generation.manifest.release))
    vectors = opened.golden_vectors()
    judged = judged_queries(opened, catalogue)
    radius = None if no_radius else judged_radius(judged, generation, rule)
    with progress_bar("settings") as progress:
        tuning = tune_generation(
            generation.ann,
            generation.exact,
            vectors,
            targets=targets,
            strata=strata_of(opened.golden_queries()),
            radius=radius,
            progress=progress,
        )
    fusion = judged_fusion(judged, generation, tuning.points["low"])
    points = tuning.points.fused_by(fusion)
    generation.save_operating_points(points)
    console.print(operating_points_table(points))
    console.print(strata_table(tuning.strata))
    if radius is not None and radius.tables:
        console.print(radius_table(radius))
    for note in (*tuning.notes, *fusion.notes):
        console.print(f"note: {note}", highlight=False)
    draw_tuning(tuning, generation)
    finish(f"operating points of generation {generation.number} in {catalogue}", points, json_file)


def release_named(release_id: str) -> Path:
    """The directory of a release, looked for in the usual place."""
    from models.errors import ReleaseError
    from models.runtime import MANIFEST_FILE, read_manifest

    for path in sorted((home() / "releases").glob(f"*/{MANIFEST_FILE}")):
        if read_manifest(path.parent).id == release_id:
            return path.parent
    raise ReleaseError(f"no release {release_id} in {home() / 'releases'}; name its directory with --release")


def draw_tuning(tuning: "Tuning", generation: "Generation") -> None:
    """The picture beside the operating points, where it can be drawn."""
    try:
        from benchmarks.tuning_picture import save
    except ModuleNotFoundError as exc:
        console.print(f"no picture was drawn: there is no {exc.name} here", highlight=False)
        return
    manifest = generation.manifest
    path = save(tuning, generation.path, title=f"{manifest.factory} over {manifest.count:,} products")
    console.print(f"[green]wrote[/green] {path}", highlight=False, soft_wrap=True)
