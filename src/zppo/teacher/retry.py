"""What went wrong with a request, what it says about the server, and how long to wait."""

from __future__ import annotations

import importlib
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import openai

#: The client's HTTP library, whose errors come up while a reply is read: httpx before openai 3,
#: httpx2 since.
_HTTP = importlib.import_module(
    openai.DefaultAsyncHttpxClient.__bases__[0].__module__.split(".")[0]
)
#: The servers' words for "you have no money left", which look like a rate limit.
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached")
_RETRIED_STATUS = (401, 403, 404, 408, 409, 425)


class Unusable(Exception):
    """An answer of status 200 that holds nothing to use. `reason` names what is wrong with it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Trouble:
    """One failed request.

    reason      what the records call it.
    again       whether another attempt could go better.
    blame       whether it speaks against the server, and not against this one request.
    wait        seconds that the server asked for, None if it did not.
    too_many    whether the server said that we ask too often.
    """

    reason: str
    again: bool = True
    blame: bool = True
    wait: float | None = None
    too_many: bool = False


@dataclass(frozen=True, slots=True)
class Patience:
    """Waiting times in seconds: exponential backoff with jitter, and what a server may ask for."""

    base: float = 0.5
    longest: float = 30.0
    longest_asked: float = 120.0

    def backoff(self, attempt: int, rng: random.Random) -> float:
        """Before attempt number `attempt` + 1; half of it is luck, so that clients spread out."""
        return min(self.longest, self.base * 2 ** (attempt - 1)) * rng.uniform(0.5, 1.0)

    def asked(self, trouble: Trouble, attempt: int, rng: random.Random) -> float:
        """How long a server is left alone that says that we ask too often."""
        if trouble.wait is not None:
            return min(trouble.wait, self.longest_asked)
        return self.backoff(attempt, rng)


#: What a teacher has unless a test is in a hurry.
PATIENCE = Patience()


def diagnose(error: Exception) -> Trouble:
    """What a request's error means. Raises `error` itself where it is none of the network's."""
    match error:
        case Unusable():
            # An empty answer may be this question's fault; an unreadable one is the server's.
            return Trouble(error.reason, blame=error.reason != "empty")
        case TimeoutError() | openai.APITimeoutError() | _HTTP.TimeoutException():
            return Trouble("timeout")
        case openai.APIStatusError():
            return _status(error)
        case openai.APIConnectionError() | _HTTP.TransportError():
            return Trouble("connection")
        case openai.APIError() | _HTTP.RequestError() | UnicodeError():
            return Trouble("malformed")
        case _:
            raise error


def _status(error: openai.APIStatusError) -> Trouble:
    status = error.status_code
    reason = f"http_{status}"
    wait = retry_after(error.response.headers.get("retry-after"))
    if status == 429:
        if error.code in _QUOTA:
            return Trouble("quota")
        return Trouble(reason, blame=False, wait=wait, too_many=True)
    if status >= 500:
        return Trouble(reason, wait=wait)
    # A wrong key or name is wrong on this server; another one may know it.
    return Trouble(reason, again=True) if status in _RETRIED_STATUS else _refused(reason)


def _refused(reason: str) -> Trouble:
    return Trouble(reason, again=False, blame=False)


def retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, a number or a date; None for none and for nonsense."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return None
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        seconds = (when - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if seconds < float("inf") else None
