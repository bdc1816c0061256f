"""Amazon's Shopping Queries Dataset ("ESCI", Reddy et al. 2022, github.com/amazon-science/esci-data).

One product id may stand in several marketplaces, with texts of its own in each: so ours are "us:B000IYZNFK".
"""

from collections.abc import Collection
from pathlib import Path

from models.data.intake import ImportReport, Intake, Progress, Values, one_of, rows_with_columns
from models.data.mapping import TableMap
from models.data.schema import DatasetWriter
from models.errors import DataError

COUNTRIES = {"us": "US", "es": "ES", "jp": "JP"}
LANGUAGES = {"us": "en", "es": "es", "jp": "ja"}
SPLITS = ("train", "test")
# Exact answers the query; a substitute is a near miss; a complement (a case for a phone) answers another query.
RATINGS = {"E": 3, "S": 1, "C": 0, "I": 0}

_KEY = "{product_locale}:{product_id}"
_PRODUCTS = TableMap(
    table="products",
    columns={
        "product_id": _KEY,
        "title": "product_title",
        "description": "{product_bullet_point}\n{product_description}",
        "brand": "product_brand",
        "country": "product_locale",
        "language": "product_locale",
    },
    values={"country": COUNTRIES, "language": LANGUAGES},
    html=("title", "description"),
    attributes=("color",),
)
_JUDGEMENTS = TableMap(
    table="judgements",
    columns={"product_id": _KEY, "country": "product_locale", "language": "product_locale", "rating": "esci_label"},
    values={"country": COUNTRIES, "language": LANGUAGES, "rating": RATINGS},
)
_CHOICES = ("small_version", "split")


def import_esci(
    src: Path,
    out: Path,
    *,
    locale: str | None = None,
    small: bool = False,
    split: str | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """shopping_queries_dataset_products.parquet and ..._examples.parquet in the folder `src`, row by row.

    `locale` keeps one marketplace; `small` the published small version and only the products it rates; `split` the
    ratings of one split, with the products of both. Raises DataError for an unknown choice, a missing file or another
    layout.
    """
    _refuse_unknown("locale", locale, COUNTRIES)
    _refuse_unknown("split", split, SPLITS)
    products = one_of(src, ["shopping_queries_dataset_products.parquet"])
    examples = one_of(src, ["shopping_queries_dataset_examples.parquet"])

    def is_asked(values: Values) -> bool:
        return locale in (None, values["product_locale"]) and (not small or bool(values["small_version"]))

    def product(values: Values) -> Values | None:
        asked = locale in (None, values["product_locale"]) and (rated is None or _key(values) in rated)
        return {**values, "color": values["product_color"]} if asked else None

    def judgement(values: Values) -> Values | None:
        return values if is_asked(values) and split in (None, values["split"]) else None

    rated = None
    if small:
        rows = rows_with_columns(examples, [*_JUDGEMENTS.named(), *_CHOICES])
        rated = {_key(row.values) for row in rows if row.values and is_asked(row.values)}
    writer = DatasetWriter(
        out,
        source="Shopping Queries Dataset (Amazon ESCI)",
        licence="Apache-2.0",
        notes=f"locale: {locale or 'all'}; version: {'small' if small else 'large'}; split: {split or 'both'}",
    )
    intake = Intake(writer, progress)
    with writer:
        intake.take(_PRODUCTS, products, prepare=product, needs=["product_color"])
        intake.take(_JUDGEMENTS, examples, prepare=judgement, needs=_CHOICES)
    return intake.report()


def _key(values: Values) -> tuple[str, str]:
    return values["product_locale"], values["product_id"]


def _refuse_unknown(name: str, value: str | None, known: Collection[str]) -> None:
    if value is not None and value not in known:
        raise DataError(f"{name}={value!r}: expected one of {', '.join(known)}")
