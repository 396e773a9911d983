"""Whether a corpus is whole, and what of it is left out: counted, named and said in one way by the
preparations of corpora with published counts.
"""

from collections.abc import Mapping
from pathlib import Path

from pydino.base import UserError, log, warn, write_text
from pydino.cli import boolean
from pydino.kaldi.data_dir import named


def add_partial_argument(parser) -> None:
    """Add ``--partial true|false``."""
    parser.add_argument(
        "--partial",
        type=boolean,
        default=False,
        metavar="true|false",
        help="the corpus is known to be a part: what is missing and counts that differ from the published "
        "ones are warnings, not errors (default false)",
    )


class Completeness:
    """What a corpus lacks, and which of its files take no part.

    Args:
        corpus: name for messages.
        partial: whether something may be missing.
    """

    def __init__(self, corpus: str, partial: bool):
        self.corpus, self.partial = corpus, partial
        self.left_out: dict[str, str] = {}  # file or utterance -> reason
        self._problems: list[str] = []

    def leave_out(self, name: str, reason: str) -> None:
        """Note that a file or utterance takes no part, and why."""
        self.left_out[name] = reason

    def lacks(self, problem: str) -> None:
        """Note a problem, to be raised by :meth:`finish`."""
        self._problems.append(problem)

    def expect(self, what: str, found: Mapping[str, int], published: Mapping[str, int]) -> None:
        """Compare counts with the published ones.

        Args:
            what: is counted, for messages.
            found, published: name -> count; a name that is not there counts 0.
        """
        for name in sorted(found.keys() | published.keys()):
            count, right = found.get(name, 0), published.get(name, 0)
            if count != right:
                self.lacks(f"{what}, {name}: {count:,}, expected {right:,}")

    def finish(self, data_dir, advice: str) -> None:
        """Name what is left out, in the log and in ``DATA_DIR/left_out.CORPUS.txt``, and raise the problems.

        The file has a line for each, its name and the reason with a tab between them.

        Args:
            data_dir: where the sets will be.
            advice: what to do about a problem.

        Raises:
            UserError: something is missing or a count is wrong, and the corpus is not known to be a part.
        """
        path = Path(data_dir) / f"left_out.{self.corpus}.txt"
        names: dict[str, list[str]] = {}
        for name, reason in sorted(self.left_out.items()):
            names.setdefault(reason, []).append(name)
        for reason, of_reason in names.items():
            log(f"{self.corpus}: {len(of_reason):,} left out, {reason}: {named(of_reason)}")
        path.unlink(missing_ok=True)
        if self.left_out:
            write_text(path, "".join(f"{name}\t{reason}\n" for name, reason in sorted(self.left_out.items())))
            log(f"{self.corpus}: all that is left out stands in {path}")
        if not self._problems:
            return
        shown = "; ".join(self._problems[:5])
        more = f"; and {len(self._problems) - 5} more" if len(self._problems) > 5 else ""
        if not self.partial:
            raise UserError(
                f"{self.corpus} is not whole: {shown}{more}. {advice} To prepare a part of it: --partial "
                "true, in a recipe prepare_options: {partial: 'true'}"
            )
        warn(f"{self.corpus} is a part: {shown}{more}")
