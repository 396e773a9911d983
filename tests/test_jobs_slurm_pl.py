"""Kaldi's slurm.pl, which takes the project's conf/slurm.conf as well."""

import re
import shlex
import textwrap
from pathlib import Path

import pytest

from pydino.jobs.slurm.config import read_slurm_config

ROOT = Path(__file__).resolve().parent.parent


def of_slurm_pl(text, given):
    """What Kaldi's slurm.pl makes of a file and of options: it reads line by line, and an option counts only
    if it was given, or has had its default, before its line is read. Returns the command and, by option, the
    text for sbatch.
    """
    given, values, command = dict(given), {}, None
    for line in text.splitlines():
        line = re.sub(r"\s*#.*", "", line)
        if not line:
            continue
        if match := re.match(r"command (.+)", line):
            command = match[1]
        elif match := re.match(r"option ([^=]+)=\* (.+)$", line):
            values |= {match[1]: match[2].replace("$0", given[match[1]])} if match[1] in given else {}
        elif match := re.match(r"option ([^=]+)=(\S+)\s?(.*)$", line):
            values |= {(match[1], match[2]): match[3]} if match[1] in given else {}
        else:
            match = re.match(r"default (\S+)=(\S+)", line)
            assert match, f"slurm.pl: unable to parse line '{line}'"
            given.setdefault(*match.groups())
    described = {}
    for name, value in given.items():
        choices = [key for key in ((name, value), name, (name, "*")) if key in values]
        assert choices, f"slurm.pl: option {name} not described (or value '{value}' not allowed)"
        described[name] = values[choices[0]]
    return command, described


GIVEN = {"mem": "4G", "gpu": "2", "num_threads": "3", "time": "1:00", "num_nodes": "2"}


@pytest.mark.parametrize("place", ["conf/slurm.conf", "conf/slurm.conf, all lines", "docs/slurm.md"])
@pytest.mark.parametrize("given", [{}, *({name: value} for name, value in GIVEN.items()), GIVEN])
def test_it_reads_the_projects_file_as_we_do(tmp_path, place, given):
    text = (ROOT / place.partition(",")[0]).read_text()
    if "all lines" in place:
        text = re.sub(r"^#(?=(command|option|default) )", "", text, flags=re.M)
        assert "\ndefault time=" in text and "\noption qos=" in text
    if place.endswith(".md"):
        text = textwrap.dedent(re.search(r"^ +command sbatch.*?(?=^ +```)", text, re.M | re.S)[0])
        given = {name: value for name, value in given.items() if name == "gpu"}
    (tmp_path / "slurm.conf").write_text(text)
    config = read_slurm_config(str(tmp_path / "slurm.conf"))
    command, described = of_slurm_pl(text, given)
    assert shlex.split(command) == config.command
    assert sorted(shlex.split(" ".join(described.values()))) == sorted(config.sbatch_options(given))
