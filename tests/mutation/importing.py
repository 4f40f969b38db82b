"""Put another program in the place of a module when it is imported; the working tree stays as it is."""

import ast
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

Build = Callable[[], ast.Module]


class Substitutes(MetaPathFinder):
    """Finds the modules that are replaced, and knows which of them were imported."""

    def __init__(self, builds: Mapping[str, tuple[Path, Build]], variables: Mapping[str, Mapping[str, object]]) -> None:
        """Take each module's file and program; `variables` are set in a module before it runs."""
        self.loaded: set[str] = set()
        self._builds = builds
        self._variables = variables

    def install(self) -> None:
        """Replace the modules from now on. Raises RuntimeError if one of them was imported before."""
        early = sorted(name for name in self._builds if name in sys.modules)
        if early:
            raise RuntimeError(f"imported before it could be replaced: {', '.join(early)}")
        sys.meta_path.insert(0, self)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the protocol of import
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname not in self._builds:
            return None
        file, build = self._builds[fullname]
        loader = _Loader(fullname, file, build, self._variables.get(fullname, {}), self.loaded)
        return spec_from_file_location(fullname, file, loader=loader)


class _Loader(SourceFileLoader):
    def __init__(self, name: str, file: Path, build: Build, variables: Mapping[str, object], loaded: set[str]) -> None:
        super().__init__(name, str(file))
        self._build = build
        self._variables = variables
        self._loaded = loaded

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        return compile(self._build(), self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        self._loaded.add(module.__name__)
        vars(module).update(self._variables)
        super().exec_module(module)
