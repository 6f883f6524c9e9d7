"""Rules between keys: what a schema says and what the model does are the same, as far as a schema can say it."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ValidationError

from goku_core.changes import FIXED
from goku_core.config import Params
from goku_core.pipeline.rules import rules_of, says_where

# What no schema can say, by the model's own words; docs/team.md has the same list for people.
BEYOND = {
    "SampleCorpus": ("shots_per_video must be", "shot_seconds must be"),
    "Tier": ("is above motion_max",),
    "Request": ("must be at most half of max_clip_seconds",),
    "Checks": ("is above max_words",),
    "Captions": ("merge makes one caption of two", "it would describe what it does not see"),
    "Captioner": ("kind server needs url", "url holds a password", "key_variable is the name"),
    "Models": ("aesthetic.weights is a head",),
    "VaeRequest": ("must be 4k+1",),
    "Resolution": ("must be 4k+1",),
    "Sampling": ("needs 0 <= low < high <= 1",),
    "Model": ("must be an even multiple of heads",),
    "Parallel": ("are no multiple of shard",),
    "TrainRequest": ("is no earlier phase", "letters, digits and underscores"),
    "Data": ("s3://bucket/prefix",),
    "Cost": ("no sample would cost anything",),
}


def models(model: Any, seen: set[type]) -> Iterator[type[BaseModel]]:
    """Every model below an annotation, once."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        if model not in seen:
            seen.add(model)
            yield model
            for field in model.model_fields.values():
                yield from models(field.annotation, seen)
        return
    for inner in typing.get_args(model):
        yield from models(inner, seen)


SEEN: set[type] = set()
ALL = [
    one for name, field in Params.model_fields.items() if name not in FIXED for one in models(field.annotation, SEEN)
]  # of the sections that a run may change
STATED = [model for model in ALL if rules_of(model)]
# Values that fields of rules are given; every one of them means something for some rule.
NUMBERS = [-2, -1, 0, 0.25, 0.5, 1, 2, 3, 10, 16, 64, 100]
WORDS = ["", "vae", "http://127.0.0.1:8000/v1", "weights/x"]
REQUIRED = {"Phase": {"init_from": "vae", "resolution": "low", "steps": 1}}


def values(model: type[BaseModel], name: str) -> st.SearchStrategy[Any]:
    """Values of one field: the choices it has, else numbers, texts or pairs, as its type wants."""
    annotation = model.model_fields[name].annotation
    kinds = set(typing.get_args(annotation)) | {annotation}
    if any(isinstance(one, str) for one in kinds):
        return st.sampled_from([one for one in kinds if isinstance(one, str)])
    if bool in kinds:
        return st.booleans()
    if str in kinds:
        return st.sampled_from(WORDS)
    if typing.get_origin(annotation) is tuple:
        whole = int in kinds
        one = st.sampled_from([n for n in NUMBERS if isinstance(n, int) or not whole])
        return st.tuples(one, one).map(list)
    whole = float not in kinds
    numbers = st.sampled_from([n for n in NUMBERS if isinstance(n, int) or not whole])
    return st.none() | numbers if type(None) in kinds else numbers


@pytest.mark.parametrize("model", STATED, ids=lambda model: f"{model.__module__}.{model.__name__}")
def test_schema_and_model_agree(model: type[BaseModel]) -> None:
    names = sorted({name for rule in rules_of(model) for name in (*rule.when, *rule.then)})
    some = st.fixed_dictionaries({}, optional={name: values(model, name) for name in names})
    schema = Draft202012Validator(model.model_json_schema())
    refused, stated = [], []

    @settings(max_examples=300, deadline=None, database=None, derandomize=True)
    @example({})
    @given(some)
    def agree(given: dict[str, Any]) -> None:
        value = REQUIRED.get(model.__name__, {}) | given
        says = schema.is_valid(value)
        try:
            model.model_validate(value)
        except ValidationError as error:
            refused.append(value)
            beyond = any(words in str(error) for words in BEYOND.get(model.__name__, ()))
            assert beyond or not says, f"the model refuses {value}, its schema does not"
            stated.extend([] if says else [value])
        else:
            assert says, f"the schema refuses {value}, the model does not"

    agree()
    assert 3 <= len(stated) <= len(refused) < 290, "the values miss the rules"


def test_every_rule_of_a_model_is_stated_or_known_to_be_beyond_a_schema() -> None:
    ruled = [model for model in ALL if model.__pydantic_decorators__.model_validators]
    assert len(ruled) > 15
    assert [m.__name__ for m in ruled if not rules_of(m) and m.__name__ not in BEYOND] == []


def test_texts_that_may_lead_somewhere_are_known() -> None:
    """A new key for a folder, a URL or weights is not offered by any form, whether somebody thought of it or not."""
    where = {f"{m.__name__}.{name}" for m in ALL for name, field in m.model_fields.items() if says_where(field)}
    assert {
        "Request.source", "Download.allow_hosts", "Captioner.url", "Captioner.key_variable", "Captioner.model",
        "Captions.templates", "Refine.weights", "VaeRequest.weights", "Perceptual.weights", "Data.source",
        "TextEncoderRequest.weights", "Taxonomy.file", "Checkpointing.remote", "Raft.weights",
    } <= where  # fmt: skip
    assert not where & {"Phase.init_from", "Phase.resolution", "Model.name", "Validation.weights", "Balance.weights"}
