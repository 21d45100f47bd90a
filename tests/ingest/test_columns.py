"""Matching of headers, recipes, and coercion of columns."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geocrm.errors import Invalid
from geocrm.ingest import coerce, columns, fields, formats, recipes


@pytest.mark.parametrize(
    ("kind", "headers", "expected"),
    [
        (
            "customers",  # Salesforce accounts
            [
                "Billing Zip/Postal Code",
                "Account Name",
                "Account ID",
                "Billing Street",
                "Billing City",
                "Billing State/Province",
                "Billing Country",
                "Industry",
                "Account Owner",
                "Phone",
                "Parent Account ID",
            ],
            {
                "external_id": "Account ID",
                "name": "Account Name",
                "line1": "Billing Street",
                "city": "Billing City",
                "country": "Billing Country",
                "industry": "Industry",
                "owner": "Account Owner",
                "phone": "Phone",
                "parent": "Parent Account ID",
            },
        ),
        (
            "customers",  # HubSpot contacts
            [
                "Record ID",
                "First Name",
                "Last Name",
                "Email",
                "Phone Number",
                "Lifecycle Stage",
                "Contact owner",
                "Street Address",
                "City",
                "State/Region",
                "Postal Code",
                "Country/Region",
                "Job Title",
            ],
            {
                "external_id": "Record ID",
                "first_name": "First Name",
                "last_name": "Last Name",
                "email": "Email",
                "phone": "Phone Number",
                "stage": "Lifecycle Stage",
                "owner": "Contact owner",
                "line1": "Street Address",
                "city": "City",
                "region": "State/Region",
                "postal_code": "Postal Code",
                "country": "Country/Region",
                "contact_role": "Job Title",
            },
        ),
        (
            "customers",  # Dynamics 365
            [
                "Account Name",
                "Account Number",
                "Main Phone",
                "Address 1: Street 1",
                "Address 1: City",
                "Address 1: ZIP/Postal Code",
                "Address 1: State/Province",
                "Address 1: Country/Region",
                "Address 1: Latitude",
                "Address 1: Longitude",
            ],
            {
                "external_id": "Account Number",
                "name": "Account Name",
                "phone": "Main Phone",
                "line1": "Address 1: Street 1",
                "city": "Address 1: City",
                "postal_code": "Address 1: ZIP/Postal Code",
                "lat": "Address 1: Latitude",
                "lon": "Address 1: Longitude",
            },
        ),
        (
            "customers",  # Shopify
            [
                "Customer ID",
                "First Name",
                "Last Name",
                "Email",
                "Default Address Company",
                "Default Address Address1",
                "Default Address City",
                "Default Address Province Code",
                "Default Address Country Code",
                "Default Address Zip",
                "Default Address Phone",
            ],
            {
                "external_id": "Customer ID",
                "first_name": "First Name",
                "last_name": "Last Name",
                "name": "Default Address Company",
                "line1": "Default Address Address1",
                "city": "Default Address City",
                "region": "Default Address Province Code",
                "country": "Default Address Country Code",
                "postal_code": "Default Address Zip",
            },
        ),
        (
            "customers",  # German
            [
                "Kundennr.",
                "Firma",
                "Straße",
                "PLZ",
                "Ort",
                "Land",
                "Breitengrad",
                "Längengrad",
                "E-Mail",
                "Telefon",
                "Ansprechpartner",
            ],
            {
                "external_id": "Kundennr.",
                "name": "Firma",
                "line1": "Straße",
                "postal_code": "PLZ",
                "city": "Ort",
                "country": "Land",
                "lat": "Breitengrad",
                "lon": "Längengrad",
                "email": "E-Mail",
                "phone": "Telefon",
                "contact_name": "Ansprechpartner",
            },
        ),
        (
            "customers",  # French and Spanish
            ["Numéro client", "Raison sociale", "Adresse", "Code postal", "Ville", "Pays"],
            {
                "external_id": "Numéro client",
                "name": "Raison sociale",
                "line1": "Adresse",
                "postal_code": "Code postal",
                "city": "Ville",
                "country": "Pays",
            },
        ),
        (
            "customers",
            ["Código cliente", "Razón social", "Dirección", "Código postal", "Ciudad", "País", "Correo electrónico"],
            {
                "external_id": "Código cliente",
                "name": "Razón social",
                "line1": "Dirección",
                "postal_code": "Código postal",
                "city": "Ciudad",
                "country": "País",
                "email": "Correo electrónico",
            },
        ),
        (
            "sales",  # WooCommerce
            [
                "Order Number",
                "Order Date",
                "Customer User",
                "SKU",
                "Item Name",
                "Quantity",
                "Item Cost",
                "Order Currency",
            ],
            {
                "external_id": "Order Number",
                "occurred_at": "Order Date",
                "customer": "Customer User",
                "product": "SKU",
                "product_name": "Item Name",
                "quantity": "Quantity",
                "unit_price": "Item Cost",
                "currency": "Order Currency",
            },
        ),
        (
            "sales",
            ["Auftragsnr.", "Kundennr.", "Datum", "Artikelnr.", "Menge", "Einzelpreis", "Währung"],
            {
                "external_id": "Auftragsnr.",
                "customer": "Kundennr.",
                "occurred_at": "Datum",
                "product": "Artikelnr.",
                "quantity": "Menge",
                "unit_price": "Einzelpreis",
                "currency": "Währung",
            },
        ),
        (
            "products",
            ["SKU", "Name", "Price"],
            {"external_id": "SKU", "sku": "SKU", "name": "Name", "unit_price": "Price"},
        ),
    ],
)
def test_headers_of_usual_exports_are_matched_in_any_order(
    kind: str, headers: list[str], expected: dict[str, str]
) -> None:
    for order in (headers, headers[::-1]):
        found = fields.match(kind, order)
        assert {field: found.get(field) for field in expected} == expected


def test_every_header_of_the_dictionary_is_folded_and_known_once_per_field() -> None:
    for kind, known in fields.FIELDS.items():
        for field in known.values():
            assert len(set(field.headers)) == len(field.headers), (kind, field.name)
            assert all(fields.fold(header) == header for header in field.headers), (kind, field.name)
    for synonyms in fields.SYNONYMS.values():
        assert all(fields.fold(word) == word for word in synonyms)


def test_every_word_belongs_to_a_field_and_says_one_choice() -> None:
    addresses = set(fields._WORDS["headers"]["addresses"])
    assert addresses < set(fields.FIELDS["customers"])
    for kind, known in fields.FIELDS.items():
        headers, vague = (fields._WORDS[words].get(kind, {}) for words in ("headers", "vague_headers"))
        assert set(known) - addresses <= set(headers) <= set(known), kind
        assert all(known[name].choices for name in vague), kind
    for name, meant in fields._WORDS["choices"].items():
        kind, _, field = name.partition(".")
        assert set(meant) <= set(fields.FIELDS[kind][field].choices), name
        words = " ".join(meant.values()).split()
        assert len(set(words)) == len(words), name


@pytest.mark.parametrize(
    ("said", "decimal", "meant"),
    [
        ("1234.5", ".", "1234.5"),
        ("1,234.50", ".", "1234.50"),
        ("1.234,50", ",", "1234.50"),
        ("1.234", ",", "1234"),
        ("1,5", ",", "1.5"),
        ("€ 1 234,50", ",", "1234.50"),
        ("(12.50)", ".", "-12.50"),
        ("12.50-", ".", "-12.50"),
        ("1'234.50", ".", "1234.50"),
        ("-0.5e3", ".", "-0.5e3"),
        ("nan", ".", None),
        ("inf", ".", None),
        ("1,2,3", ".", None),
        ("12 apples", ".", None),
        ("1.5", ",", "1.5"),
    ],
)
def test_numbers(said: str, decimal: str, meant: str | None) -> None:
    value, wrong = coerce.number_text(pa.array([said, None]), decimal)
    assert value.to_pylist() == [meant, None]
    assert wrong.tolist() == [meant is None, False]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.decimals(min_value=-(10**13), max_value=10**13, places=4) | st.none(), min_size=1, max_size=20))
def test_money_is_exact_in_either_notation(amounts: list[object]) -> None:
    english = pa.array([None if a is None else f"{a:,.4f}" for a in amounts], pa.string())
    german = pa.array(
        [None if a is None else f"{a:,.4f}".replace(",", "x").replace(".", ",").replace("x", ".") for a in amounts],
        pa.string(),
    )
    plain = [None if a is None else f"{a:.4f}" for a in amounts]
    for column, decimal in ((english, "."), (german, ",")):
        value, wrong = coerce.money(column, decimal)
        assert value.to_pylist() == plain
        assert not wrong.any()


def test_money_refuses_what_a_column_cannot_hold() -> None:
    _, wrong = coerce.money(pa.array(["1e20", "99999999999999", "1e999", "12"]))
    assert wrong.tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("said", "formats_", "zone", "meant"),
    [
        ("2026-01-31", [], "UTC", "2026-01-31T00:00:00"),
        ("2026-01-31T10:30:00+02:00", [], "UTC", "2026-01-31T08:30:00"),
        ("2026-01-31 10:30", [], "Europe/Berlin", "2026-01-31T09:30:00"),
        ("31.01.2026", ["%d.%m.%Y"], "UTC", "2026-01-31T00:00:00"),
        ("1/31/2026 2:05 PM", ["%m/%d/%Y %I:%M %p"], "UTC", "2026-01-31T14:05:00"),
        ("2026-02-30", [], "UTC", None),
        ("31.02.2026", ["%d.%m.%Y"], "UTC", None),
        ("1899-01-01", [], "UTC", None),
        ("soon", [], "UTC", None),
        ("02/03/2026", ["%d/%m/%Y", "%m/%d/%Y"], "UTC", None),
        ("02/13/2026", ["%d/%m/%Y", "%m/%d/%Y"], "UTC", "2026-02-13T00:00:00"),
    ],
)
def test_times(said: str, formats_: list[str], zone: str, meant: str | None) -> None:
    value, wrong = coerce.times(pa.array([said, None]), formats_, zone)
    shown = [None if v is None else v.strftime("%Y-%m-%dT%H:%M:%S") for v in value.to_pylist()]
    assert shown == [meant, None]
    assert wrong.tolist() == [meant is None, False]


def test_formats_of_dates_are_guessed_and_doubts_said() -> None:
    found, notes = coerce.guess_formats(pa.array(["31.12.2025", "01.02.2026 10:05"]), day_first_by_default=False)
    assert set(found) == {"%d.%m.%Y", "%d.%m.%Y %H:%M"}
    assert notes == []
    found, notes = coerce.guess_formats(pa.array(["12/31/2025", "31/12/2025"]), day_first_by_default=False)
    assert set(found) == {"%d/%m/%Y", "%m/%d/%Y"}
    assert "mixed" in notes[0]
    found, notes = coerce.guess_formats(pa.array(["01/02/2026"]), day_first_by_default=True)
    assert found == ["%d/%m/%Y"]
    assert "could be read in two ways" in notes[0]


def test_countries_currencies_and_truth_in_several_languages() -> None:
    value, wrong = coerce.country(
        pa.array(["Deutschland", "Allemagne", "Alemania", "DEU", "de", "USA", "Narnia", None])
    )
    assert value.to_pylist() == ["DE"] * 5 + ["US", None, None]
    assert wrong.tolist() == [False] * 6 + [True, False]
    assert coerce.currency(pa.array(["eur", "€", "XXQ"]))[0].to_pylist() == ["EUR", "EUR", None]
    assert coerce.boolean(pa.array(["Ja", "no", "1", "maybe"]))[0].to_pylist() == [True, False, True, None]


def test_joining_keeps_rows_in_which_everything_is_missing() -> None:
    a, b = pa.array(["x", None, "y", None]), pa.array(["1", "2", None, None])
    assert coerce.join([a, b], " ").to_pylist() == ["x 1", "2", "y", ""]


def _prepare(tmp_path: Path, text: str, kind: str = "customers", **recipe: object) -> columns.Prepared:
    path = tmp_path / "f.csv"
    path.write_text(text)
    source = formats.open_file(path)
    settled = columns.plan(source, recipes.from_dict(recipe, kind=kind))
    return columns.prepare(next(iter(source.chunks())), settled.recipe)


def test_templates_constants_values_and_title_case(tmp_path: Path) -> None:
    done = _prepare(
        tmp_path,
        "No,First,Last,Art\n1,JON,YANG,Interessent\n2,,,Kunde\n3,eva,DOE,\n",
        columns={"external_id": "K-{No}", "name": "{First} {Last}", "stage": "art"},
        constants={"stage": "lapsed", "name": "Nobody"},
        values={"stage": {"Interessent": "prospect", "Kunde": "active"}},
        title_case=["name"],
    )
    assert done.values["external_id"].to_pylist() == ["K-1", "K-2", "K-3"]
    assert done.values["name"].to_pylist() == ["Jon Yang", "Nobody", "eva DOE"]
    assert done.values["stage"].to_pylist() == ["prospect", "active", "lapsed"]
    assert done.faults == []


def test_points_in_any_system_row_by_row(tmp_path: Path) -> None:
    done = _prepare(
        tmp_path,
        "id,name,x,y,epsg\n1,a,600000,5200000,EPSG:25832\n2,b,8.5,47.25,4326\n3,c,1,1,EPSG:999999\n",
    )
    lon, lat = pyproj.Transformer.from_crs(25832, 4326, always_xy=True).transform(600000, 5200000)
    assert done.lon[:2] == pytest.approx([lon, 8.5], abs=1e-9)
    assert done.lat[:2] == pytest.approx([lat, 47.25], abs=1e-9)
    assert [(f.row, f.column) for f in done.faults] == [(2, "epsg")]
    done = _prepare(
        tmp_path,
        (
            "id,name,wkt\n1,a,POINT(8.5 47.25)\n2,b,SRID=3857;POINT(946215.67 "
            '5985443)\n3,c,POINT(8)\n4,d,"POLYGON((0 0,1 0,1 1,0 0))"\n'
        ),
    )
    assert done.lon[:2] == pytest.approx([8.5, 8.5], abs=1e-4)
    assert [f.row for f in done.faults] == [2, 3]


def test_ids_that_a_spreadsheet_shortened_are_rejected(tmp_path: Path) -> None:
    done = _prepare(tmp_path, "id,name\n1.23457E+12,a\n0012,b\n")
    assert [(f.row, f.reason[:27]) for f in done.faults] == [(0, "the id was shortened by a s")]


def test_a_recipe_is_saved_and_read_back() -> None:
    recipe = recipes.from_dict(
        {
            "kind": "sales",
            "source": "erp",
            "columns": {"external_id": "Nr"},
            "date_format": ["%d.%m.%Y"],
            "decimal": ",",
            "create_products": True,
        }
    )
    assert recipes.from_yaml(recipe.to_yaml()) == recipe
    assert recipe.date_format == {"*": ["%d.%m.%Y"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: customers\ncolums: {}", "no key “colums”"),
        ("kind: customers\ncolumns: {nam: X}", "no field “nam”"),
        ("kind: cars", "kind must be one of"),
        ("kind: sales\ndecimal: ';'", "must be"),
        ("kind: sales\ndate_format: tomorrow", "no date format"),
        ("kind: sales\ntimezone: Mars", "no time zone"),
        ("kind: sales\ncrs: EPSG:1", "not known"),
        ("kind: sales\ntypes: {amount: number}", "attributes"),
        ("kind: [", "not valid YAML"),
        ("kind: sales\na: &a [x, x]\nignore: [*a, *a]", "aliases"),
        ("- a", "must be a mapping"),
        ("kind: sales\ncreate_products: maybe", "true or false"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_named(text: str, said: str) -> None:
    with pytest.raises(Invalid) as refused:
        recipes.from_yaml(text)
    assert said in refused.value.detail or any(said in fault["detail"] for fault in refused.value.errors)


def test_attributes_become_json() -> None:
    made = coerce.json_object(
        ["a", 'b "x"', "n"],
        [pa.array(['q"\\\n', None]), pa.array(["1", "2"]), pa.array([None, None], pa.string())],
        ["text", "number", "text"],
    )
    import json

    assert [json.loads(row) for row in made.to_pylist()] == [{"a": 'q"\\\n', 'b "x"': 1}, {'b "x"': 2}]
