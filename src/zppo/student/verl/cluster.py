"""Ray, verl's workers and its rollout servers: started, called with a deadline, stopped."""

# pyright: reportMissingImports=false
from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from zppo.config_verl import VerlConfig
from zppo.errors import EngineError

T = TypeVar("T")

#: The role of verl's fused worker: it trains, and holds the rollout server's end of a weight sync.
_ROLE = "actor_rollout"


class VerlCluster:
    """Trainer ranks and rollout servers on the same GPUs, taking turns.

    `tree` is verl's resolved config. Every call that goes to all ranks has a deadline, and what
    goes wrong on them is an `EngineError`: a cluster with a rank missing cannot go on.
    """

    def __init__(self, tree: Any, options: VerlConfig) -> None:
        self.tree, self.options = tree, options
        self._started_ray = self._join_ray()
        try:
            self.workers = self.call_now("start the workers", self._start_workers)
            self.servers = self.call_now("start the rollout servers", self._start_servers)
            self.weights = self._weight_manager()
            self.client = self.servers.get_client()
            self.call_now("put the servers to sleep", self.weights.sleep_replicas)
        except BaseException:
            self.close()
            raise

    @property
    def ranks(self) -> int:
        """Data-parallel trainer ranks: those that share out the rows of a batch."""
        return self.workers.world_size // self.options.sequence_parallel

    async def call(self, what: str, function: Callable[..., T], *args: Any) -> T:
        """`function`, which blocks, in a thread of its own. Raises `EngineError` when a worker or
        server is gone or failed, or when `verl.worker_timeout` is over."""
        with _told(what, self.options.worker_timeout):
            future = _in_thread(function, *args)
            return await asyncio.wait_for(asyncio.wrap_future(future), self.options.worker_timeout)

    def call_now(self, what: str, function: Callable[..., T], *args: Any) -> T:
        """`call` from ordinary code."""
        with _told(what, self.options.worker_timeout):
            return _in_thread(function, *args).result(self.options.worker_timeout)

    def on_each_worker(self, function: Callable[..., T], *args: Any) -> list[T]:
        """`function(worker, *args)` on every rank, where `worker` is verl's own. Blocks."""
        import ray

        def run(holder: Any) -> T:
            return function(holder.worker_dict[_ROLE], *args)

        return ray.get([worker.__ray_call__.remote(run) for worker in self.workers.workers])

    def share(self, parts: Sequence[Any]) -> list[Any]:
        """The parts in Ray's object store, for `on_ranks` to hand out more than once. Blocks."""
        import ray

        return [ray.put(part) for part in parts]

    def on_ranks(self, function: Callable[..., T | None], *parts: Sequence[Any]) -> list[T]:
        """`function(worker, *(part[r] for part in parts))` on the workers of each data-parallel
        rank r; an answer of each. A part may be one that `share` returned. Blocks."""
        import ray

        def run(holder: Any, *mine: Any) -> T | None:
            return function(holder.worker_dict[_ROLE], *mine)

        ranks = self.workers._query_dispatch_info("actor")
        answers = ray.get(
            [
                worker.__ray_call__.remote(run, *(part[rank] for part in parts))
                for worker, rank in zip(self.workers.workers, ranks, strict=True)
            ]
        )
        pairs = zip(ranks, answers, strict=True)
        found = {rank: answer for rank, answer in pairs if answer is not None}
        return [found[rank] for rank in range(self.ranks)]

    def close(self) -> None:
        """Stop what was started here. A Ray that was there before stays, without our actors."""
        import ray

        if self._started_ray:
            ray.shutdown()
            return
        replicas = self.servers.get_replicas() if hasattr(self, "servers") else []
        workers = self.workers.workers if hasattr(self, "workers") else []
        for actor in (*(s for r in replicas for s in r.servers), *workers):
            ray.kill(actor)
        if hasattr(self, "pool"):
            for group in self.pool.pgs or ():
                ray.util.remove_placement_group(group)

    def _join_ray(self) -> bool:
        """Whether Ray was started by this process."""
        import ray
        from omegaconf import OmegaConf
        from verl.trainer.constants_ppo import get_ppo_ray_runtime_env

        if ray.is_initialized():
            return False
        environment = OmegaConf.create(get_ppo_ray_runtime_env(self.tree))
        try:
            ray.init(
                address=self.options.ray_address,
                runtime_env=OmegaConf.to_container(environment),
                log_to_driver=False,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise EngineError(
                f"Cannot reach Ray at verl.ray_address={self.options.ray_address}: {error}. Start "
                "it with `ray start --head`, or leave the key out to have one started here."
            ) from error
        return True

    def _start_workers(self) -> Any:
        import ray
        from verl.single_controller.ray import (
            RayClassWithInitArgs,
            RayWorkerGroup,
            ResourcePoolManager,
            create_colocated_worker_cls,
        )
        from verl.workers.engine_workers import ActorRolloutRefWorker

        trainer = self.tree.trainer
        self._require_gpus()
        # A name of its own each time: Ray keeps the names of groups that are going away.
        name = f"zppo_{ray.get_runtime_context().get_job_id()}"
        layout = {name: [trainer.n_gpus_per_node] * trainer.nnodes}
        # One process a GPU: rollout servers live beside the trainer without asking Ray for more.
        manager = ResourcePoolManager(resource_pool_spec=layout, mapping={}, max_colocate_count=1)
        manager.create_resource_pool()
        self.pool = manager.resource_pool_dict[name]
        worker = RayClassWithInitArgs(
            cls=ray.remote(ActorRolloutRefWorker),
            config=self.tree.actor_rollout_ref,
            role=_ROLE,
        )
        group = RayWorkerGroup(
            resource_pool=self.pool,
            ray_cls_with_init=create_colocated_worker_cls(class_dict={_ROLE: worker}),
            device_name=trainer.device,
        )
        workers = group.spawn(prefix_set={_ROLE})[_ROLE]
        workers.init_model()
        return workers

    def _require_gpus(self) -> None:
        """verl would wait for ever for what Ray does not have."""
        import ray
        from verl.utils.device import get_resource_name

        trainer, kind = self.tree.trainer, get_resource_name()
        have = sorted(
            (int(node["Resources"].get(kind, 0)) for node in ray.nodes() if node["Alive"]),
            reverse=True,
        )
        fitting = [count for count in have if count >= trainer.n_gpus_per_node]
        if len(fitting) < trainer.nnodes:
            raise EngineError(
                f"verl.nnodes={trainer.nnodes} with verl.n_gpus_per_node="
                f"{trainer.n_gpus_per_node} do not fit into Ray, whose machines have "
                f"{have or 'no'} {kind}s."
            )

    def _start_servers(self) -> Any:
        from verl.workers.rollout.llm_server import LLMServerManager

        return LLMServerManager.create(
            config=self.tree, worker_group=self.workers, rollout_resource_pool=self.pool
        )

    def _weight_manager(self) -> Any:
        from verl.checkpoint_engine import CheckpointEngineManager
        from verl.utils.config import omega_conf_to_dataclass

        options: Any = omega_conf_to_dataclass(
            self.tree.actor_rollout_ref.rollout.checkpoint_engine
        )
        options.backend = "naive"  # trainer and server share their GPUs
        return CheckpointEngineManager(
            config=options, actor_wg=self.workers, replicas=self.servers.get_replicas()
        )


async def answered(what: str, request: Awaitable[T], timeout: float | None) -> T:
    """The answer of a server, or of a relay to it, within `timeout` seconds. Raises `EngineError`
    when it is gone; what the request itself did wrong is raised as it is."""
    import ray

    try:
        return await asyncio.wait_for(request, timeout)
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, EngineError):  # a relay's word on a server of its own
            raise cause from error
        raise
    except ray.exceptions.RayError as error:
        raise _lost(what, error) from error


class _told:
    """Turns what Ray raises and deadlines into an `EngineError` that says what was being done."""

    def __init__(self, what: str, deadline: float) -> None:
        self.what, self.deadline = what, deadline

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        import ray

        # Ray's errors first: what failed on a worker may itself have been a deadline.
        if error is not None and isinstance(error, ray.exceptions.RayError):
            raise _lost(self.what, error) from error
        if isinstance(error, TimeoutError):
            raise EngineError(
                f"verl's workers did not {self.what} within verl.worker_timeout="
                f"{self.deadline:g} seconds. {_GO_ON}"
            ) from error


_GO_ON = "The run can go on from its last checkpoint: zppo resume RUN."


def _lost(what: str, error: BaseException) -> EngineError:
    """The cause in one line: Ray's own messages run over pages."""
    cause: BaseException = getattr(error, "cause", None) or error
    said = [line.strip() for line in str(cause).splitlines()]
    # pydantic ends with a link, after what was wrong
    lines = [line for line in said if line and "errors.pydantic.dev" not in line] or ["no reason"]
    reason = (lines[0] if cause is error else lines[-1]).rstrip(".")
    return EngineError(
        f"A worker or rollout server failed to {what}: {type(cause).__name__}: {reason}. {_GO_ON}"
    )


def _in_thread(function: Callable[..., T], *args: Any) -> Future[T]:
    """Run it in a thread that does not keep the process alive when it never comes back."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="zppo-verl", daemon=True).start()
    return future
