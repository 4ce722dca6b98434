"""Processes that train one model together, as torchrun, SLURM or Lightning's launchers start them."""

from __future__ import annotations

import atexit
import hashlib
import itertools
import os
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import distributed_c10d

from .._launched import LAUNCHED
from .._types import ALONE, World
from ..acceleration import find_device
from ..errors import TOLD, RunError, first_line
from ..models import VAE, optimal_scale_of
from ._store import store_of_this_start

if TYPE_CHECKING:
    from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment

T = TypeVar("T")
PATIENCE = 60.0  # seconds for which a process waits for others to come to a call
LEAVE = 0.1  # seconds that its threads have for that
TOGETHER, APART = "together", "apart"
_MEETINGS = itertools.count()
RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")


def join_world(device: str) -> World:
    """The processes that were started together, with a way to sum over them; this process alone if it was started alone.

    The first call connects them: over nccl on CUDA devices, over gloo elsewhere. Lightning Fabric knows how each launcher says who is who.

    Args:
        device: name of the device, which decides the way of connecting.
    """
    if not (dist.is_available() and dist.is_initialized()):
        environment = _environment()
        if environment is None or environment.world_size() < 2:
            return World()
        _connect(environment, device)
    size = dist.get_world_size()
    return World() if size < 2 else World(dist.get_rank(), size, _sum, _from_first, _rows)


def meet(device: str, call: Callable[[], str], seconds: float = PATIENCE) -> World:
    """The processes that make a call together; this one alone if the others do not come, or come for another one.

    A call that shares its work would wait forever for processes that never make it, as where a script evaluates in its first process
    only. So they meet first, by notes in the store through which they were connected: all that come in time go on together.

    Args:
        device: name of the device, as for `join_world`.
        call: says what is called and on what; asked only where there are several processes.
        seconds: time to wait for the others.
    """
    world = join_world(device)
    if world.size == 1:
        return world
    store, end = distributed_c10d._get_default_store(), time.monotonic() + seconds
    place = _meeting()
    while store.check([f"{place}-end"]):  # the others came too late to this one
        place = _meeting()
    store.set(f"{place}-{world.rank}", hashlib.blake2b(call().encode(), digest_size=16).hexdigest())
    if store.add(place, 1) == world.size:
        calls = {store.get(f"{place}-{rank}") for rank in range(world.size)}
        store.compare_set(f"{place}-end", "", TOGETHER if len(calls) == 1 else APART)
    while not store.check([f"{place}-end"]):
        if time.monotonic() > end:
            store.compare_set(f"{place}-end", "", APART)
        time.sleep(0.002)
    return world if store.get(f"{place}-end").decode() == TOGETHER else World()


def _meeting() -> str:
    return f"calibrae-meeting-{next(_MEETINGS)}"


def local_device(device: str, world: World) -> str:
    """Name of this process's own device: of several CUDA devices of a machine, each process takes one."""
    environment = _environment()
    if world.size == 1 or environment is None or find_device(device).type != "cuda" or ":" in device:
        return device
    return f"cuda:{environment.local_rank() % torch.cuda.device_count()}"


def was_restarted() -> bool:
    """Tell whether a launcher has started this process again, after one of its kind died or was pre-empted."""
    return any(os.environ.get(name, "0").isdigit() and int(os.environ.get(name, "0")) > 0 for name in RESTARTS)


@contextmanager
def shared_scale(model: VAE, world: World) -> Iterator[None]:
    """Take an optimal scale over the batch of all processes for a while."""
    scale = optimal_scale_of(model)
    if scale is None:
        yield
        return
    scale.world = world
    try:
        yield
    finally:
        scale.world = ALONE


def _environment() -> ClusterEnvironment | None:
    """What the launcher has said; `None` without one. An allocation of SLURM without `srun` has launched nothing."""
    is_step = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and "SLURM_PROCID" in os.environ
    is_launched = set(os.environ) >= LAUNCHED
    if not is_launched and not is_step:
        return None
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if is_launched:
        return TorchElasticEnvironment() if TorchElasticEnvironment.detect() else LightningEnvironment()
    return SLURMEnvironment(auto_requeue=False)


def _connect(environment: ClusterEnvironment, device: str) -> None:
    os.environ.setdefault("MASTER_ADDR", environment.main_address)
    os.environ.setdefault("MASTER_PORT", str(environment.main_port))
    is_cuda = find_device(device).type == "cuda"
    if is_cuda:
        torch.cuda.set_device(environment.local_rank() % torch.cuda.device_count())
    rank, size = environment.global_rank(), environment.world_size()
    dist.init_process_group(
        "nccl" if is_cuda else "gloo", store=store_of_this_start(rank, size), rank=rank, world_size=size
    )
    atexit.register(_disconnect)


def _disconnect() -> None:
    """Take leave of the other processes, while Python still runs.

    A thread of gloo lets go of the tensors of the last message once it gets Python's lock. If it gets that only while the interpreter is
    being taken down, it ends the process with SIGABRT.
    """
    if dist.is_initialized():
        time.sleep(LEAVE)
        dist.destroy_process_group()


def _place() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def _sum(own: Tensor) -> Tensor:
    """Sum over all processes, where the tensor was."""
    total = own.detach().to(_place(), copy=True)
    try:
        dist.all_reduce(total)
    except RuntimeError as error:
        raise RunError(
            f"the connection to another process of this run was lost ({first_line(error, 80)}). What was saved is on disk: start it again "
            "with --resume, or let the launcher do so (torchrun --max-restarts 3)."
        ) from error
    return total.to(own.device)


def _rows(own: Tensor) -> Tensor:
    """Rows of all processes, one after the other, in main memory."""
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, own.detach().cpu())
    return torch.cat(found)


def _from_first(make: Callable[[], T]) -> T:
    """What the first process makes; an error that it meets is raised in all of them."""
    found: list[Any] = [None, None]
    failed: BaseException | None = None
    if dist.get_rank() == 0:
        try:
            found = [make(), None]
        except BaseException as error:
            failed = error
            found = [None, _sendable(error)]
    dist.broadcast_object_list(found, src=0, device=_place())
    if failed is not None:
        raise failed
    if found[1] is not None:
        found[1].add_note(TOLD)
        raise found[1]
    value: T = found[0]
    return value


def in_turn(make: Callable[[], T], world: World) -> T:
    """What each process makes, the first before the others: it fills caches for them."""
    found: list[T] = []
    world.from_first(lambda: found.append(make()))
    return found[0] if found else make()


def gathered(own: T, world: World) -> list[T]:
    """What each process has, in the order of the processes; all of them get it."""
    if world.size == 1:
        return [own]
    found: list[Any] = [None] * world.size
    dist.all_gather_object(found, own)
    return found


def _sendable(error: BaseException) -> BaseException:
    """The error, or one with its words if it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (made a moment ago)
    except Exception:  # an error may hold anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
