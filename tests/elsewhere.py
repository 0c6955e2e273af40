"""A device that this machine does not have: its tensors mix with no others, as a GPU's do not.

A tensor that is `AWAY` keeps its numbers in one that is here and passes every operation on to it, once all operands
are known to be in one place: only numbers without dimensions and indices may come from the CPU, as on CUDA, and random
numbers must be drawn there. What forgets a `.to(device)`, or turns into NumPy what is on a GPU, fails here as there; a
few operations refuse single numbers from the CPU there and not here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pytest
import safetensors.torch
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._contextlib import _DecoratorContextManager
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from transformers import TrainingArguments

#: One of torch's own names that nothing else uses: gradients flow on it without a library of its own.
AWAY: Final = torch.device("lazy", 0)
_HERE: Final = torch.device("cpu")
#: Take a tensor, a list of indices, and perhaps values.
_BY_INDEX: Final = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
#: Take no single number from the CPU.
_JOINED: Final = {"aten::cat", "aten::stack"}


class AwayTensor(Tensor):
    """A tensor that says it is elsewhere."""

    here: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here: Tensor) -> AwayTensor:
        made: AwayTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, here.size(), strides=here.stride(), dtype=here.dtype, device=AWAY
        )
        made.here = here
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"away: {self.here!r}"

    def tolist(self) -> Any:
        """Return the numbers, which a GPU copies too."""
        return self.here.tolist()

    def numpy(self, **_: Any) -> Any:
        """Refuse, as a GPU does."""
        raise TypeError(f"can't convert a tensor on {AWAY} to numpy")

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _passed_on(operation, args, kwargs or {})


def at_home(tree: Any) -> Any:
    """Return a tree of tensors with those that are away copied here."""
    return tree_map_only(AwayTensor, lambda tensor: tensor.detach().here.clone(), tree)


def _passed_on(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    name = operation._schema.name
    leaves = tree_leaves((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    wanted = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
    away = [tensor for tensor in tensors if isinstance(tensor, AwayTensor)]
    leads_away = wanted[0].type == AWAY.type if wanted else bool(away)
    if leads_away and any(isinstance(leaf, torch.Generator) for leaf in leaves):
        raise RuntimeError(f"{name} on {AWAY} got a generator of the CPU")
    if away and not name.startswith("aten::copy_"):
        operands = [args[0], *args[2:]] if name in _BY_INDEX and isinstance(args[0], AwayTensor) else leaves
        plain = [leaf for leaf in operands if isinstance(leaf, Tensor) and not isinstance(leaf, AwayTensor)]
        here = [tuple(tensor.shape) for tensor in plain if tensor.dim() or name in _JOINED]
        if here:
            raise RuntimeError(f"{name} got tensors of the shapes {here} on the CPU beside others on {AWAY}")
    args, kwargs = tree_map_only(torch.device, lambda _: _HERE, (args, kwargs))
    results = operation(
        *tree_map_only(AwayTensor, lambda tensor: tensor.here, args),
        **tree_map_only(AwayTensor, lambda tensor: tensor.here, kwargs),
    )
    given = {id(tensor.here): tensor for tensor in away}

    def placed(found: Tensor) -> Tensor:
        if id(found) in given:  # what changes an operand in place returns it
            return given[id(found)]
        return AwayTensor(found) if leads_away else found

    return tree_map_only(Tensor, placed, results)


class _Operations(TorchDispatchMode):
    """Takes operations that make tensors from nothing, and those on tensors."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _passed_on(operation, args, kwargs or {})


class _Literals(TorchFunctionMode):
    """Makes tensors of Python's numbers here before they are sent."""

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function not in {torch.tensor, torch.as_tensor}:
            return function(*args, **kwargs)
        device = kwargs.pop("device", None)
        made = function(*args, **kwargs)
        return made if device is None else made.to(device)


class _NoGradients(_DecoratorContextManager):
    """`torch.inference_mode` without its marks, which tensors of this kind cannot carry."""

    def __init__(self, mode: bool = True) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        self.before = torch.is_grad_enabled()
        torch.set_grad_enabled(self.before and not self.mode)

    def __exit__(self, *_: object) -> None:
        torch.set_grad_enabled(self.before)


@contextmanager
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let models be trained and used on `AWAY` in this thread, and make it what is taken where nothing is said."""
    joined = TrainingArguments.device.fget

    def device(arguments: TrainingArguments) -> torch.device:
        joined(arguments)
        return AWAY

    with monkeypatch.context() as patch:
        patch.setattr(TrainingArguments, "device", property(device))
        patch.setattr(Accelerator, "device", property(lambda _: AWAY))
        patch.setattr(torch, "inference_mode", _NoGradients)
        optimizers = importlib.import_module("torch.optim.optimizer")
        patch.setattr(optimizers, "_get_fused_kernels_supported_devices", lambda: [AWAY.type])
        for module in ("flr.saving", "flr.baselines.storage", "flr.baselines.fitting"):
            patch.setattr(f"{module}.default_device", lambda: AWAY)
        for module, name in ((torch, "save"), (safetensors.torch, "save_file")):  # they read memory, not tensors
            patch.setattr(module, name, _of_copies(getattr(module, name)))
        with _Literals(), _Operations():
            yield


def _of_copies(save: Callable[..., Any]) -> Callable[..., Any]:
    return lambda tensors, *args, **kwargs: save(at_home(tensors), *args, **kwargs)
