#!/usr/bin/env python3
"""List the room impulse responses of RIRS_NOISES, for augmentation in training on audio.

Usage: local/prepare_rirs.py RIRS_ROOT OUT_DIR
 e.g.: local/prepare_rirs.py downloads/rirs data/rirs

OpenSLR 28, https://www.openslr.org/28/, 1.3 GB, 16 kHz; Ko et al., ICASSP 2017. 20,000 simulated responses of
each size of room, and the measured ones of three older collections. The noises of the corpus are omitted, and
so are lists of missing kinds of room.

    RIRS_ROOT/simulated_rirs/{small,medium,large}room/Room001/Room001-00001.wav
    RIRS_ROOT/real_rirs_isotropic_noises/rir_list      which of the files there are responses, not noises;
        lines such as --rir-id 00001 --room-id room_1
        RIRS_NOISES/real_rirs_isotropic_noises/RVB2014_type1_rir_largeroom1_far_angla.wav

    OUT_DIR/{smallroom,mediumroom,largeroom,realroom}.scp      as Kaldi's wav.scp: name, path
"""

from pathlib import Path, PurePosixPath

from local.common import audio_path, corpus_root, main, write_list
from local.walk import files_by_name
from pydino.base import UserError, log, read_lines, split_fields

CORPUS = "RIRS_NOISES"
SIMULATED = ("smallroom", "mediumroom", "largeroom")
RESPONSES = 20_000  # of each size
ADVICE = (
    "Get it with local/download.py rirs RIRS_ROOT, or from https://www.openslr.org/28/, and give the folder "
    "that holds simulated_rirs."
)


def add_arguments(parser) -> None:
    """Declare the command line."""
    parser.add_argument("rirs_root", metavar="RIRS_ROOT")
    parser.add_argument("out_dir", metavar="OUT_DIR")


def prepare(args) -> None:
    """Write a list for each kind of room."""
    root = corpus_root(args.rirs_root, CORPUS, ("simulated_rirs", "real_rirs_isotropic_noises"), ADVICE)
    lists = {name: simulated(root / "simulated_rirs" / name) for name in SIMULATED}
    lists["realroom"] = measured(root / "real_rirs_isotropic_noises")
    if not any(lists.values()):
        raise UserError(f"no room impulse response in {root}; unpack the corpus again. {ADVICE}")
    for name, responses in lists.items():
        if not responses:
            log(f"{name}: no response in {root}: no list")
            continue
        if name in SIMULATED and len(responses) != RESPONSES:
            log(f"{name}: {len(responses):,} responses of the corpus's {RESPONSES:,}: a part")
        write_list(args.out_dir, name, responses, CORPUS)


def simulated(folder: Path) -> dict[str, str]:
    """Return the responses of the rooms of one size, by name and path; none if there is no such folder."""
    if not folder.is_dir():
        return {}
    return {f"{folder.name}-{name}": audio_path(path) for name, path in files_by_name(folder, ".wav").items()}


def measured(folder: Path) -> dict[str, str]:
    """Return the responses that the folder's ``rir_list`` names; none if there is no such folder.

    Raises:
        UserError: no list, or a line of another form.
    """
    if not folder.is_dir():
        return {}
    table = folder / "rir_list"
    if not table.exists():
        raise UserError(f"no {table}, which distinguishes responses from noises; unpack the corpus again")
    responses = {}
    for number, line in enumerate(read_lines(table, latin1=True), 1):
        fields = split_fields(line)
        if not fields:
            continue
        path = PurePosixPath(fields[-1])
        if fields[0] != "--rir-id" or path.parent.name != folder.name:
            raise UserError(
                f"{table}, line {number}: expected '--rir-id ID --room-id ROOM .../{folder.name}/FILE.wav', "
                f"got '{line}'"
            )
        responses[f"realroom-{path.stem}"] = audio_path(folder / path.name)
    return responses


if __name__ == "__main__":
    main(__doc__, add_arguments, prepare, makes=["out_dir"])
