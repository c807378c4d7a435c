"""Which files objects are read from: those of a folder and its folders, and what stands in the way of reading them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from libskylark.errors import Fault


def object_files(path: Path) -> tuple[list[Path], list[Fault]]:
    """The YAML files of a folder, sorted (or the one file that `path` is), and a fault for what cannot be looked at.

    Hidden ones are left out: a ConfigMap that is mounted as a folder has its files in a hidden folder, too, and
    editors hide what they are about to rename. A folder that a link within `path` leads to is not entered.
    """
    faults: list[Fault] = []
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            return [path], []
    except FileNotFoundError:
        return [], [Fault(str(path), 0, "", "no such file or folder")]
    except OSError as error:
        return [], [_fault(path, error)]
    found = []
    # Without `onerror`, a folder that may not be read is to os.walk as if it were empty.
    for folder, folders, names in os.walk(path, onerror=lambda error: faults.append(_fault(error.filename, error))):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in (Path(folder, name) for name in names if _is_meant(name)):
            try:
                if stat.S_ISREG(file.stat().st_mode):
                    found.append(file)
            except FileNotFoundError:
                faults.append(Fault(str(file), 0, "", "is a link that leads to no file"))
            except OSError as error:
                faults.append(_fault(file, error))
    return sorted(found), faults


def _is_meant(name: str) -> bool:
    stem, suffix = os.path.splitext(name)
    return suffix in (".yaml", ".yml") and stem != "kustomization" and not name.startswith(".")


def _fault(path: str | Path, error: OSError) -> Fault:
    return Fault(str(path), 0, "", f"cannot be read: {error.strerror}")
