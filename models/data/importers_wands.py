"""Wayfair's annotation dataset ("WANDS", Chen et al., ECIR 2022, github.com/wayfair/WANDS): furniture in English."""

from pathlib import Path

from models.data.intake import ImportReport, Intake, Progress, Values, one_of, rows_with_columns
from models.data.mapping import TableMap
from models.data.schema import DatasetWriter

# A partial match misses what the query asks of the product (a colour, a material): a near miss, as ESCI's substitute.
RATINGS = {"Exact": 3, "Partial": 1, "Irrelevant": 0}

_TAB = "\t"
_STARS = ("rating_count", "average_rating", "review_count")
_PRODUCTS = TableMap(
    table="products",
    delimiter=_TAB,
    columns={"title": "product_name", "category": "category hierarchy", "description": "product_description"},
    lists={"category hierarchy": " / "},
    defaults={"language": "en"},
)


def import_wands(src: Path, out: Path, *, progress: Progress | None = None) -> ImportReport:
    """The files product.csv, query.csv and label.csv, separated by tabs, in the folder `src`.

    Raises DataError where a file is missing or not of that layout.
    """
    products, queries, labels = (one_of(src, [name]) for name in ("product.csv", "query.csv", "label.csv"))
    query_rows = rows_with_columns(queries, ["query_id", "query"], delimiter=_TAB)
    query_of = {row.values["query_id"]: row.values["query"] for row in query_rows if row.values}
    judgements = TableMap(
        table="judgements",
        delimiter=_TAB,
        columns={"query": "query_id", "rating": "label"},
        values={"query": query_of, "rating": RATINGS},
        defaults={"language": "en"},
    )
    writer = DatasetWriter(out, source="WANDS (Wayfair)", licence="MIT")
    intake = Intake(writer, progress)
    with writer:
        intake.take(_PRODUCTS, products, prepare=_product, needs=["product_class", "product_features", *_STARS])
        intake.take(judgements, labels)
    return intake.report()


def _product(values: Values) -> Values:
    """Class, features and stars become attributes; a product outside the hierarchy is of the category of its class."""
    classes = [name.strip() for name in values["product_class"].split("|")]
    attributes = {"product_type": classes} | _features(values["product_features"])
    return {
        **values,
        "attributes": attributes | {name: values[name] for name in _STARS},
        "category hierarchy": values["category hierarchy"] or classes[0],
    }


def _features(text: str) -> dict[str, list[str]]:
    """From "color : red|color : blue|width:64.7" {"color": ["red", "blue"], "width": ["64.7"]}."""
    found: dict[str, list[str]] = {}
    for feature in text.split("|"):
        name, _, value = (part.strip() for part in feature.partition(":"))
        if name and value:
            found.setdefault(name, []).append(value)
    return found
