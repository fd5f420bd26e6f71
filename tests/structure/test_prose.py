"""The prose of pages, docstrings and messages: short sentences, in a native speaker's words."""

from pathlib import Path

import pytest

from benchmarks import prose


@pytest.mark.parametrize("page", prose.pages(), ids=lambda page: page.relative_to(prose.ROOT).as_posix())
def test_the_sentences_of_a_page_are_short(page: Path) -> None:
    median, p90 = prose.figures(prose.read(page))
    assert median <= prose.MEDIAN
    assert p90 <= prose.P90


def test_the_sentences_of_docstrings_and_messages_are_short() -> None:
    median, p90 = prose.figures([sentence for path in prose.modules() for sentence in prose.read(path)])
    assert median <= prose.MEDIAN
    assert p90 <= prose.P90


def test_nothing_is_said_as_no_native_speaker_would_say_it() -> None:
    said = [(path.name, each) for path in [*prose.pages(), *prose.modules()] for each in prose.read(path)]
    assert not [(name, sentence) for name, sentence in said if prose.FOREIGN.search(sentence)]


def test_a_sentence_ends_where_a_reader_ends_it() -> None:
    text = (
        "One sentence of five words. Another (see `a.b.c`), with\na figure of 0.5 %, goes on.\n\n"
        "- a bullet that stands alone\n"
    )
    sentences = list(prose.markdown_sentences(text))
    assert [prose.words(each) for each in sentences] == [5, 10, 5]
    assert prose.figures(sentences) == (5.0, pytest.approx(9.0))


def test_what_is_no_prose_is_not_counted() -> None:
    text = (
        "# A heading of many words here\n\n    code that is indented\n\n| a | table row here |\n\n"
        "```\nfenced code here\n```\n"
    )
    assert list(prose.markdown_sentences(text)) == []


def test_the_words_of_a_message_are_found_in_its_raise() -> None:
    source = 'def f(x):\n    """Do it well and soon."""\n    raise ValueError(f"{x!r} is no file; give another one")\n'
    assert list(prose.docstring_sentences(source)) == ["Do it well and soon."]
    (message,) = prose.message_sentences(source)
    assert message == "X is no file; give another one"
    assert prose.FOREIGN.search(message)
    assert not prose.FOREIGN.search("there is no file")
