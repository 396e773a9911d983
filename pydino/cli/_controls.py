"""The controls of a task, one after another: vectors, classifier, result files, controls.json."""

from pathlib import Path

from pydino.base import UserError, log
from pydino.cli._results import value_text
from pydino.kaldi import read_table


def measure(task, controls: list[str], args, command: str) -> list[dict]:
    """Measure controls, write their result files below ``args.out_dir``, and return the entries of
    controls.json.

    Args:
        task: TaskDir.
        controls: names, of pydino.recipe.CONTROLS.
        args: of the verb run-controls.
        command: the call, as a person would type it.

    Raises:
        UserError: something that a control needs is not there.
    """
    return _Measuring(task, args, command).all(controls)


class _Measuring:
    def __init__(self, task, args, command: str):
        import torch

        from pydino.infer import StoredFrames, load

        torch.set_num_threads(1)  # so that sums do not depend on the machine
        self.task, self.args, self.command = task, args, command
        self.model = load(args.model, args.device) if args.model else None
        self.frames = StoredFrames(args.data, self.model)
        wanted = list(task.labels)
        self.keys = self.frames.kept(wanted)
        if len(self.keys) < (1 - args.max_drop) * len(wanted):
            absent = sorted(set(wanted) - set(self.keys))
            raise UserError(
                f"{task.path}: {len(absent)} of {len(wanted)} utterances have no features in "
                f"{' '.join(args.data)}, first: {absent[0]}; make them, or allow more with --max-drop"
            )

    def all(self, controls: list[str]) -> list[dict]:
        entries = []
        for name in controls:
            for control in getattr(self, f"_{name}")():
                entries.append(self._entry(control) if name != "permutation" else self._band(control))
        return entries

    # Each of the following returns the controls of one name. "Suspicious" is what should not tell the label.

    def _silence(self) -> list:
        from pydino.downstream import Control
        from pydino.infer import pause_vectors, silence_vectors

        self._need_vad(self.frames)
        found = silence_vectors(self.frames, self.keys, self.args.seed)
        log(f"{self.task.config.name}: silence: {found.note}")
        # Pauses are the subject's own: a classifier that uses them alone is not misled.
        pauses = pause_vectors(self.frames, self.keys)
        return [
            *self._both("silence", found, True, left_out=True),
            Control("pauses", "timing", pauses.statistics, False, pauses.note),
        ]

    def _channel(self) -> list:
        from pydino.infer import channel_vectors

        return self._both("channel", channel_vectors(self.frames, self.keys), True)

    def _interviewer(self) -> list:
        from pydino.infer import StoredFrames, interviewer_vectors

        data, keep = self.args.interviewer, self.task.config.keep_silence
        frames = StoredFrames([data], self.model)
        path = next((p for p in (Path(data, "utt2subject"), Path(data, "utt2spk")) if p.is_file()), None)
        if path is None:
            raise UserError(f"no {data}/utt2subject, which names the subject that each segment is spoken to")
        subjects, interviewer_of = set(self.task.speakers.values()), {}
        for segment, subject in read_table(path).items():
            if subject in subjects:
                interviewer_of.setdefault(subject, []).append(segment)
        if not interviewer_of:
            raise UserError(
                f"{path}: none of its subjects is one of {self.task.path}/utt2spk, such as "
                f"{sorted(subjects)[0]}; it must map each segment to the subject who is interviewed"
            )
        speakers = {key: self.task.speakers[key] for key in self.keys}
        return self._both("interviewer", interviewer_vectors(frames, interviewer_of, speakers, keep), True)

    def _metadata(self) -> list:
        from pydino.downstream import Control, metadata_vectors
        from pydino.infer import timing_vectors

        found = []
        if self.args.metadata:
            vectors = metadata_vectors({name: self._table(name) for name in self.args.metadata}, self.keys)
            found.append(Control("metadata", "tables", vectors, True, " ".join(self.args.metadata)))
        timing = timing_vectors(self.frames, self.keys, self._recordings())
        # Where the task keeps silence, pauses are the signal, and so is what follows from them.
        suspicious = not self.task.config.keep_silence
        return [*found, Control("metadata", "timing", timing.statistics, suspicious, timing.note)]

    def _duration(self) -> list:
        from pydino.infer import crop_vectors

        found = crop_vectors(self.frames, self.keys, self._keep_silence(), self.args.seed)
        return self._both("duration", found, False)

    def _permutation(self) -> list:
        from pydino.infer import whole_vectors

        found = whole_vectors(self.frames, self.keys, self._keep_silence())
        return self._both("permutation", found, False)[-1:]  # of the model, if there is one

    def _both(self, name: str, found, suspicious: bool, left_out: bool = False) -> list:
        from pydino.downstream import Control

        kinds = {"statistics": found.statistics, "embedding": found.embeddings}
        made = [
            Control(name, kind, table, suspicious, found.note, left_out)
            for kind, table in kinds.items()
            if table
        ]
        if not made:
            log(f"{self.task.config.name}: {name}: no utterance has any; not measured")
        return made

    def _entry(self, control) -> dict:
        from pydino.cli._task_results import write_task_outputs
        from pydino.downstream import (
            classifier_of,
            evaluate,
            not_measured,
            outputs_of,
            verdict,
            why_not_measured,
        )

        args, task = self.args, self.task
        if why := why_not_measured(task, control):
            entry = not_measured(task, control, why)
            log(f"{task.config.name}: {control.name} ({control.kind}): {entry['note']}")
            return entry
        outputs = outputs_of(task, control.vectors, args.seed, control.left_out)
        outputs = {key: outputs[key] for key in self.keys if key in outputs}
        write_task_outputs(
            Path(args.out_dir, f"{control.name}-{control.kind}"),
            task,
            outputs,
            self._meta(control),
            backend=classifier_of(task),
            treatment="raw",
            command=self.command,
            resamples=args.resamples,
            seed=args.seed,
            extra={"control": control.name},
        )
        done = evaluate(task, outputs, args.resamples, args.seed)
        entry = verdict(task, control, done, args.resamples, args.seed)
        beats, text = entry["beats_chance"], value_text(entry["value"], entry["interval"])
        log(
            f"{task.config.name}: {control.name} ({control.kind}): {entry['metric']} {text}, "
            f"{'above' if beats else 'not above'} chance"
        )
        return entry

    def _band(self, control) -> dict:
        from pydino.downstream import permutation_band

        args, config = self.args, self.task.config
        value, band = permutation_band(self.task, control.vectors, args.permutations, args.seed)
        metric, unit = ("uar", "percent") if config.kind == "class" else ("mae", config.unit)
        log(f"{config.name}: labels permuted {args.permutations} times: {metric} {value_text(value, band)}")
        chance = 100 / len(config.classes) if config.kind == "class" else None
        return {
            "task": config.name,
            "control": control.name,
            "vectors": control.kind,
            "metric": metric,
            "value": round(value, 6),
            "unit": unit,
            "interval": band and [round(x, 6) for x in band],
            "chance": chance,
            "chance_bound": None,
            "independent_draws": None,
            "beats_chance": False,
            "n": args.permutations,
            "subjects": len(set(self.task.speakers.values())),
            "suspicious_if_above_chance": False,
            "note": f"mean and 2.5 to 97.5 % of {args.permutations} permutations of the labels",
        }

    def _keep_silence(self) -> bool:
        return self.task.config.keep_silence or not self.frames.has_vad

    def _meta(self, control) -> dict:
        """What a result file says of the model, as meta.yaml of an embedding folder does."""
        embedded = control.kind == "embedding"
        config = self.model.config if embedded else None
        return {
            "model": f"control-{control.name}" + ("" if control.kind == "statistics" else f"-{control.kind}"),
            "encoder": config.encoder["name"] if embedded else "statistics",
            "system": "/".join(part for part in Path(self.args.out_dir).parts if part not in ("/", "exp")),
            "model_labels": config.labels if embedded else "none",
            "train_set": config.train_set if embedded else "none",
            "seed": self.args.seed,
            "model_dir": self.args.model if embedded else "",
        }

    def _need_vad(self, frames) -> None:
        if not frames.has_vad:
            folder = next(folder for folder in frames.folders if not (folder / "vad.scp").is_file())
            raise UserError(f"no {folder}/vad.scp, which tells silence: run steps/compute_vad.sh {folder}")

    def _table(self, name: str) -> dict[str, str]:
        """A table of the data directories, by utterance; spk2NAME is spread over the speakers' utterances."""
        found: dict[str, str] = {}
        for folder in map(Path, self.args.data):
            table = read_table(folder / name)
            if name.startswith("spk2"):
                speakers = read_table(folder / "utt2spk")
                table = {key: table[speaker] for key, speaker in speakers.items() if speaker in table}
            found |= table
        return found

    def _recordings(self) -> dict[str, str]:
        """Utterance -> recording, of all utterances of the data directories."""
        found: dict[str, str] = {}
        for folder in map(Path, self.args.data):
            keys = read_table(folder / "feats.scp")
            if (folder / "utt2recording").is_file():
                found |= dict(zip(keys, keys, strict=True)) | read_table(folder / "utt2recording")
            elif (folder / "segments").is_file():
                found |= {key: line.split()[0] for key, line in read_table(folder / "segments").items()}
            else:
                found |= dict(zip(keys, keys, strict=True))
        return found
