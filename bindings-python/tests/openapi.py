"""Checks answers against the OpenAPI description of the routes."""

from __future__ import annotations

import re
from typing import Any

import httpx
import jsonschema

from pyagentkey import AgentKey
from pyagentkey.asgi import KeyRoutes

Description = dict[str, Any]


def description_of(options: dict[str, Any]) -> Description:
    """Of routes with these options. Objects are closed: an answer has no member that is not described."""
    client: Any = AgentKey.__new__(AgentKey)
    description = KeyRoutes(client, **{"signup": True, **options}).openapi()
    for schema in description["components"]["schemas"].values():
        schema.setdefault("additionalProperties", False)
    return description


def operation_of(description: Description, method: str, path: str) -> Any:
    path = path.split("?", maxsplit=1)[0].rstrip("/").lower()
    # What is named comes before what is a parameter.
    for template in sorted(description["paths"], key=lambda template: "{" in template):
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            operation = description["paths"][template].get(method.lower())
            if operation is not None:
                return operation
    return None


def check_answer(description: Description, method: str, path: str, response: httpx.Response) -> None:
    operation = operation_of(description, method, path)
    if operation is None:
        assert response.status_code in (404, 405), (method, path)
        return
    described = operation["responses"][str(response.status_code)]
    schema = described["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator({**schema, "components": description["components"]}).validate(response.json())
    for name in described.get("headers", ()):
        assert name in response.headers, (method, path, name)
