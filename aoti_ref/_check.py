"""Hold a call to its contract, in Python, before any native code sees it."""

from __future__ import annotations

import inspect
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch

from aoti_ref import _conditions, _internals, _tree
from aoti_ref._call import spell, spell_value
from aoti_ref._contract import Contract, Size, TensorSpec, same
from aoti_ref._errors import AutocastActive, BadCall, Fault
from aoti_ref._plan import PLAIN, Plan, draw, laid_out
from aoti_ref._weights import share

if TYPE_CHECKING:
    from collections.abc import Mapping


class Checker:
    """Turns the arguments of a call into the flat inputs of the graph, or refuses.

    Args:
        contract: What a call must look like.
        signature: The signature of the method that the graph stands in for.
        module: The module's class, for messages.
    """

    def __init__(
        self, contract: Contract, signature: inspect.Signature, module: str
    ) -> None:
        self.contract = contract
        self.module = module
        self.signature = signature
        self._paths = contract.paths()
        self._plans: dict[tuple[int | str, ...], Plan | None] = {}
        self.devices = sorted(
            {leaf.device for leaf in contract.leaves if isinstance(leaf, TensorSpec)}
        )

    def tensor_paths(self) -> list[str]:
        """Name the graph's inputs, in its order."""
        pairs = zip(self._paths, self.contract.leaves, strict=True)
        return [path for path, leaf in pairs if isinstance(leaf, TensorSpec)]

    def unknown_arguments(self) -> list[str]:
        """Name the contract's arguments that the method does not take."""
        kinds = {p.kind for p in self.signature.parameters.values()}
        if kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}:
            return []
        return [
            n for n in self.contract.arguments if n not in self.signature.parameters
        ]

    def __call__(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> list[torch.Tensor]:
        """Check a call.

        Returns:
            The tensors of the call, in the graph's order and with its strides.

        Raises:
            BadCall: With every fault of the call.
            AutocastActive: Eager code would cast here, and compiled code cannot.
        """
        for device in self.devices:
            if torch.is_autocast_enabled(device):
                raise AutocastActive("call", device)
        form: tuple[int | str, ...] = (len(args), *kwargs)
        plan = self._plans.get(form)
        if plan is not None and not _internals.followed():
            quick = plan([*args, *kwargs.values()])
            if quick is not None:
                return quick
        inputs, faults = self.attempt(args, kwargs)
        if inputs is None:
            raise BadCall(self.module, faults)
        if form not in self._plans:
            self._plans[form] = self.draw(args, kwargs)
        return inputs

    def attempt(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[list[torch.Tensor] | None, tuple[Fault, ...]]:
        """Check a call in the way that can name what is wrong with it.

        Returns:
            The graph's inputs, or None and all faults.
        """
        faults: list[Fault] = []
        leaves = self._leaves(args, kwargs, faults)
        inputs: list[torch.Tensor] = []
        if leaves is not None:
            inputs = self._tensors(leaves, faults)
        return (None, tuple(faults)) if faults else (inputs, ())

    def given(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> list[torch.Tensor]:
        """Give the tensors of a good call in the graph's order, as they came."""
        leaves = self._leaves(args, kwargs, []) or []
        pairs = zip(leaves, self.contract.leaves, strict=True)
        return [leaf for leaf, spec in pairs if isinstance(spec, TensorSpec)]

    def draw(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Plan | None:
        """Draw the plan for calls of the form of one, be it good or not."""
        return draw(self.contract, self.signature, args, kwargs)

    def _leaves(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], faults: list[Fault]
    ) -> list[Any] | None:
        """Take a call apart; None where nobody can say which argument is which."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            faults.append(Fault("arguments", "(call)", str(error)))
            return None
        bound.apply_defaults()
        given = _tree.spread(self.signature, bound.arguments)
        leaves: list[Any] = []
        for name, tree in self.contract.arguments.items():
            if name in given:
                _tree.flatten(tree, given.pop(name), name, leaves, faults)
            else:
                faults.append(Fault("missing", name, "the graph needs it"))
                leaves.extend(_tree.lost(tree))
        for name, value in given.items():
            self._check_left_out(name, value, faults)
        return leaves

    def _check_left_out(self, name: str, value: object, faults: list[Fault]) -> None:
        """Hold an argument that the graph does not know to its default."""
        parameter = self.signature.parameters.get(name)
        default = parameter.default if parameter else inspect.Parameter.empty
        fixed = self.contract.fixed
        if name in fixed and not same(value, fixed[name]):
            detail = f"wants {spell_value(fixed[name])}, found {spell_value(value)}"
            faults.append(Fault("value", name, detail))
        elif name not in fixed and not same(value, default):
            found = spell_value(value)
            faults.append(
                Fault("unexpected", name, f"the graph has none, found {found}")
            )

    def _tensors(self, leaves: list[Any], faults: list[Fault]) -> list[torch.Tensor]:
        inputs: list[torch.Tensor] = []
        sizes: dict[str, tuple[int, str]] = {}
        for path, leaf, spec in zip(
            self._paths, leaves, self.contract.leaves, strict=True
        ):
            if leaf is _tree.LOST:
                continue
            if isinstance(spec, TensorSpec):
                if self._fits(leaf, spec, path, sizes, faults):
                    inputs.append(self._laid_out(leaf, spec, path, faults))
            elif not same(leaf, spec.value):
                wanted, found = spell_value(spec.value), spell_value(leaf)
                faults.append(Fault("value", path, f"wants {wanted}, found {found}"))
        if not faults:
            self._check_conditions(sizes, faults)
        if self.contract.mutates_inputs and not faults:
            self._check_aliases(inputs, faults)
        return inputs

    def _fits(
        self,
        leaf: object,
        spec: TensorSpec,
        path: str,
        sizes: dict[str, tuple[int, str]],
        faults: list[Fault],
    ) -> bool:
        wanted = self.contract.spell(spec)
        if type(leaf) not in PLAIN or not isinstance(leaf, torch.Tensor):
            kind = type(leaf).__name__
            found = spell_value(leaf) if not isinstance(leaf, torch.Tensor) else kind
            faults.append(Fault("type", path, f"wants {wanted}, found {found}"))
            return False
        found = spell(leaf.dtype, leaf.shape)
        before = len(faults)
        if str(leaf.dtype) != f"torch.{spec.dtype}":
            faults.append(Fault("dtype", path, f"wants {wanted}, found {found}"))
        if leaf.device.type != spec.device:
            detail = f"wants {spec.device}, found {leaf.device}"
            faults.append(Fault("device", path, detail))
        self._check_gradients(leaf, path, faults)
        if leaf.layout is not torch.strided:
            detail = f"wants a strided tensor, found {leaf.layout}"
            faults.append(Fault("layout", path, detail))
        if leaf.ndim != len(spec.sizes):
            faults.append(Fault("rank", path, f"wants {wanted}, found {found}"))
            return False
        for dim, (size, want) in enumerate(zip(leaf.shape, spec.sizes, strict=True)):
            where = f"{path}[{dim}]"
            if isinstance(want, Size):
                self._check_size(size, want, where, sizes, faults)
            elif size != want:
                faults.append(Fault("size", where, f"wants {want}, found {size}"))
        return len(faults) == before

    def _check_gradients(
        self, leaf: torch.Tensor, path: str, faults: list[Fault]
    ) -> None:
        if _internals.is_transformed(leaf):
            detail = "torch.func cannot transform compiled code; call eager"
            faults.append(Fault("transform", path, detail))
        elif leaf.requires_grad and torch.is_grad_enabled():
            detail = "compiled code gives no gradients; detach it, or call in no_grad"
            faults.append(Fault("gradient", path, detail))
        elif _internals.has_tangent(leaf):
            detail = "compiled code carries no tangents; call eager"
            faults.append(Fault("gradient", path, detail))

    def _check_size(
        self,
        size: int,
        want: Size,
        where: str,
        sizes: dict[str, tuple[int, str]],
        faults: list[Fault],
    ) -> None:
        symbol = self.contract.symbols[want.symbol]
        spelled = want.spell(symbol.name)
        root, rest = divmod(size - want.plus, want.times)
        if rest:
            faults.append(Fault("size", where, f"wants {spelled}, found {size}"))
        elif not symbol.min <= root <= symbol.max:
            ends = f"{symbol.name} in {symbol.min}..{symbol.max}"
            faults.append(
                Fault("range", where, f"wants {spelled}, {ends}, found {size}")
            )
        else:
            first, seen = sizes.setdefault(want.symbol, (root, where))
            if first != root:
                detail = f"wants {spelled} with {symbol.name} = {first} as in {seen}"
                faults.append(Fault("shared", where, f"{detail}, found {size}"))

    def _check_conditions(
        self, sizes: Mapping[str, tuple[int, str]], faults: list[Fault]
    ) -> None:
        roots = {symbol: root for symbol, (root, _) in sizes.items()}
        for text in self.contract.conditions:
            if not _conditions.held(text, roots):
                names = {s: self.contract.symbols[s].name for s in roots}
                spoken = sorted(_conditions.symbols(text))
                found = ", ".join(f"{names[s]} = {roots[s]}" for s in spoken)
                detail = f"wants {_conditions.spell(text, names)}, found {found}"
                faults.append(Fault("condition", "(call)", detail))

    def _laid_out(
        self, leaf: torch.Tensor, spec: TensorSpec, path: str, faults: list[Fault]
    ) -> torch.Tensor:
        """Give the tensor the strides that the graph has baked in, or say no."""
        dense = spec.order == tuple(range(len(spec.order)))
        given = laid_out(leaf, spec.order, dense=dense)
        if given is not leaf and self.contract.mutates_inputs:
            detail = f"the graph may write to it; wants no gaps, found {leaf.stride()}"
            faults.append(Fault("strides", path, detail))
        return given

    def _check_aliases(self, inputs: list[torch.Tensor], faults: list[Fault]) -> None:
        """Refuse arguments that share memory, where the graph writes to some.

        What counts are addresses: two storages may stand on one memory, as those of
        two `torch.from_numpy` of one array do.
        """
        if any(share(one, other) for one, other in combinations(inputs, 2)):
            detail = "the graph writes to its arguments, and two share memory"
            faults.append(Fault("alias", "(call)", detail))
