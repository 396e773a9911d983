"""Make verification trials: all pairs of utterances of a set, or a keyed sample of them.

Each unordered pair of two different utterances comes once, `utt utt target|nontarget`, target where UTT2SPK
gives both one speaker. With --max-trials N, at most N: every target pair where they are no more than half of
N, else N/2 of them, and nontarget pairs for the rest. The sample depends on the names of the pairs and the
seed alone, not on what else is in the set. Where UTT2SPK is utt2cluster of steps/cluster.sh, TRIALS.json says
so to steps/calibrate.sh.
"""

from pathlib import Path

from pydino.base import CLUSTERS, log, read_json, write_json
from pydino.cli._arguments import option, refuse_unused
from pydino.cli._backend_labels import is_of_clusters
from pydino.kaldi import read_utt2label
from pydino.kaldi.trial_sampling import make_trials


def add_arguments(parser):
    option(parser, "--max-trials", 0, "0 for all pairs")
    option(parser, "--seed", 0, "of the sample")
    parser.add_argument("utt2spk", metavar="UTT2SPK")
    parser.add_argument("trials", metavar="TRIALS")


def run(args):
    if not args.max_trials:
        refuse_unused(args, "--seed", why="without --max-trials: all pairs are taken")
    settings, labels = Path(args.utt2spk).with_name(CLUSTERS), read_utt2label(args.utt2spk)
    what = "cluster" if is_of_clusters(args.utt2spk) else "speaker"
    said = make_trials(labels, args.trials, args.max_trials, args.seed, args.utt2spk, what)
    if what == "cluster":
        labels = read_json(settings).get("labels", "pseudo")
        write_json(f"{args.trials}.json", {"labels": labels, "clusters": str(settings.parent)})
    log(f"{said} -> {args.trials}")
