"""The validation page: one HTML file that needs no network; Great Expectations' own page loads scripts from a CDN."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selftrain.report.validation import ValidationReport

_TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ heading }}</title>
<style>
  :root { color-scheme: light dark; --ink: #1d2430; --quiet: #5b6573; --paper: #fff; --line: #dde2e8; --tint: #f5f7f9;
          --good: #1a7f4b; --warn: #9a5b00; --bad: #c02626; }
  @media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --quiet: #9aa5b3; --paper: #14181e; --line: #2c343f;
          --tint: #1b2129; --good: #4cc38a; --warn: #e0a23c; --bad: #ff7b72; } }
  body { margin: 0 auto; max-width: 68rem; padding: 2rem 1.5rem 4rem; background: var(--paper); color: var(--ink);
         font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
  h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; text-wrap: balance; }
  h2 { font-size: 1.1rem; margin: 2.5rem 0 .75rem; }
  .good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
  .facts { color: var(--quiet); margin: 0; overflow-wrap: anywhere; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; width: 100%; }
  table.counts { width: auto; } table.counts th, table.counts td { padding-right: 2.5rem; }
  th { white-space: nowrap; text-align: left; font-weight: 600; color: var(--quiet); font-size: .85rem; }
  th, td { padding: .5rem 1rem .5rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
  td.mark { width: 6.5rem; font-weight: 600; white-space: nowrap; }
  td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
  code { font: .9em ui-monospace, "SF Mono", Consolas, monospace; }
  .missed { background: var(--tint); border-left: 4px solid; padding: .9rem 1.1rem; margin: .75rem 0; }
  .missed h3 { margin: 0; font-size: 1rem; } .missed p { margin: .35rem 0 0; color: var(--ink); }
  .missed ul { margin: .35rem 0 0; padding-left: 1.2rem; color: var(--ink); overflow-wrap: anywhere; }
</style>
<h1 class="{{ tone }}">{{ heading }}</h1>
<p class="facts">{{ "{:,}".format(r.images) }} images, {{ "{:,}".format(r.unlabeled) }} of them unlabelled;
{{ "{:.1%}".format(r.quarantine_share) }} of the source files in quarantine. {% if r.manifest_digest -%}
Manifest <code title="{{ r.manifest_digest }}">{{ r.manifest_digest[:16] }}</code>{% endif %}</p>
{% for x in missed %}
<section class="missed {{ 'bad' if x.severity == 'stop' else 'warn' }}">
  <h3><code>{{ x.expectation }}</code> {{ "stops the run" if x.severity == "stop" else "warns" }}</h3>
  <p>Found {{ x.observed }}; allowed is {{ x.allowed }}.</p>
  {% if x.rows %}<ul>{% for row in x.rows %}<li>{{ row }}</li>{% endfor %}
  {% if x.unexpected > x.rows|length %}<li>and {{ "{:,}".format(x.unexpected - x.rows|length) }} more</li>{% endif %}
  </ul>{% endif %}
  <p><strong>What to do.</strong> {{ x.advice }}</p>
</section>
{% endfor %}
<h2>All expectations</h2>
<div class="scroll"><table>
<tr><th>Result<th>Expectation<th>If missed<th>Allowed<th>Found</tr>
{% for x in r.results %}
<tr><td class="mark {{ tones[loop.index0] }}">{{ marks[loop.index0] }}<td><code>{{ x.expectation }}</code>
<td>{{ x.severity }}<td>{{ x.allowed }}<td>{{ x.observed }}</tr>
{% endfor %}
</table></div>
{% if splits %}
<h2>Human labels by class and split</h2>
<div class="scroll"><table class="counts">
<tr><th>Class{% for split in splits %}<th class="number">{{ split }}{% endfor %}</tr>
{% for name, counts in classes.items() %}
<tr><td>{{ name }}{% for split in splits %}<td class="number">{{ "{:,}".format(counts[split]) }}{% endfor %}</tr>
{% endfor %}
<tr><th>All{% for split in splits %}<th class="number">{{ "{:,}".format(totals[split]) }}{% endfor %}</tr>
</table></div>
{% endif %}
</html>
"""


def page(report: ValidationReport) -> str:
    """The report as one HTML page. Every text from the data is escaped."""
    from jinja2 import Environment

    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_TEMPLATE)
    missed = [result for result in report.results if not result.success]
    heading, tone = _heading(report)
    splits = list(dict.fromkeys(count.split for count in report.classes))
    classes: dict[str, dict[str, int]] = {}
    for count in report.classes:
        classes.setdefault(count.class_name, {})[count.split] = count.images
    return template.render(
        r=report,
        heading=heading,
        tone=tone,
        missed=sorted(missed, key=lambda result: result.severity != "stop"),
        marks=["passed" if result.success else "missed" for result in report.results],
        tones=[_tone(result.success, result.severity) for result in report.results],
        splits=splits,
        classes=classes,
        totals={split: sum(counts[split] for counts in classes.values()) for split in splits},
    )


def _heading(report: ValidationReport) -> tuple[str, str]:
    missed = sum(not result.success for result in report.results)
    of = f"{missed} of {len(report.results)} expectations"
    if not report.passed:
        return f"The data misses {of}: the run stops before training", "bad"
    if missed:
        return f"The data passed, with {missed} warning{'s' if missed > 1 else ''}", "warn"
    return f"The data meets all {len(report.results)} expectations", "good"


def _tone(success: bool, severity: str) -> str:
    return "good" if success else "bad" if severity == "stop" else "warn"
