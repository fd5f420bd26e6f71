"""The sentence of each event."""

from typing import get_args

import pytest

from selftrain.adapters.notices.message import payload, sentence
from selftrain.config.production import Event


@pytest.mark.parametrize("event", get_args(Event))
def test_every_event_is_one_line_of_its_own(event: Event) -> None:
    others = {sentence(other, {"version": 2}) for other in get_args(Event) if other != event}
    assert sentence(event, {"version": 2}) not in others
    assert "\n" not in sentence(event, {"reason": "two\nlines"})


def test_facts_that_are_unknown_stay_out_of_the_sentence_only() -> None:
    sent = payload("failed", {"run": "abc", "version": None})
    assert sent["text"] == "selftrain: a run failed (run=abc)"
    assert sent["facts"] == {"run": "abc", "version": None}
