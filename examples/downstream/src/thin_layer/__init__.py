"""A thin layer over torch.export and AOTInductor."""

from thin_layer.layer import Compiled, Exported, apply, compile, export, load, save

__all__ = ["Compiled", "Exported", "apply", "compile", "export", "load", "save"]
