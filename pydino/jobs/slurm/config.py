"""``conf/slurm.conf``: the options that a site's ``sbatch`` needs, in the format of Kaldi's ``slurm.pl``.

::

    command sbatch --account=speech     # the program and what every job gets
    option mem=* --mem=$0               # --mem 4G becomes --mem=4G
    option gpu=0 --partition=cpu        # for one value; it takes precedence over *
    option gpu=* --partition=gpu --gres=gpu:$0
    default gpu=0                       # as if --gpu 0 had been given, where no --gpu is
    option qos=* --qos=$0               # an option of the site's own: run_slurm.sh --qos long ...
    poll 30                             # seconds between two questions to Slurm

Names may be spelt with - or _. A file with any line for a name replaces all built-in lines (below) for it.

sbatch takes the last of two options that contradict, so the order is fixed: the command; defaults, in the
order of the file; then the options given, in the order of ``_ORDER``, and the site's own, in the order of the
file. So ``--time 2-0`` as given takes precedence over ``--time=4:0:0`` in the line of ``gpu``. (``slurm.pl``
has them in random order.)
"""

import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from pydino.base import UserError, nearest, read_text

from ..machine import num_bytes

BUILT_IN = "the built-in configuration"
_TEXT = """\
command sbatch
option num_threads=* --cpus-per-task=$0
option mem=* --mem=$0
option mem=0
option time=* --time=$0
option gpu=* --gres=gpu:$0
option gpu=0
option num_nodes=* --nodes=$0 --ntasks-per-node=1
"""
_ORDER = ("gpu", "num_nodes", "num_threads", "mem", "time")
_OF_THE_WRAPPER = ("max_jobs_run", "retries", "config")


@dataclass
class SlurmConfig:
    """A configuration. ``options`` maps a name and a value, or ``*``, to the text for sbatch."""

    command: list[str] = field(default_factory=list)
    options: dict[str, dict[str, str]] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)
    place: str = BUILT_IN
    poll: float = 30.0

    def sbatch_options(self, given: dict[str, str]) -> list[str]:
        """Return the words for sbatch that the given options (names with ``_``) and the defaults become.
        Raises UserError where no line of the file describes a value; ``parse_request`` has checked the names.
        """
        given = {name: value for name, value in given.items() if name not in _OF_THE_WRAPPER}
        texts = [self._text(name, value) for name, value in self.defaults.items() if name not in given]
        order = [*_ORDER, *(name for name in self.options if name not in _ORDER)]
        texts += [self._text(name, given[name]) for name in order if name in given]
        return [word for text in texts for word in shlex.split(text)]

    def twice(self, state: str, given: dict[str, str]) -> dict[str, str]:
        """Return the option with twice the memory or time for a job that ended in a state for want of it, if
        it was given, or has a default, and the file takes any value.
        """
        name = {"OUT_OF_MEMORY": "mem", "TIMEOUT": "time"}.get(state, "")
        value = (self.defaults | given).get(name)
        if value in (None, "0") or "*" not in self.options.get(name, {}):
            return {}
        return {name: (_twice_the_memory if name == "mem" else _twice_the_time)(value)}

    def _text(self, name: str, value: str) -> str:
        values = self.options.get(name, {})
        text = values.get(value, values.get("*"))
        if text is None:
            what = f"the value '{value}' of --{name.replace('_', '-')}"
            raise UserError(f"{what} is not described in {self.place}; add 'option {name}={value} ...' there")
        return text.replace("$0", shlex.quote(_whole(value) if name == "mem" else value))


def _whole(mem: str) -> str:
    """Return a size without a fraction, which sbatch does not read: ``1.5G`` is ``1536M``."""
    if "." not in mem:
        return mem.upper()
    return f"{num_bytes(mem) // 1024}K" if num_bytes(mem) % 2**20 else f"{num_bytes(mem) // 2**20}M"


def _twice_the_memory(mem: str) -> str:
    number = mem.rstrip("KMGTkmgt")
    return f"{2 * float(number):.10g}{mem[len(number) :]}"


def _twice_the_time(time: str) -> str:
    """Read sbatch's minutes[:seconds], hours:minutes:seconds or days-hours[:minutes[:seconds]]."""
    days, _, rest = time.rpartition("-")
    fields = [int(text) for text in rest.split(":")]
    units = (3600, 60, 1) if days or len(fields) == 3 else (60, 1)
    seconds = 2 * (86400 * int(days or 0) + sum(n * unit for n, unit in zip(fields, units, strict=False)))
    return f"{seconds // 86400}-{seconds // 3600 % 24}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def find_config(given: str | None) -> str | None:
    """Return the file to read: ``--config``, or the user's ``PYDINO_SLURM_CONF``; else the recipe's (set by
    cmd.sh), that of this folder, the project's, or None.
    """
    if given := given or os.environ.get("PYDINO_SLURM_CONF"):
        return given
    recipes = os.environ.get("PYDINO_RECIPE_SLURM_CONF", "")
    places = [recipes, "conf/slurm.conf", Path(__file__).parents[3] / "conf/slurm.conf"]
    return next((str(place) for place in places if os.path.isfile(place)), None)


def read_slurm_config(path: str | None) -> SlurmConfig:
    """Read a configuration; with None, the built-in one. Raises UserError for any mistake in the file."""
    config = _parse(_TEXT, SlurmConfig())
    if path is None:
        return config
    own = _parse(read_text(path), SlurmConfig(place=path))
    options = own.options | {n: values for n, values in config.options.items() if n not in own.options}
    for name in own.defaults:
        if name not in options:
            hint = nearest(name, options)
            raise UserError(f"{path}: 'default {name}=...' has no 'option {name}=...'{hint}")
    return SlurmConfig(own.command or config.command, options, own.defaults, path, own.poll)


def _parse(text: str, config: SlurmConfig) -> SlurmConfig:
    for number, line in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        if not line:
            continue
        if match := re.fullmatch(r"command\s+(.+)", line):
            config.command = _words(match[1], config.place, number)
        elif match := re.fullmatch(r"option\s+([\w-]+)=(\S+)\s*(.*)", line):
            _words(match[3], config.place, number)
            config.options.setdefault(match[1].replace("-", "_"), {})[match[2]] = match[3]
        elif match := re.fullmatch(r"default\s+([\w-]+)=(\S+)", line):
            config.defaults[match[1].replace("-", "_")] = match[2]
        elif match := re.fullmatch(r"poll\s+(\d*[1-9]\d*|\d+\.\d+)", line):
            config.poll = float(match[1])
        else:
            forms = (
                "'command sbatch ...', 'option NAME=VALUE ...' (or NAME=*), 'default NAME=VALUE' and "
                "'poll SECONDS'"
            )
            raise UserError(f"{config.place}:{number}: '{line}' is none of {forms}")
    return config


def _words(text: str, place: str, number: int) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UserError(f"{place}:{number}: {error} in '{text}'") from error
