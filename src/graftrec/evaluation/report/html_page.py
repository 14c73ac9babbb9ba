"""The frame of the report page: one file, no script, no network, light and dark."""

from __future__ import annotations

from html import escape

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #667085; --line: #e2e5ea; --page: #fbfbfc; --card: #fff;
  --good: #00734f; --bad: #b3261e; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #9aa3b2; --line: #323845; --page: #14171d;
  --card: #1b1f27; --good: #4cc79a; --bad: #ff8a80; --accent: #6cb8e6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 74rem; padding: 2rem 1.25rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem; overflow-wrap: anywhere; }
.soft { color: var(--soft); } h2 .soft { font-weight: 400; }
.verdict { font-size: 1.25rem; font-weight: 600; margin: 1.25rem 0; padding: .9rem 1.1rem; background: var(--card);
  border: 1px solid var(--line); border-left: .35rem solid var(--soft); border-radius: .4rem; overflow-wrap: anywhere; }
.verdict small { display: block; font-size: .95rem; font-weight: 400; color: var(--soft); }
.verdict.helps { border-left-color: var(--good); } .verdict.hurts { border-left-color: var(--bad); }
.helps { color: var(--good); } .hurts { color: var(--bad); } .verdict.helps, .verdict.hurts { color: inherit; }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .4rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .4rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } thead th { color: var(--soft); } tbody th { font-weight: 400; }
th:first-child, td.word, th.word { text-align: left; } tr:last-child > * { border-bottom: 0; }
tr.main > * { font-weight: 650; } abbr { text-decoration: underline dotted; cursor: help; }
.facts th, .facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
.facts th { color: var(--soft); width: 14rem; }
img { display: block; max-width: 100%; height: auto; margin: .75rem 0; padding: .6rem; background: #fff;
  border: 1px solid var(--line); border-radius: .4rem; }
pre { overflow-x: auto; padding: .8rem 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .4rem; font-size: .85rem; } summary { cursor: pointer; color: var(--accent); }
@media print { body { max-width: none; } }
""".strip()


def page(title: str, body: str) -> str:
    """A whole HTML document around a body that is already escaped."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
