"""The Slurm back-end: one array job for ``JOB=1:N``, waited for until its last task has ended."""

import os
import re
import shlex
import time

from pydino.base import UserError, write_text

from .attempt import Attempt, beside_log
from .interruption import Interrupted, ignore_signals, signals_raised
from .log import ended_with, is_device, put_aside
from .options import JobRequest
from .report import report_failures, say
from .script import substitute
from .slurm_config import SlurmConfig, find_config, read_slurm_config
from .slurm_endings import remarks, short_name
from .slurm_queries import FINAL, Ending, Slurm, Task, Unreachable, compress
from .slurm_script import job_script
from .slurm_submit import submit_surely

# seconds between two questions to the scheduler; a tenth of what the jobs have taken so far
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
_PATIENCE = 60.0  # seconds for a task that has left the queue to be accounted for
# how long tasks that Ctrl-C cancelled are waited for; Slurm kills those that do not end, later
_CANCEL_SECONDS = 20.0
_LEFT_BEHIND_SECONDS = 120.0  # and those whose place others are to take
_QUIET = 60.0  # seconds in the queue before a line says why

_INDEX = "\0"  # stands for an array's index until the path around it is quoted for Slurm


def run_slurm(request: JobRequest, program: str = "run_slurm.sh") -> int:
    """Submit the jobs and wait for all of them, also when some have failed.

    The script of the job lies beside the log, which has the head and the foot of a local one. What is left of
    an earlier attempt is taken up: tasks that wait or run are waited for instead of submitted again, and
    where a step passes on what its output is made from, tasks that are done are left alone (:mod:`.attempt`).
    Tasks of an attempt at something else are cancelled first.

    Returns:
        0 if all went well; 1 if not, after naming the failed jobs, their states, and the first one's last
        words on standard error; 128 + signal after an interruption: INT and TERM cancel the job, HUP (the
        terminal has gone) and USR1 leave it to be found again.
    """
    config = read_slurm_config(find_config(request.config))
    if is_device(request.log):
        raise UserError(
            f"{request.log} is no file: what is known of a job of Slurm lies in its log and beside it; name "
            "a file"
        )
    if "num_threads" not in request.given and (threads := config.defaults.get("num_threads", "")).isdigit():
        request.num_threads = int(threads)
    with Attempt(request) as attempt:
        submission = _Submission(request, program, config, attempt)
        try:
            with signals_raised():
                failed = submission.run()
        except Interrupted as interrupted:
            ignore_signals()
            submission.leave(interrupted)
            return 128 + interrupted.number
        if failed:
            report_failures(request, sorted(failed), program, remarks(failed, submission.task_of))
            return 1
        attempt.close()
    return 0


def site_names(config: str | None) -> list[str]:
    """Return the options that the configuration describes; for :func:`parse_request`."""
    return list(read_slurm_config(find_config(config)).options)


class _Submission:
    """The jobs of one request. ``waiting`` maps each task that has not ended to the number of its job."""

    def __init__(self, request: JobRequest, program: str, config: SlurmConfig, attempt: Attempt):
        self.request, self.program, self.config = request, program, config
        self.site = [*config.command, *config.sbatch_options(request.given)]
        self.limit = f"%{request.max_jobs_run}" if request.max_jobs_run else ""
        self.asked = shlex.join([*self.site, *([self.limit] if self.limit else [])])
        self.slurm = Slurm(inherited=attempt.descriptors)
        self.attempt = attempt
        self.script = os.path.abspath(beside_log(request, ".slurm.sh"))
        self.waiting: dict[Task, int] = {}
        self.task_of: dict[int, Task] = {}  # the latest, by job number
        self.seen: dict[Task, str] = {}  # the state in which a task was last in the queue
        self.silent = False  # the controller does not answer

    def run(self) -> dict[int, Ending]:
        """Return how those jobs ended that failed."""
        todo = self._take_up_earlier()
        failed = {}
        if todo and self.request.max_jobs_run and self.waiting:
            failed = self._wait()  # an array knows only of its own tasks
        if todo:
            self._submit(todo)
        failed |= self._wait()
        for number in range(1, self.request.retries + 1):
            again = sorted(n for n, ending in failed.items() if ending.state not in ("CANCELLED", "GONE"))
            if not again:
                break
            states = ", ".join(sorted({failed[n].state for n in again}))
            say(
                self.program,
                f"jobs {compress(again)} ended with {states}, again ({number} of {self.request.retries})",
            )
            self._submit(again)
            failed = {n: ending for n, ending in failed.items() if n not in again} | self._wait()
        return failed

    def _take_up_earlier(self) -> list[int]:
        """Wait for what is in the queue of the same attempt, or cancel what is of another; return the jobs to
        submit.
        """
        jobs = self._ask(self._recorded)
        live = self._ask(self.slurm.live, jobs) if jobs else {}
        if not self.attempt.resumed or any(entry.get("cancelled") for entry in self.attempt.jobs):
            live = self._clear(
                live,
                jobs,
                "which an earlier run left: it is of other inputs or options, was given up, or nothing tells",
            )
        else:
            why = f"which waits, and was asked for otherwise than {self.config.place} has it now"
            live = self._clear(live, self._asked_otherwise(live), why)
        if not self.attempt.resumed:
            self.attempt.begin()
            return list(self.request.numbers)
        for job, index in live:
            self._expect((job, index), self.request.first if index is None else index)
        # Entries that are no longer in the queue have told all they had to tell.
        names = " ".join(dict.fromkeys(short_name(job) for job, _ in live))
        asked = {entry["job"]: entry.get("asked", self.asked) for entry in self.attempt.jobs}
        self.attempt.jobs = []
        for job in dict.fromkeys(job for job, _ in live):
            numbers = compress(sorted(number for task, number in self.waiting.items() if task[0] == job))
            self.attempt.jobs.append({"job": job, "numbers": numbers, "asked": asked.get(job, self.asked)})
        todo = [number for number in self.attempt.todo() if number not in self.task_of]
        done = len(self.request.numbers) - len(todo) - len(live)
        if done:
            say(
                self.program,
                f"{done} of {len(self.request.numbers)} jobs are done by an earlier run; {self.request.logs}",
            )
        if live:
            say(
                self.program,
                f"{len(live)} of {len(self.request.numbers)} jobs are in the queue, from an earlier run: "
                f"Slurm job {names}",
            )
        self.attempt.write()
        return todo

    def _clear(self, live: dict, jobs: list[str], why: str) -> dict:
        """Cancel jobs of an earlier run, wait until they are gone, and return what else of it is in the
        queue.
        """
        jobs = [job for job in dict.fromkeys(job for job, _ in live) if job in jobs]
        if not jobs:
            return live
        say(self.program, f"cancelling Slurm job {' '.join(map(short_name, jobs))}, {why}")
        left = self._ask(self._cancel, jobs, _LEFT_BEHIND_SECONDS)
        if left:
            names = " ".join(map(short_name, left))
            raise UserError(
                f"Slurm job {names} does not end, and others are to take its place; see squeue, and try "
                "again later"
            )
        return {task: state for task, state in live.items() if task[0] not in jobs}

    def _asked_otherwise(self, live: dict) -> list[str]:
        """Return the jobs that do nothing but wait, and were submitted with other options: these may be what
        they wait for.
        """
        begun = {job for (job, _), (state, _) in live.items() if state != "PENDING"}
        return [
            entry["job"]
            for entry in self.attempt.jobs
            if entry["job"] not in begun and entry.get("asked", self.asked) != self.asked
        ]

    def _recorded(self) -> list[str]:
        """Return the jobs that are in the queue with our script: those of the record, and those that do not
        stand there (killed between sbatch and the record; a record that was removed, or cannot be read). A
        number of the record that is not among them has ended; by now another job may have it. Of other
        clusters the record alone tells.
        """
        elsewhere = [entry["job"] for entry in self.attempt.jobs if entry["job"] and ";" in entry["job"]]
        return elsewhere + [
            job for job in self.slurm.find(self.script) if job not in map(short_name, elsewhere)
        ]

    def _submit(self, numbers: list[int]) -> None:
        for number in numbers:
            put_aside(self.request.log_of(number))
        command = self._sbatch(numbers)
        write_text(self.script, job_script(self.request, numbers, command))
        entry = {"job": None, "numbers": compress(numbers), "asked": self.asked}
        self.attempt.jobs.append(entry)
        self.attempt.write()
        try:
            submit_surely(
                self.slurm,
                command,
                self.script,
                lambda text: say(self.program, text),
                lambda job: self._note(entry, job),
            )
        except Unreachable as error:
            raise UserError(f"Slurm takes no jobs ({error}); the same command tries again") from error
        except UserError as error:
            self.attempt.jobs.remove(entry)
            if self.attempt.jobs or len(numbers) < len(self.request.numbers):
                self.attempt.write()
            else:
                self.attempt.close()  # nothing of it has begun
            raise UserError(self._refused(str(error), command)) from error
        for number in numbers:
            self._expect((entry["job"], number if self.request.variable else None), number)
        many = f", {len(numbers)} tasks" if len(numbers) > 1 else ""
        say(self.program, f"Slurm job {short_name(entry['job'])}{many}, log is in {self.request.logs}")

    def _note(self, entry: dict, job: str) -> None:
        entry["job"] = job
        try:
            self.attempt.write()
        except UserError as error:  # the entry without a job, which stands there, has it found by its script
            say(self.program, f"warning: Slurm job {short_name(job)} is in the queue, but {error}")

    def _sbatch(self, numbers: list[int]) -> list[str]:
        """Return the command that submits. What the wrapper itself relies on comes last: no site's option can
        replace it.
        """
        log = os.path.abspath(self.request.log)
        if "\\" in log:
            raise UserError(f"Slurm cannot write to a path with a backslash ({log}); choose another name")
        array = []
        if self.request.variable:
            log = substitute(log, self.request.variable, _INDEX)
            array = [f"--array={compress(numbers)}{self.limit}"]
        name = re.sub(r"[^\w.-]", "_", os.path.basename(self.script).removesuffix(".slurm.sh"))
        named = any(word.startswith(("--job-name", "-J")) for word in self.site)
        return [
            *self.site,
            *([] if named else [f"--job-name={name}"]),
            "--parsable",
            "--open-mode=append",
            f"--output={log.replace('%', '%%').replace(_INDEX, '%a')}",
            *array,
            self.script,
        ]

    def _refused(self, said: str, command: list[str]) -> str:
        hint = f"The site's partition, account and limits are told in {self.config.place}"
        size = os.path.getsize(self.script)
        if self.config.place == "the built-in configuration":
            hint = "Tell the site's partition, account and limits in conf/slurm.conf (docs/slurm.md)"
        if size > 4_000_000:
            hint = (
                f"{self.script} has {size / 1e6:.0f} MB, and sites take 4 at most (max_script_size): "
                "shorter commands, or fewer jobs"
            )
        if "array" in said.lower():
            hint = (
                "The site may limit arrays, their highest number too (scontrol show config | grep -i "
                "array): try fewer jobs, with --nj"
            )
        return f"sbatch refused: {said}\n{hint}. The command was: {' '.join(command)}"

    def _expect(self, task: Task, number: int) -> None:
        self.waiting[task] = number
        self.task_of[number] = task

    def _wait(self) -> dict[int, Ending]:
        """Wait until every task has ended; return how those did that failed."""
        failed, missing, began = {}, {}, time.monotonic()
        said = (began, "")
        while self.waiting:
            live = self._ask(self.slurm.live, list(dict.fromkeys(job for job, _ in self.waiting)))
            gone = [task for task in self.waiting if task not in live]
            endings = self._ask(self.slurm.endings, gone) if gone else {}
            for task in gone:
                since = missing.setdefault(task, time.monotonic())
                ending = self._judge(task, endings.get(task), time.monotonic() - since)
                if ending:
                    number = self.waiting.pop(task)
                    if ending.state != "COMPLETED":
                        failed[number] = ending
            for task in live:
                missing.pop(task, None)
                self.seen[task] = live[task][0]
            said = self._say_waiting(live, said)
            if self.waiting:
                time.sleep(min(_LONGEST_PAUSE, max(_SHORTEST_PAUSE, (time.monotonic() - began) / 10)))
        return failed

    def _judge(self, task: Task, ending: Ending | None, seconds: float) -> Ending | None:
        """Return how a task ended that has left the queue, or None while that is not known. The log speaks
        where Slurm has forgotten, or still holds for running what its queue does not have (an accounting that
        missed the end does so for ever).
        """
        if ending and ending.state in FINAL:
            return ending
        if seconds < _PATIENCE / 10:
            return None
        log = self.request.log_of(self.waiting[task])
        code = ended_with(log)
        if code is not None:
            return Ending("FAILED" if code else "COMPLETED", code)
        # of tasks cancelled while they wait, the controller keeps nothing
        if self.seen.get(task) == "PENDING" and not os.path.exists(log):
            return Ending("GONE")
        return Ending("UNKNOWN") if seconds > _PATIENCE else None

    def _ask(self, question, *arguments):
        """Return what the scheduler answers, however long it takes: jobs run on while the controller is
        away.
        """
        while True:
            try:
                answer = question(*arguments)
            except Unreachable as error:
                self._say_silent(error)
                time.sleep(2)
                continue
            if self.silent:
                say(self.program, "Slurm answers again")
                self.silent = False
            return answer

    def _say_silent(self, error: Unreachable) -> None:
        if not self.silent:
            say(
                self.program,
                f"Slurm does not answer ({error}); jobs that run are none the worse, waiting for it",
            )
            self.silent = True

    def _say_waiting(self, live: dict, said: tuple[float, str]) -> tuple[float, str]:
        """Say now and then why nothing runs: a job that can never start looks like one that runs."""
        reasons = sorted({reason for state, reason in live.values() if state == "PENDING"})
        text = ", ".join(reasons)
        if (
            not reasons
            or any(state != "PENDING" for state, _ in live.values())
            or time.monotonic() - said[0] < _QUIET
            or text == said[1]
        ):
            return said
        say(
            self.program,
            f"{len(live)} jobs wait in the queue, none runs: {text} (squeue --me; docs/slurm.md)",
        )
        return time.monotonic(), text

    def _cancel(self, jobs: list[str], seconds: float) -> list[str]:
        """Cancel jobs, wait, for a time, until they are gone, and return those that are not."""
        end = time.monotonic() + seconds
        while True:
            self.slurm.cancel(jobs)
            for _ in range(10):
                left = list(dict.fromkeys(job for job, _ in self.slurm.live(jobs)))
                if not left or time.monotonic() > end:
                    return left
                time.sleep(_SHORTEST_PAUSE)

    def leave(self, interrupted: Interrupted) -> None:
        """End after a signal."""
        name, names = (
            interrupted.name,
            " ".join(short_name(entry["job"]) for entry in self.attempt.jobs if entry["job"]),
        )
        if name in ("SIGHUP", "SIGUSR1"):
            say(
                self.program,
                f"{name} received: {f'Slurm job {names} goes on' if names else 'ending'}; the same command "
                "finds it again",
            )
            return
        for entry in self.attempt.jobs:
            entry["cancelled"] = True
        try:
            self.attempt.write()
            jobs = self._recorded()
            jobs = list(dict.fromkeys(job for job, _ in self.slurm.live(jobs))) if jobs else []
            left = self._cancel(jobs, _CANCEL_SECONDS) if jobs else []
        except (Unreachable, UserError) as error:
            say(
                self.program,
                f"{name} received, but could not cancel ({error}); do so yourself: scancel "
                f"{names or '(see squeue --me)'}",
            )
            return
        names = " ".join(map(short_name, left or jobs))
        how = f"cancelled Slurm job {names}" if jobs else "nothing was in the queue"
        say(
            self.program,
            f"{name} received: {how}{', which has not ended yet: see squeue --me' if left else ''}",
        )
