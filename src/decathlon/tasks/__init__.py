"""The ten tasks, a file each; `base.py` and `recipe.py` are what they share."""

from __future__ import annotations

import sys
from types import ModuleType


class _TasksPackage(ModuleType):
    """Lets `decathlon.tasks()` list the tasks, although `decathlon.tasks` is this package once it is imported."""

    def __call__(self) -> list[str]:
        from decathlon.tasks.base import task_ids

        return task_ids()


sys.modules[__name__].__class__ = _TasksPackage
