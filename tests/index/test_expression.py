"""The filter language: what its texts mean, what is refused and where, and that a condition's text says the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.conditions import And, Compare, Condition, Not, OneOf, Or, Retrieval, Words, all_of, any_of, negated
from index.errors import ExpressionError
from index.expression import MAX_CHARS, MAX_NESTING, MAX_PREDICATES, MAX_VALUES, Parsed, parse

BRITISH = Compare("country", "=", "GB")
CHEAP = Compare("price", "<", 50.0)
SHOES = Compare("category", "=", "Fashion > Shoes")
BRANDS = OneOf("brand", ("Adidas", "Nike"))
NEAR = Retrieval(tokens=False, nn=True)
SHARED = Retrieval(tokens=True, nn=False)


def condition_of(text: str) -> Condition | None:
    return parse(text).condition


def test_a_filter_of_every_kind_of_part() -> None:
    """OR binds least, NOT most; parentheses change that."""
    text = 'country = "GB" AND (price < 50 OR brand IN ("Adidas", "Nike")) AND NOT category = "Fashion > Shoes"'

    assert Parsed(And((BRITISH, Or((CHEAP, BRANDS)), Not(SHOES))), None) == parse(text)


def test_or_binds_less_than_and() -> None:
    """a OR b AND c is a OR (b AND c)."""
    assert Or((CHEAP, And((BRITISH, BRANDS)))) == condition_of(
        "price < 50 OR country = GB AND brand IN (Adidas, 'Nike')"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x = GB", "GB"),
        ("x = 'a \"b\" \\'c\\' \\\\'", "a \"b\" 'c' \\"),
        ("x = 3M", "3M"),
        ("x = IN", "IN"),
        ("x = 'IN'", "IN"),
        ("x = '50'", "50"),
        ("x = 50", 50.0),
        ("x = -.5e1", -5.0),
        ("x = 2024-12-31", "2024-12-31"),
        ("x = 2024-12-31T18:00:00Z", "2024-12-31T18:00:00Z"),
        ("x=Ölfarbe", "Ölfarbe"),
    ],
)
def test_values_are_quoted_text_bare_words_and_numbers(text: str, value: str | float) -> None:
    """What looks like a number is one unless it is quoted; a date is text; after an operator no word is a keyword."""
    assert Compare("x", "=", value) == condition_of(text)


def test_keywords_are_written_in_any_case() -> None:
    """And a quoted name is a field even if it is spelt like a keyword or has a blank."""
    assert And((Not(BRITISH), CHEAP)) == condition_of("not country = GB and price < 50")
    assert Compare("not", "=", "a") == condition_of('"not" = a')
    assert Compare("screen size", ">=", 6.0) == condition_of('"screen size" >= 6')


def test_parentheses_that_change_nothing_leave_no_trace() -> None:
    """So that equal filters are found in a cache."""
    assert condition_of("country = GB AND price < 50 AND NOT brand IN (Adidas, Nike)") == condition_of(
        "(country = GB AND (((price < 50)) AND NOT NOT NOT brand IN (Adidas, Nike)))"
    )
    assert condition_of("brand NOT IN (Adidas, Nike)") == Not(BRANDS)


def test_conditions_are_joined() -> None:
    """Those of other fields of a request with those of the filter's text; None stands for none."""
    assert all_of() is all_of(None, None) is None
    assert all_of(None, CHEAP) == CHEAP
    assert all_of(BRITISH, None, condition_of("price < 50 AND NOT category = 'Fashion > Shoes'")) == And(
        (BRITISH, CHEAP, Not(SHOES))
    )


@pytest.mark.parametrize(
    ("text", "condition", "retrieval"),
    [
        ("tokens", None, SHARED),
        ("nn", None, NEAR),
        ("nn()", None, NEAR),
        ("nn(nprobe=16, radius=-0.24)", None, Retrieval(tokens=False, nn=True, radius=-0.24, nprobe=16)),
        ("tokens OR nn", None, Retrieval(tokens=True, nn=True)),
        ("(nn(radius=0.3) OR tokens)", None, Retrieval(tokens=True, nn=True, radius=0.3)),
        ("price < 50 AND (tokens AND nn)", CHEAP, Retrieval(tokens=True, nn=True, both=True)),
        ("tokens AND price < 50", CHEAP, SHARED),
        ('country = GB AND tokens("adidas") AND (tokens OR nn(nprobe=1))', And((BRITISH, Words("adidas"))),
         Retrieval(tokens=True, nn=True, nprobe=1)),
        ("tokens(adidas) OR price < 50", Or((Words("adidas"), CHEAP)), None),
    ],
)  # fmt: skip
def test_where_hits_come_from(text: str, condition: Condition | None, retrieval: Retrieval | None) -> None:
    """`tokens` and `nn` beside the conditions; `tokens("...")` is a condition as any other."""
    assert Parsed(condition, retrieval) == parse(text)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("NOT tokens", 1),
        ("price < 50 AND NOT (tokens OR nn)", 16),
        ("tokens OR price < 50", 1),
        ("country = GB AND tokens OR nn", 1),
        ("price < 50 AND (country = GB OR nn)", 17),
        ("nn AND nn", 1),
        ("tokens OR nn OR nn", 1),
        ("tokens AND (tokens OR nn)", 1),
    ],
)
def test_where_hits_come_from_is_said_once_and_beside_the_conditions(text: str, at: int) -> None:
    """Under NOT, in an OR with conditions, or twice, it is refused with what is allowed."""
    with pytest.raises(ExpressionError, match=rf"one of tokens, nn\(...\), .* begins at character {at} is"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "expected", "found", "at"),
    [
        ("", "a condition", "the end", 1),
        ("  ", "a condition", "the end", 3),
        ("price < ", "a value", "the end", 9),
        ("price 50", "=, !=, <, <=, >, >= or IN after the field 'price'", "'50'", 7),
        ("a = 1 AND AND b = 2", "a condition", "'AND'", 11),
        ("category = Fashion > Shoes", "AND, OR or the end .* quotes", "'>'", 20),
        ("a = 1)", "AND, OR or the end", r"'\)'", 6),
        ("(a = 1", r"AND, OR or \)", "the end", 7),
        ("a IN ()", "a value", r"'\)'", 7),
        ("a IN (1 2)", r", or \)", "'2'", 9),
        ('a = "b', "a closing quote", "'\"b'", 5),
        ("a ! 3", "a field, a value or an operator", "'! 3'", 3),
        ("a = 1e999", "a number below 1e308", "'1e999'", 5),
        ("tokens(red shoes)", "several words need quotes", "'shoes'", 12),
        ("nn(radius=1.1)", "a cosine from -1 to 1", "'1.1'", 11),
        ("nn(radius='1')", "a cosine from -1 to 1", "'1'", 11),
        ("nn(nprobe=0)", "a whole number from 1 to 65536", "'0'", 11),
        ("nn(nprobe=1.5)", "a whole number from 1 to 65536", "'1.5'", 11),
        ("nn(k=5)", "radius or nprobe", "'k'", 4),
        ("nn(nprobe=1, nprobe=2)", "radius or nprobe, each at most once", "'nprobe'", 14),
    ],
)
def test_errors_say_what_was_expected_and_found_and_where(text: str, expected: str, found: str, at: int) -> None:
    """Characters are counted from 1."""
    with pytest.raises(ExpressionError, match=rf"expected .*{expected}.*, found {found} at character {at}$"):
        parse(text)


def test_a_filter_has_limits() -> None:
    """Each limit itself is allowed, one more is refused."""
    deep = "(" * MAX_NESTING + "a = 1" + ")" * MAX_NESTING
    wide = " OR ".join(["a = 1"] * MAX_PREDICATES)
    many = f"a IN ({', '.join(['1'] * MAX_VALUES)})"
    assert all(parse(text).condition for text in (deep, wide, many, "a = 1".ljust(MAX_CHARS)))

    for text, limit in (
        (f"({deep})", "at most 16 parentheses within each other"),
        (f"{wide} OR a = 1", "at most 64 conditions"),
        (many.replace("(", "(1, "), "at most 100 values"),
        ("a = 1".ljust(MAX_CHARS + 1), "the filter has 2049 characters, 2048 are allowed"),
    ):
        with pytest.raises(ExpressionError, match=limit):
            parse(text)


names = st.sampled_from(["price", "country", "in", "screen size", 'say "x"', "Straße"])
values = st.text(max_size=8) | st.floats(allow_nan=False, allow_infinity=False)
leaves: st.SearchStrategy[Condition] = (
    st.builds(Compare, names, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), values)
    | st.builds(OneOf, names, st.lists(values, min_size=1, max_size=4).map(tuple))
    | st.builds(Words, st.text(max_size=8))
)
conditions = st.recursive(
    leaves,
    lambda parts: (
        st.lists(parts, min_size=2, max_size=3).map(lambda parts: all_of(*parts))
        | st.lists(parts, min_size=2, max_size=3).map(lambda parts: any_of(*parts))
        | parts.map(negated)
    ),
    max_leaves=8,
)


@given(conditions)
def test_the_text_of_a_condition_parses_to_an_equal_one(condition: Condition) -> None:
    """Whatever stands in its names and values, and however it is nested; equal ones hash alike."""
    again = parse(str(condition))

    assert Parsed(condition, None) == again
    assert hash(condition) == hash(again.condition)


@given(st.booleans(), st.none() | st.floats(-1, 1), st.none() | st.integers(1, 65_536))
def test_the_text_of_a_retrieval_parses_to_an_equal_one(both: bool, radius: float | None, nprobe: int | None) -> None:
    """With any knobs."""
    retrieval = Retrieval(tokens=True, nn=True, both=both, radius=radius, nprobe=nprobe)

    assert Parsed(None, retrieval) == parse(str(retrieval))
    assert Parsed(CHEAP, retrieval) == parse(f"{CHEAP} AND ({retrieval})")


PIECES = [
    "(",
    ")",
    ",",
    "=",
    "<",
    "!=",
    "IN",
    "and",
    "OR",
    "NOT",
    "tokens",
    "nn",
    "radius",
    "price",
    "50",
    "'a'",
    '"',
    "\\",
]


@given(st.text() | st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """Nothing but an ExpressionError ever comes out; what is parsed parses again from its own text."""
    try:
        parsed = parse(text)
    except ExpressionError:
        return
    if parsed.condition is not None:
        assert parsed.condition == condition_of(str(parsed.condition))
