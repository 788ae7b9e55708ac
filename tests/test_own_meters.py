"""Meters of the user's own: where they are defined, what is refused, who knows them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from llm_metering import Meter
from llm_metering.errors import ConfigurationError, MeterError, QueryError
from llm_metering.meters import METERS, PRICED_METERS, MeterDefinition
from llm_metering.settings import CONFIG_VARIABLE, load_settings

IMAGES = MeterDefinition(
    slug="images_total",
    value_property="$.quantity",
    group_by={"unit": "$.unit"},
    estimates=False,
    description="Images",
)
FILE = """
[meters.images_total]
value_property = "$.quantity"
group_by = { unit = "$.unit" }
estimates = false
description = "Images"

[meters.longest_answer]
event_type = "com.example.answer"
aggregation = "MAX"
value_property = "$['length of'][0]"
group_by = ["unit", "model"]

[meters.answers]
aggregation = "COUNT"
"""


@pytest.fixture
def write_file(tmp_path, monkeypatch):
    """Write the file with the settings."""
    path = tmp_path / "llm-metering.toml"
    monkeypatch.setenv(CONFIG_VARIABLE, str(path))

    def write(text):
        path.write_text(text)
        return path

    return write


def test_the_file_defines_meters(write_file):
    """What is left out has its default; a list of keys stands for their paths."""
    path = write_file(FILE)

    settings = load_settings(home="/srv")

    assert settings.own_meters == (
        IMAGES,
        MeterDefinition(
            slug="longest_answer",
            event_type="com.example.answer",
            aggregation="MAX",
            value_property="$['length of'][0]",
            group_by={"unit": "$.unit", "model": "$.model"},
        ),
        MeterDefinition(slug="answers", aggregation="COUNT"),
    )
    assert settings.own_meters[0].event_type == "llm.usage"
    assert settings.own_meters[1].group_by == {"unit": "$.unit", "model": "$.model"}
    assert settings.origins["meters"] == f"file {path}"


def test_the_built_in_meters_are_there_too(write_file):
    """All meters by slug, the built-in ones first; nothing has to be defined."""
    write_file(FILE)

    meters = load_settings(home="/srv").meters

    assert list(meters) == [*METERS, *PRICED_METERS, "images_total", "longest_answer", "answers"]
    assert meters["tokens_total"] is METERS["tokens_total"]
    assert load_settings(home="/srv", meters=()).meters == {**METERS, **PRICED_METERS}


@pytest.mark.parametrize(
    "given",
    [
        pytest.param([IMAGES], id="definition"),
        pytest.param(
            [
                {
                    "slug": "images_total",
                    "value_property": "$.quantity",
                    "group_by": ["unit"],
                    "estimates": False,
                    "description": "Images",
                }
            ],
            id="dict",
        ),
        pytest.param(
            {
                "images_total": {
                    "value_property": "$.quantity",
                    "group_by": {"unit": "$.unit"},
                    "estimates": False,
                    "description": "Images",
                }
            },
            id="tables by slug",
        ),
        pytest.param((meter for meter in [IMAGES]), id="generator"),
        pytest.param(
            [
                {
                    "slug": "images_total",
                    "value_property": "$.quantity",
                    "group_by": (key for key in ["unit"]),
                    "estimates": False,
                    "description": "Images",
                }
            ],
            id="generator of keys",
        ),
    ],
)
def test_code_defines_meters(given, write_file):
    """An argument stands in place of what the file says, as with every setting."""
    write_file(FILE)

    settings = load_settings(home="/srv", meters=given)

    assert settings.own_meters == (IMAGES,)
    assert dict(settings.own_meters[0].group_by) == {"unit": "$.unit"}
    assert settings.origins["meters"] == "argument"


def test_settings_show_the_slugs(write_file):
    """`llm-metering config` names the user's own meters and the file they stand in."""
    path = write_file(FILE)

    assert load_settings(home="/srv").describe()[-1] == (
        "meters",
        ("images_total", "longest_answer", "answers"),
        f"file {path}",
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        pytest.param(
            '[meters.tokens_total]\nvalue_property = "$.x"',
            "meter tokens_total: it is built in; choose another slug",
            id="built in",
        ),
        pytest.param(
            '[meters.Images]\nvalue_property = "$.x"',
            "slug 'Images' is not made of at most 64 lower-case letters",
            id="slug",
        ),
        pytest.param(
            '[meters.images]\nvalue = "$.x"',
            "meter images: there is no 'value'; there are event_type, aggregation, value_property, "
            "group_by, estimates, description",
            id="unknown key",
        ),
        pytest.param(
            '[meters.images]\nslug = "images"\nvalue_property = "$.x"',
            "meter images: there is no 'slug'; there are event_type",
            id="slug twice",
        ),
        pytest.param(
            '[meters.images]\naggregation = "sum"\nvalue_property = "$.x"',
            "meter images: unknown aggregation 'sum'; there are SUM, COUNT, UNIQUE_COUNT",
            id="aggregation",
        ),
        pytest.param(
            '[meters.images]\ngroup_by = ["unit"]',
            "meter images: SUM needs a value_property",
            id="no property",
        ),
        pytest.param(
            '[meters.images]\naggregation = "COUNT"\nvalue_property = "$.x"',
            "meter images: COUNT takes no value_property",
            id="property of a count",
        ),
        pytest.param(
            '[meters.images]\nvalue_property = "quantity"',
            "meter images: 'quantity' is no JSONPath of one place in an event's data; write it",
            id="path",
        ),
        pytest.param(
            '[meters.images]\nvalue_property = "$.x"\ngroup_by = { unit = "unit" }',
            "meter images: 'unit' is no JSONPath",
            id="path of a key",
        ),
        pytest.param(
            '[meters.images]\nvalue_property = "$.x"\ngroup_by = ["a-b"]',
            "meter images: 'a-b' cannot be a key of group_by",
            id="key",
        ),
        pytest.param(
            '[meters.images]\nvalue_property = "$.x"\ngroup_by = "unit"',
            "meter images: a list of keys, or a table of JSONPaths by key, is wanted for group_by, "
            "got 'unit'",
            id="keys in a string",
        ),
        pytest.param(
            '[meters.images]\nvalue_property = "$.x"\ngroup_by = { unit = 1 }',
            "meter images: a list of keys, .* got {'unit': 1}",
            id="a number for a path",
        ),
        pytest.param(
            '[meters.images]\nvalue_property = "$.x"\ngroup_by = ["x"]',
            r"meter images: key 'x' of group_by is its value_property \$\.x",
            id="grouped by its value",
        ),
        pytest.param(
            '[meters.images]\nvalue_property = "$.x"\nestimates = "no"',
            "meter images: true or false is wanted for estimates, got 'no'",
            id="estimates",
        ),
        pytest.param(
            '[meters.images]\nvalue_property = "$.x"\nestimates = false\n'
            'group_by = { provenance = "$.y" }',
            r"meter images: .*'provenance' of group_by is \$\.provenance, got '\$\.y'",
            id="another provenance",
        ),
        pytest.param(
            '[meters.images]\nvalue_property = "$.x"\nevent_type = "llm usage"',
            "meter images: a CloudEvents type is wanted: .*, got 'llm usage'",
            id="event type",
        ),
        pytest.param(
            "[meters.images]\nvalue_property = 3",
            "meter images: a string is wanted for value_property, got 3",
            id="a number",
        ),
        pytest.param(
            f'[meters.images]\naggregation = "COUNT"\ndescription = "{"x" * 1025}"',
            "meter images: at most 1024 characters are wanted for description, got 1025",
            id="description",
        ),
        pytest.param(
            'meters = { images = "$.x" }',
            r"meter images: a table is wanted, .*got '\$\.x'",
            id="text",
        ),
        pytest.param('meters = ["images"]', "tables by slug, .* got 'images'", id="list of texts"),
        pytest.param('meters = "images"', "tables by slug, .* got 'images'", id="no tables"),
        pytest.param(
            '[[meters]]\nslug = "a"\naggregation = "COUNT"\n'
            '[[meters]]\nslug = "a"\naggregation = "COUNT"',
            "meter a: it is there twice",
            id="twice",
        ),
        pytest.param(
            '[meters.images]\nvalue_property = ""',
            "meter images: '' is no JSONPath of one place",
            id="empty path",
        ),
        pytest.param(
            '[meters.images]\nvalue_property = "$.x"\ngroup_by = { a = "" }',
            "meter images: '' is no JSONPath of one place",
            id="empty path of a key",
        ),
        pytest.param("[[meters]]\nslug = 3", "a slug is a string, got 3", id="number for a slug"),
    ],
)
def test_a_definition_that_cannot_be_used_is_refused(table, message, write_file):
    """The error names the setting, the meter, the value, what there is, and the file."""
    path = write_file(table)

    with pytest.raises(
        ConfigurationError,
        match=rf"^meters: (.|\n)*{message}(.|\n)*\(file {re.escape(str(path))}\)$",
    ) as caught:
        load_settings(home="/srv")

    assert caught.value.setting == "meters"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"slug": 5}, "a string is wanted for slug, got 5", id="slug"),
        pytest.param({"event_type": None}, "a string is wanted for event_type", id="event type"),
        pytest.param({"value_property": 5}, "a string or None is wanted for value", id="value"),
        pytest.param({"group_by": ["unit"]}, "JSONPaths by key is wanted", id="list of keys"),
        pytest.param({"group_by": {"unit": 5}}, "JSONPaths by key is wanted", id="path"),
        pytest.param({"estimates": "no"}, "True or False is wanted for estimates", id="estimates"),
        pytest.param({"description": None}, "a string is wanted for description", id="description"),
    ],
)
def test_a_definition_in_code_is_checked(changes, message):
    """A value of another type is one error of ours: `"no"` would have let estimates count."""
    with pytest.raises(MeterError, match=message):
        replace(IMAGES, **changes)


def test_no_variable_holds_meters(monkeypatch):
    """A variable that looks like it is passed over like any that is no setting."""
    monkeypatch.setenv("LLM_METERING_METERS", "images")

    assert load_settings(home="/srv").own_meters == ()


def test_a_question_names_own_meters(home):
    """Where there is no such meter, the error lists the user's own after the built-in ones."""
    with (
        Meter(home=home, sinks=(), meters=[IMAGES]) as meter,
        pytest.raises(
            QueryError,
            match=r"unknown meter 'images'; .*calls_total, cost_total, credits_total, images_total$",
        ),
    ):
        meter.usage("images")


def test_a_meter_without_estimates_can_be_asked_on_openmeter():
    """OpenMeter has no such meters: its body has the key that tells estimates apart."""
    assert IMAGES.to_dict()["groupBy"] == {"unit": "$.unit", "provenance": "$.provenance"}
    assert MeterDefinition(slug="n", aggregation="COUNT").to_dict()["groupBy"] == {}


def test_usage_takes_own_meters(home):
    """A slug of the setting is a meter like any other; one that is in none is handed over itself."""
    with Meter(home=home, sinks=(), meters=[IMAGES]) as meter:
        meter.record(quantity=3, unit="images", subject="acme")
        meter.record(quantity=2.5, unit="gpu_seconds", subject="acme")

        report = meter.usage("images_total", group_by=["subject", "unit"])
        passed = meter.usage(
            MeterDefinition(slug="most", aggregation="MAX", value_property="$.quantity")
        )

    assert report.query.meter is IMAGES
    assert [(row.subject, row.group_by["unit"], row.value) for row in report] == [
        ("acme", "gpu_seconds", 2.5),
        ("acme", "images", 3),
    ]
    assert [row.value for row in passed] == [3]
