"""Real data into a dataset directory: the Chorus folder, published search datasets, or any table with a column map."""

import re
from pathlib import Path

from models.data.importers_esci import import_esci
from models.data.importers_wands import import_wands
from models.data.intake import MAX_BAD_SHARE, ImportReport, Intake, Progress, Values, listing, one_of
from models.data.mapping import TableMap, load_maps
from models.data.rows import KNOWN
from models.data.schema import TABLES, DatasetWriter
from models.errors import DataError

__all__ = ["import_chorus", "import_esci", "import_table", "import_wands"]


def import_chorus(src: Path, out: Path, *, progress: Progress | None = None) -> ImportReport:
    """The Chorus electronics catalogue: products.jsonl(.gz) and any judgements*.csv in the folder `src`.

    Prices are in cents there. Raises DataError where a file is missing or not of that layout.
    """
    products = one_of(src, ("products.jsonl.gz", "products.jsonl"))
    judgements = sorted(src.glob("judgements*.csv"))
    if not judgements:
        raise DataError(f"{src}: expected judgements*.csv; found {listing(src)}")
    writer = DatasetWriter(
        out,
        source="Chorus electronics (Icecat via querqy/chorus)",
        licence="Apache-2.0; product data Icecat Open Content License",
    )
    intake = Intake(writer, progress)
    with writer:
        intake.take(_CHORUS_PRODUCTS, products, prepare=_chorus_product)
        for path in judgements:
            intake.take(_CHORUS_JUDGEMENTS, path)
    return intake.report()


def import_table(
    src: Path,
    out: Path,
    *,
    column_map: Path | None = None,
    max_bad_share: float = MAX_BAD_SHARE,
    progress: Progress | None = None,
) -> ImportReport:
    """CSV, JSON lines or Parquet: `src` is the products file, or a folder that holds the files of the map.

    One file may hold several tables: those for which the map names the file of the products, or for which, like the
    products, it names none while `src` is a file.
    Without a map, or where it names no file, a folder is searched for products.*, events.* and judgements.*.
    Raises DataError where a file or a needed column is missing, or more than `max_bad_share` of a file is bad.
    """
    maps, about = load_maps(column_map) if column_map else ({"products": TableMap(table="products")}, {})
    if src.is_dir() and column_map is None:
        maps |= {table: TableMap(table=table) for table in TABLES if _named(src, table)}
    writer = DatasetWriter(
        out,
        source=about.get("source", src.name),
        licence=about.get("licence", "unknown"),
        notes=about.get("notes", ""),
    )
    intake = Intake(writer, progress, max_bad_share)
    with writer:
        for table in TABLES:  # products first: the others refer to them
            if table in maps:
                intake.take(maps[table], _file_of(src, maps[table], products=maps["products"]))
    return intake.report()


_CHORUS_PRODUCTS = TableMap(
    table="products",
    columns={
        "product_id": "id",
        "description": "short_description",
        "brand": "supplier",
        "created_at": "date_released",
    },
    defaults={"language": "en"},
    scale={"price": 0.01},
)
_CHORUS_JUDGEMENTS = TableMap(table="judgements", defaults={"language": "en"})
_CHORUS_ATTRIBUTE = re.compile(r"attr_[a-z]_(.+)")


def _chorus_product(values: Values) -> Values:
    """attr_t_product_type and its like become attributes; the product type is also the category."""
    named = ((_CHORUS_ATTRIBUTE.fullmatch(name), value) for name, value in values.items())
    attributes = {match[1]: value for match, value in named if match}
    kind = str(attributes.get("product_type", ""))
    return {
        **values,
        "attributes": attributes | {"model": values.get("name", ""), "ean": values.get("ean", [])},
        "category": None if kind.isdigit() else kind,  # "1" stands for unknown there
    }


def _file_of(src: Path, mapping: TableMap, *, products: TableMap) -> Path:
    if not src.is_dir() and mapping.file == products.file:
        return src
    if mapping.file is not None:
        return (src if src.is_dir() else src.parent) / mapping.file
    if not src.is_dir():
        raise DataError(f"the column map names no file for [{mapping.table}]; add `file = ...`")
    return one_of(src, _named(src, mapping.table) or [f"{mapping.table}{end}" for end in KNOWN])


def _named(src: Path, table: str) -> list[str]:
    ends = (*KNOWN, *(f"{end}.gz" for end in KNOWN))
    return [table + end for end in ends if (src / (table + end)).is_file()]
