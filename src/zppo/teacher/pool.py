"""Several servers as one: the least busy is asked, one that keeps failing is left alone.

A circuit breaker per endpoint: after `threshold` failures in a row it opens, nothing is sent for a
cool-down, then a single request probes (half-open). Its success closes the circuit, its failure
doubles the cool-down.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from zppo.config import EndpointConfig

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a circuit opens and for how long, in seconds."""

    threshold: int = 5
    cooldown: float = 1.0
    longest: float = 30.0


RULES = BreakerRules()


@dataclass(eq=False, slots=True)
class Endpoint:
    """A server and what we have learnt about it. Times are those of `time.monotonic`."""

    config: EndpointConfig
    active: int = 0
    served: int = 0
    #: Whether it gives several samples a request; None until one was asked for.
    multiple: bool | None = None
    #: False once it refused a JSON schema for the reply.
    takes_schema: bool = True
    failures: int = 0  # in a row
    opened: int = 0  # cool-downs in a row; 0: the circuit is closed
    open_until: float = 0.0
    probing: bool = False
    paused_until: float = 0.0  # it said that we ask too often

    @property
    def is_open(self) -> bool:
        return self.opened > 0

    def ready_at(self) -> float | None:
        """When it takes a request; None: not before one of its requests returns."""
        if self.is_open:
            return None if self.probing else max(self.open_until, self.paused_until)
        return None if self.active >= self.config.concurrency else self.paused_until


@dataclass(frozen=True, slots=True, eq=False)
class Lease:
    """The right to send one request. `era` is 0 with a closed circuit, else the probe's number."""

    endpoint: Endpoint
    era: int


@dataclass(eq=False, slots=True)
class _Waiter:
    future: asyncio.Future[Lease | None]
    avoid: Collection[Endpoint] = field(default=())


class Pool:
    """Hands out leases in the order of asking. Belongs to one event loop."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        max_outage_s: float,
        rules: BreakerRules = RULES,
    ) -> None:
        self.endpoints, self.rules, self.max_outage_s = endpoints, rules, max_outage_s
        self._waiting: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._down_since: float | None = None
        for endpoint in endpoints:
            # A loop that broke off may have left some.
            endpoint.active, endpoint.probing = 0, False
        self._note_outage()

    async def acquire(self, avoid: Collection[Endpoint] = ()) -> Lease | None:
        """The right to one request, as soon as an endpoint has room; one of `avoid` only when no
        other has. None when none has answered for `max_outage_s`.

        Every lease must come back, by one of the methods below.
        """
        waiter = _Waiter(asyncio.get_running_loop().create_future(), avoid)
        self._waiting.append(waiter)
        self._serve()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled():
                if lease := waiter.future.result():
                    self.give_back(lease)
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
            raise

    def give_back(self, lease: Lease) -> None:
        """Return a lease whose request was broken off on our side."""
        self._return(lease)
        self._serve()

    def succeeded(self, lease: Lease) -> None:
        """It gave what it was asked for."""
        lease.endpoint.served += 1
        self.alive(lease)

    def alive(self, lease: Lease, pause: float = 0.0) -> None:
        """It answered, whatever came before and whatever it said. `pause`: seconds that it asked
        to be left alone."""
        endpoint = lease.endpoint
        if endpoint.is_open:
            _log.info("teacher %s answers again", endpoint.config.url)
        endpoint.failures = endpoint.opened = 0
        self._return(lease, pause)
        self._serve()

    def failed(self, lease: Lease, pause: float = 0.0) -> None:
        """It is to blame. What was sent before its circuit opened does not count."""
        endpoint = lease.endpoint
        if lease.era == endpoint.opened:
            endpoint.failures += 1
            if endpoint.is_open or endpoint.failures >= self.rules.threshold:
                self._open(endpoint)
        self._return(lease, pause)
        self._serve()

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- inside ----------------------------------------------------------------------------------

    def _return(self, lease: Lease, pause: float = 0.0) -> None:
        endpoint = lease.endpoint
        endpoint.active -= 1
        if lease.era:
            endpoint.probing = False
        if pause > 0.0:
            endpoint.paused_until = max(endpoint.paused_until, time.monotonic() + pause)

    def _open(self, endpoint: Endpoint) -> None:
        wait = min(self.rules.longest, self.rules.cooldown * 2**endpoint.opened)
        if not endpoint.is_open:
            _log.warning("teacher %s fails; left alone for %.1f s", endpoint.config.url, wait)
        endpoint.opened += 1
        endpoint.open_until = time.monotonic() + wait

    def _serve(self) -> None:
        """Give leases to those who wait, and see to it that this is called again in time."""
        self._note_outage()
        now = time.monotonic()
        while self._waiting:
            free = [e for e in self.endpoints if (at := e.ready_at()) is not None and at <= now]
            if not free:
                break
            waiter = self._waiting.popleft()
            if waiter.future.done():  # cancelled
                continue
            preferred = [e for e in free if e not in waiter.avoid] or free
            endpoint = min(preferred, key=lambda e: (e.active + 1) / e.config.concurrency)
            endpoint.active += 1
            endpoint.probing = endpoint.is_open
            waiter.future.set_result(Lease(endpoint, endpoint.opened))
        if self._given_up(now):
            while self._waiting:
                future = self._waiting.popleft().future
                if not future.done():
                    future.set_result(None)
        self._set_timer(now)

    def _note_outage(self) -> None:
        if not all(e.is_open for e in self.endpoints):
            self._down_since = None
        elif self._down_since is None:
            self._down_since = time.monotonic()

    def _given_up(self, now: float) -> bool:
        return self._down_since is not None and now >= self._down_since + self.max_outage_s

    def _set_timer(self, now: float) -> None:
        self.close()
        if not self._waiting:
            return
        times = [at for e in self.endpoints if (at := e.ready_at()) is not None]
        if self._down_since is not None:
            times.append(self._down_since + self.max_outage_s)
        if times:
            delay = max(0.001, min(times) - now)
            self._timer = asyncio.get_running_loop().call_later(delay, self._serve)
