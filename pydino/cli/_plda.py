"""The folder of a PLDA chain, mean.vec, transform.mat and plda, for the verbs that write or read one."""

from pathlib import Path

from pydino.backend import Plda, PldaChain
from pydino.base import UserError
from pydino.kaldi import read_object
from pydino.kaldi.plda_file import read_plda, write_matrix, write_plda, write_vector

FILES = ("mean.vec", "transform.mat", "plda")


def write_chain(folder, chain: PldaChain) -> None:
    """Write the three files as Kaldi does."""
    folder, plda = Path(folder), chain.plda
    write_vector(folder / "mean.vec", chain.mean)
    write_matrix(folder / "transform.mat", chain.transform)
    write_plda(folder / "plda", plda.mean, plda.transform, plda.psi)


def read_chain(folder, dim: int) -> PldaChain:
    """Read the chain for embeddings of dimension ``dim``.

    Raises:
        UserError: a file is missing or malformed, or the chain was trained in another dimension.
    """
    folder = Path(folder)
    for name in FILES:
        if not (folder / name).exists():
            raise UserError(f"no {folder / name}: run steps/train_plda.sh UTT2SPK XVECTOR_DIR {folder}")
    mean, transform = (read_object(str(folder / name)) for name in FILES[:2])
    if len(mean) != dim:
        raise UserError(
            f"{folder} was trained in dimension {len(mean)}, these embeddings have {dim}: use one model for "
            "both"
        )
    return PldaChain(mean, transform, Plda(*read_plda(folder / "plda")))
