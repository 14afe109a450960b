"""Keys of the servers: from the environment alone, and in nothing that is written or shown."""

from __future__ import annotations

import os
from collections.abc import Sequence

from zppo.config import EndpointConfig
from zppo.errors import TeacherError


def read_key(endpoint: EndpointConfig) -> str | None:
    """The endpoint's key. Raises `TeacherError` when the environment does not hold it."""
    if endpoint.api_key_env is None:
        return None
    key = os.environ.get(endpoint.api_key_env, "").strip()
    if not key:
        raise TeacherError(
            f"The environment variable {endpoint.api_key_env} is not set, which should hold the "
            f"key for {endpoint.url} (teacher.endpoints.api_key_env)."
        )
    return key


def advice(status: int, endpoint: EndpointConfig) -> str:
    """What to look at when a server refuses with `status`."""
    if status in (401, 403):
        return (
            ". Set endpoints.api_key_env to the environment variable with its key."
            if endpoint.api_key_env is None
            else f". Is the key in {endpoint.api_key_env} right?"
        )
    if status == 404:
        return ". Is the model's name right, and does the url end in /v1?"
    return ". teacher.token_limit_field, send_seed and temperature=null change what is sent."


def short(text: str, secrets: Sequence[str], limit: int = 200) -> str:
    """What a server said, fit for a message: one line, no key."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return " ".join(text.split())[:limit]
