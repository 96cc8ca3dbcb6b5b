"""The page of the API's documentation: plain HTML made of the OpenAPI description. It loads nothing."""

from html import escape
from typing import Any

_STYLE = """
html { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
section { border-top: 1px solid #8888; padding: .5rem 0 1rem }
code { font-family: ui-monospace, monospace } h2 code:first-child { opacity: .6 }
table { border-collapse: collapse; width: 100% }
td { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top }
"""


def page_of(description: dict[str, Any]) -> str:
    """One page about all paths of an OpenAPI description."""
    schemas = description.get("components", {}).get("schemas", {})
    sections = [
        _section(method.upper(), path, operation, schemas)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    info = description["info"]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f"<style>{_STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info.get('description', ''))} The same for programs: <a href='openapi.json'>openapi.json</a>.</p>"
        + "".join(sections)
    )


def _section(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    parts = [f"<section><h2><code>{method}</code> <code>{escape(path)}</code></h2>"]
    parts.append(f"<p>{escape(operation.get('description', ''))}</p>")
    if parameters := operation.get("parameters"):
        rows = [(each["name"], "in the address", each.get("description", "")) for each in parameters]
        parts.append(_table("Parameters", rows))
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(_table(f"Body: {kind}", _fields(content["schema"], schemas)))
    for status, response in operation.get("responses", {}).items():
        content = response.get("content", {}).get("application/json")
        fields = _fields(content["schema"], schemas) if content and status.startswith("2") else []
        if fields:
            parts.append(_table(f"Answer {status}", fields))
    wrong = ", ".join(status for status in operation.get("responses", {}) if not status.startswith("2"))
    return (
        "".join(parts)
        + f"<p>Refusals: {escape(wrong)}, each with <code>error</code> and <code>detail</code>.</p></section>"
    )


def _fields(schema: dict[str, Any], schemas: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Name, type and description of the fields of an object; those of the objects of a list too."""
    schema = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
    rows = []
    for name, field in schema.get("properties", {}).items():
        kinds = [each.get("type", "") for each in field.get("anyOf", [field])]
        rows.append((name, " or ".join(filter(None, kinds)), field.get("description", "")))
        inner = _fields(field.get("items", {}), schemas) if field.get("type") == "array" else []
        rows += [(f"{name}[].{own}", kind, says) for own, kind, says in inner]
    return rows


def _table(title: str, rows: list[tuple[str, str, str]]) -> str:
    cells = "".join(f"<tr><td><code>{escape(a)}</code><td>{escape(b)}<td>{escape(c)}" for a, b, c in rows)
    return f"<h3>{escape(title)}</h3><table>{cells}</table>"
