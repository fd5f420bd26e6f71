import re
from pathlib import Path

from selftrain.config import EXPECTATIONS, OBJECT_EXPECTATIONS, Checks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


def test_the_page_lists_every_expectation_with_its_severity() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (stop|warn) \|$", PAGE.read_text(), flags=re.MULTILINE)
    assert dict(rows) == {**EXPECTATIONS, **OBJECT_EXPECTATIONS}


def test_a_configured_severity_takes_the_place_of_the_expectations_own() -> None:
    severities = Checks(severity={"class_balance": "warn"}).severities
    assert severities == {**EXPECTATIONS, **OBJECT_EXPECTATIONS, "class_balance": "warn"}
    assert Checks().severities == {**EXPECTATIONS, **OBJECT_EXPECTATIONS}
