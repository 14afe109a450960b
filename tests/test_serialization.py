from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zppo.errors import DataError
from zppo.serialization import question_from_dict, question_to_dict
from zppo.types import Media, Question

text = st.text(max_size=20)
media = st.builds(
    Media,
    st.sampled_from(["image", "video"]),
    st.lists(text | st.binary(max_size=20), min_size=1, max_size=3).map(tuple),
    st.none() | st.floats(0.1, 60),
)
questions = st.builds(
    Question,
    id=text,
    text=text,
    answer=text,
    kind=st.sampled_from(["short", "free"]),
    options=st.none() | st.lists(text, max_size=4).map(tuple),
    media=st.lists(media, max_size=2).map(tuple),
    reference=st.none() | text,
    source=text,
)


@given(questions)
def test_round_trip_through_json_is_exact(question):
    assert question_from_dict(json.loads(json.dumps(question_to_dict(question)))) == question


def test_fields_with_a_default_may_be_missing():
    row = {"id": "1", "text": "t", "answer": "a"}
    assert question_from_dict(row) == Question("1", "t", "a")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"id": 3}, "`id`"),
        ({"text": None}, "`text`"),
        ({"kind": "long"}, "long"),
        ({"options": "abc"}, "`options`"),
        ({"options": [1]}, "`options`"),
        ({"reference": 3}, "`reference`"),
        ({"source": None}, "`source`"),
        ({"media": {}}, "`media`"),
        ({"media": [3]}, "media"),
        ({"media": [{"kind": "sound", "parts": []}]}, "media.*sound"),
        ({"media": [{"kind": "image", "parts": [{"base64": "?"}]}]}, "media.*base64"),
        ({"media": [{"kind": "image", "parts": ["a.png"]}]}, "media"),
        ({"anwser": "a"}, "anwser"),
    ],
)
def test_what_cannot_be_read_is_named(change, name):
    row = question_to_dict(Question("1", "t", "a")) | change
    with pytest.raises(DataError, match=name):
        question_from_dict(row)
