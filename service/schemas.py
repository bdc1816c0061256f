"""What a request may say, and the one path that checks it: GET and POST give the same fields, the same errors.

The limits stand here once: the checks, the error messages and the OpenAPI document are all read off these types.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Final, Literal, NoReturn, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from index.expression import MAX_CHARS as MAX_EXPRESSION
from index.operating_points import MAX_SIZE
from service.errors import InvalidFieldError, UnparsableError

MAX_QUERY = 512  # characters, after trimming

MAX_COUNTRY = 64  # characters; codes have two, but an unknown one is accepted
MAX_FIELDS = 64  # of a query string; many more than we know
MAX_BATCH = 64  # searches
MAX_IMAGES = 5
MAX_VALUE = 512  # characters of a filter's value

EffortName = Literal["minimal", "low", "balanced", "high", "exact"]
Mode = Literal["vector", "lexical", "hybrid"]
VECTOR: Final = "vector"
LEXICAL: Final = "lexical"
HYBRID: Final = "hybrid"
MODES: Final = (VECTOR, LEXICAL, HYBRID)
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
AT_FIELD = re.compile(r" - at `\$\.(\w+)([^`]*)`")
UNKNOWN_FIELD = re.compile(r"unknown field `(.*)`", re.DOTALL)
MISSING_FIELD = re.compile(r"missing required field `(\w+)`")

T = TypeVar("T", bound=msgspec.Struct)
Text = Annotated[str, Meta(min_length=1, max_length=MAX_VALUE)]
Price = Annotated[float, Meta(ge=0)]


class SearchRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One search, checked: `q` is trimmed, an empty `country` is None."""

    q: Annotated[
        str,
        Meta(
            description=f"query text, 1 to {MAX_QUERY} characters after trimming, no control characters",
            extra_json_schema={"minLength": 1, "maxLength": MAX_QUERY, "examples": ["red summer dress"]},
        ),
    ]
    country: Annotated[
        str | None,
        Meta(
            description=f"ISO 3166 code of the searcher, up to {MAX_COUNTRY} characters; an unknown one is none",
            extra_json_schema={"examples": ["GB"]},
        ),
    ] = None
    page: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="a whole number from 1 (the default); not together with `cursor`"),
    ] = None
    size: Annotated[int, Meta(ge=1, le=MAX_SIZE, description=f"hits per page, a whole number from 1 to {MAX_SIZE}")] = (
        10
    )
    cursor: Annotated[
        str | None,
        Meta(description="the `cursor` of the page before, unchanged, with the same query"),
    ] = None
    effort: Annotated[
        Literal["auto", EffortName],
        Meta(
            description="one of auto, minimal, low, balanced, high, exact; auto (the default) is low for the first "
            "page and high for later ones"
        ),
    ] = "auto"
    min_score: Annotated[
        Annotated[float, Meta(ge=-1, le=1)] | None,
        Meta(description="no neighbour below this cosine counts, a number from -1 to 1; default: the effort's own"),
    ] = None
    timeout_ms: Annotated[
        Annotated[float, Meta(gt=0, le=600_000)] | None,
        Meta(description="deadline in milliseconds, a number above 0 and up to 600000; effort is lowered to meet it"),
    ] = None

    category: Annotated[
        Text | None,
        Meta(
            description='a category as products have it, from the root: "Fashion > Shoes"; those below it count too',
            extra_json_schema={"examples": ["Fashion > Shoes"]},
        ),
    ] = None
    price_min: Annotated[Price | None, Meta(description="products of this price or more, a number from 0")] = None
    price_max: Annotated[Price | None, Meta(description="products of this price or less, a number from 0")] = None
    seller: Annotated[Text | None, Meta(description="products of this seller, 1 to 512 characters")] = None
    created_after: Annotated[
        Text | None,
        Meta(
            description="products created at this time or later: an ISO 8601 date or date and time, such as 2025-11-30",
            extra_json_schema={"examples": ["2025-11-30"]},
        ),
    ] = None
    filter: Annotated[
        Annotated[str, Meta(min_length=1, max_length=MAX_EXPRESSION)] | None,
        Meta(
            description="an expression, 1 to 2048 characters: comparisons of fields joined by AND, OR and NOT; "
            "tokens(...) for words that a product must have; and what looks for hits, (tokens OR nn(radius, nprobe))",
            extra_json_schema={"examples": ['country = "GB" AND (tokens OR nn(radius=0.24, nprobe=16))']},
        ),
    ] = None
    per_seller: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_SIZE)] | None,
        Meta(description=f"at most so many hits of one seller over all pages, a whole number from 1 to {MAX_SIZE}"),
    ] = None
    mode: Annotated[
        Mode | None,
        Meta(
            description="one of vector (by meaning, the default), lexical (by words) and hybrid (by both); score is "
            "the cosine, the BM25 score or the fused score"
        ),
    ] = None
    explain: Annotated[bool, Meta(description="true adds the parts of each score; false is the default")] = False

    def __post_init__(self) -> None:
        if self.cursor is not None and self.page is not None:
            raise InvalidFieldError("page", self.page, "the cursor knows its page; send one of the two")
        if self.price_min is not None and self.price_max is not None and self.price_min > self.price_max:
            raise InvalidFieldError(
                "price_min", self.price_min, f"above price_max={self.price_max:g}: nothing is between"
            )
        _settle(self, query="q")


class BatchRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Several searches; each is checked on its own, so that one that is wrong spoils no other."""

    searches: Annotated[
        list[dict[str, Any]],
        Meta(min_length=1, max_length=MAX_BATCH, description=f"1 to {MAX_BATCH} searches, each as of POST /search"),
    ]


class ProductFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the document tower reads of a product."""

    title: Annotated[str, Meta(min_length=1, max_length=4096, description="title, 1 to 4096 characters")]
    description: Annotated[str, Meta(max_length=65_536)] | None = None
    image_vectors: Annotated[list[list[float]], Meta(max_length=MAX_IMAGES)] | None = None
    language: Annotated[str, Meta(max_length=16)] | None = None
    country: Annotated[str, Meta(max_length=16)] | None = None


class EmbedRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A query (with its country) or a product, to be embedded."""

    query: Annotated[
        str | None,
        Meta(description=f"query text, 1 to {MAX_QUERY} characters after trimming; or `product`, not both"),
    ] = None
    country: Annotated[str | None, Meta(description="ISO 3166 code of the searcher, with `query`")] = None
    product: Annotated[
        ProductFields | None,
        Meta(
            description="a product: title of 1 to 4096 characters, optional description (up to 65536 characters), "
            f"image_vectors (up to {MAX_IMAGES}), language and country; or `query`, not both"
        ),
    ] = None

    def __post_init__(self) -> None:
        if (self.query is None) == (self.product is None) or (self.product is not None and self.country is not None):
            raise InvalidFieldError(
                "query", self.query, "send either `query`, with an optional `country`, or `product`"
            )
        _settle(self, query="query")


class FilterMember(msgspec.Struct, frozen=True, kw_only=True):
    """How a filter was applied."""

    condition: Annotated[str, Meta(description="all filters of the request as one expression")]
    allowed: Annotated[int, Meta(description="products that pass")]
    strategy: Annotated[
        Literal["exact", "post", "lists"] | None,
        Meta(
            description="exact: all that pass were compared; post: nearly all pass, the others were left out "
            "afterwards; lists: lists were chosen by what passes in them; null: no vectors were searched"
        ),
    ]


class SearchMember(msgspec.Struct, frozen=True, kw_only=True):
    """How the page was searched: the effective values, after every default and override."""

    mode: Mode
    effort: EffortName
    nprobe: int | None
    candidates: int
    min_score: float | None
    filter: FilterMember | None
    per_seller: int | None
    release: str
    generation: int
    degraded: bool


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds of each stage that was needed, and of everything since the request was picked up."""

    featurise: int | None = None
    query_tower: int | None = None
    filter: int | None = None
    ann: int | None = None
    lexical: int | None = None
    rank: int | None = None
    products: int
    total: int


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one leg says of a hit."""

    score: Annotated[float, Meta(description="cosine, or BM25 score; 0 where no word is shared")]
    rank: Annotated[int | None, Meta(description="in the leg's own list, from 1; null where it does not hold the hit")]


class HitExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a hit's score."""

    vector: Part
    lexical: Part


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What all hits of an answer share."""

    channel_weights: Annotated[
        dict[str, float] | None,
        Meta(description="attention of the query tower, by channel; null where its fusion has none"),
    ]
    corrections: Annotated[dict[str, list[str]], Meta(description="words that no product has, and what was looked for")]
    fusion: Annotated[dict[str, float], Meta(description="of hybrid: weight of each leg, and the rank constant")]


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A product; of its fields only `id` is sure to be there."""

    id: str
    score: Annotated[float, Meta(description="by mode: cosine, BM25 score or fused score")]
    title: str | None = None
    brand: str | None = None
    category: str | None = None
    country: str | None = None
    language: str | None = None
    price: float | None = None
    currency: str | None = None
    seller_id: str | None = None
    created_at: str | None = None
    explain: Annotated[HitExplanation | None, Meta(description="with explain=true")] = None


class SearchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What /search answers. Documents it, and tests read answers by it; the hot path joins bytes instead."""

    query: str
    page: int
    query_truncated: Annotated[bool, Meta(description="the query was longer than the model reads")] = False
    hits: list[Hit]
    cursor: Annotated[str | None, Meta(description="send it for the next page; null where nothing follows")]
    search: SearchMember
    explain: Annotated[Explanation | None, Meta(description="with explain=true")] = None
    timings_us: Timings


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    field: str | None = None
    value: str | None = None
    first_page: str | None = None


def from_query_string(raw: bytes, kind: type[T]) -> T:
    """A checked request from the query string of a GET.

    Raises:
        UnparsableError: not UTF-8 behind the percent signs, or too many fields.
        InvalidFieldError: a field is unknown, repeated or out of its range.
    """
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError as exc:
        raise UnparsableError(f"the query string cannot be read: {exc}") from exc
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidFieldError(twice, [value for name, value in pairs if name == twice], "given more than once")
    return checked(fields, kind, strict=False)


def from_json(raw: bytes, kind: type[T]) -> T:
    """A checked request from the JSON body of a POST.

    Raises:
        UnparsableError: not JSON, or not UTF-8.
        InvalidFieldError: a field is unknown or out of its range, or the body is no object.
    """
    try:
        fields = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise UnparsableError(f"the body is not JSON: {exc}") from exc
    if not isinstance(fields, dict):
        raise InvalidFieldError("body", fields, "a JSON object")
    return checked(fields, kind, strict=True)


def checked(fields: Mapping[str, object], kind: type[T], *, strict: bool) -> T:
    """`fields` as a `kind`; `strict=False` reads numbers from their text, as a query string has them."""
    try:
        return msgspec.convert(fields, kind, strict=strict)
    except msgspec.ValidationError as exc:
        _refuse(fields, kind, str(exc), exc)


def _refuse(fields: Mapping[str, object], kind: type[msgspec.Struct], message: str, cause: Exception) -> NoReturn:
    """Say what msgspec found in our words: the field, its value, what is allowed."""
    if found := AT_FIELD.search(message):
        name, inside = found.groups()
        raise InvalidFieldError(f"{name}{inside}", fields.get(name), allowed(kind, name)) from cause
    if found := UNKNOWN_FIELD.search(message):
        known = ", ".join(kind.__struct_fields__)
        raise InvalidFieldError(found[1], fields.get(found[1]), f"unknown field; known are {known}") from cause
    if found := MISSING_FIELD.search(message):
        raise InvalidFieldError(found[1], None, f"required: {allowed(kind, found[1])}") from cause
    raise UnparsableError(message) from cause


def _settle(request: SearchRequest | EmbedRequest, *, query: str) -> None:
    """Trim the query and check what types cannot say; an empty country is none."""
    text, country = getattr(request, query), request.country
    if text is not None:
        trimmed = text.strip()
        if not 1 <= len(trimmed) <= MAX_QUERY or CONTROL.search(trimmed):
            raise InvalidFieldError(query, text, allowed(type(request), query))
        msgspec.structs.force_setattr(request, query, trimmed)
    if country is not None:
        if len(country) > MAX_COUNTRY or CONTROL.search(country):
            raise InvalidFieldError("country", country, allowed(type(request), "country"))
        msgspec.structs.force_setattr(request, "country", country or None)


@cache
def properties(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON schema of every field of a request."""
    _, components = msgspec.json.schema_components([kind])
    fields: dict[str, Any] = components[kind.__name__]["properties"]
    return fields


def allowed(kind: type[msgspec.Struct], field: str) -> str:
    """What a field may hold, in words: the description that the OpenAPI document shows too."""
    return str(properties(kind)[field]["description"])
