#!/usr/bin/env bash
# Start a recipe for a corpus: egs/NAME and local/prepare_NAME.py, which run as they are on a folder with one
# folder of recordings per speaker. docs/recipes.md says how to adapt them, with an example.
# Usage: utils/new_recipe.sh NAME
#  e.g.: utils/new_recipe.sh mycorpus; egs/mycorpus/run.sh --root /corpora/mycorpus
set -Eeuo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
. parse_options.sh

die() { echo "$0: $*" >&2; exit 1; }
[ $# -eq 1 ] || die "expected NAME, got $# arguments; see $0 --help"
name=$1 recipe=$PYDINO_ROOT/egs/$1 program=$PYDINO_ROOT/local/prepare_$1.py
[[ $name =~ ^[a-z][a-z0-9_]*$ ]] || die "'$name' becomes part of file names: lower-case letters, digits and _ only, starting with a letter"
[ ! -e "$recipe" ] || die "$recipe exists already"
[ ! -e "$program" ] || die "$program exists already"

mkdir -p "$recipe/conf"
cp "$PYDINO_ROOT"/egs/mini/{path.sh,cmd.sh} "$recipe"
sed "s/^# Every stage on .*/# Every stage on $name. Options are those of ..\/..\/run.sh./" "$PYDINO_ROOT/egs/mini/run.sh" >"$recipe/run.sh"
chmod +x "$recipe/run.sh"
cat >"$recipe/conf/recipe.yaml" <<END
# $name: docs/recipes.md describes every key. Features and VAD are configured by the project's conf/,
# unless conf/ here has fbank.yaml and vad.yaml.
name: $name
stages: [0, 1, 2, 3, 4, 5, 6, 11]
disk_gb: 5
sets: [train, test]
train_set: {sets: [train], min_duration: 2.0}
models: [dino-koleo]
trials:
  - {set: test}
plda: {set: train, lda_dim: 64}
END
cat >"$recipe/conf/dino-koleo.yaml" <<END
# DINO with the KoLeo term, as in the speechocean762 recipe. Add below what differs.
extends: ../../speechocean762/conf/dino-koleo.yaml
END
cat >"$recipe/README.md" <<END
# $name

Describe the corpus, how to get it, and the numbers of speakers and utterances to expect.

\`\`\`bash
./run.sh --root /corpora/$name
\`\`\`
END
cat >"$program" <<END
#!/usr/bin/env python3
"""Prepare $name.

Usage: local/prepare_$name.py [options] CORPUS_ROOT DATA_DIR
 e.g.: local/prepare_$name.py downloads/$name data

    CORPUS_ROOT/SPEAKER/RECORDING.wav

    DATA_DIR/{train,test}/      wav.scp utt2spk spk2utt; test: trials
"""

from local.common import add_trial_arguments, audio_path, corpus_root, main, write_set
from pydino.base import UserError

CORPUS = "$name"
ADVICE = "Give the folder that holds a folder of .wav files for each speaker."


def add_arguments(parser) -> None:
    """Declare the command line."""
    add_trial_arguments(parser)
    parser.add_argument("corpus_root", metavar="CORPUS_ROOT")
    parser.add_argument("data_dir", metavar="DATA_DIR")


def prepare(args) -> None:
    """Write the two data directories: every second speaker is a test speaker."""
    root = corpus_root(args.corpus_root, CORPUS, (".",), ADVICE)
    speakers = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    for name, chosen in (("train", speakers[::2]), ("test", speakers[1::2])):
        wav_scp, utt2spk = {}, {}
        for speaker in chosen:
            for path in sorted(speaker.glob("[!.]*.wav")):
                utterance = f"{speaker.name}-{path.stem}".replace(" ", "_")
                if utterance in wav_scp:
                    raise UserError(f"{path} and {wav_scp[utterance]} would both be called {utterance}")
                wav_scp[utterance] = audio_path(path)
                utt2spk[utterance] = speaker.name.replace(" ", "_")
        max_trials = args.max_trials if name == "test" else None
        write_set(args.data_dir, name, wav_scp, utt2spk, max_trials=max_trials, seed=args.seed)


if __name__ == "__main__":
    main(__doc__, add_arguments, prepare)
END
chmod +x "$program"
echo "$0: made egs/$name and local/prepare_$name.py. Next: adapt them (docs/recipes.md, 'Add your corpus'), then" >&2
echo "  egs/$name/run.sh --list; egs/$name/run.sh --root FOLDER --stop-stage 1" >&2
