"""The Slurm back-end: one array job for ``JOB=1:N``, waited for until its last task has ended."""

import os
import shlex
import time
from functools import partial

from pydino.base import UserError, write_text

from ..signals import Interrupted, signals_raised
from ..wrapper.attempt import Attempt
from ..wrapper.command import substitute
from ..wrapper.log import is_device, put_aside
from ..wrapper.report import report_failures, say
from ..wrapper.request import JobRequest
from .config import SlurmConfig, find_config, read_slurm_config
from .endings import remarks
from .lookup import look_up, marked, new_entry
from .scheduler import Ending, Slurm, Task, Unreachable, compress, doubled, short_name, short_names
from .script import job_script, script_path
from .submit import Refused, submit
from .waiting import Waiter

_CANCEL_SECONDS = 20.0  # how long tasks that Ctrl-C cancelled are waited for; Slurm kills the others later
_REPLACE_SECONDS = 120.0  # how long those of an earlier run are waited for, as others take their place

_INDEX = "\0"  # stands for an array's index until the path around it is quoted for Slurm


def run_slurm(request: JobRequest, program: str = "run_slurm.sh") -> int:
    """Submit the jobs and wait for all of them, also when some have failed.

    The script of the job lies beside the log, which has the head and the foot of a local one. An earlier
    attempt is resumed (:mod:`..wrapper.attempt`): tasks in the queue are waited for instead of submitted
    again, and where it is known what the output is made from, tasks that are done are skipped. Tasks of a
    different attempt are cancelled first.

    Returns: 0 if all succeeded; 1 if not, after naming the failed jobs, their states, and showing the end
        of the first one's log; 128 + signal after an interruption: INT and TERM cancel the job, HUP (the
        terminal is closed) and USR1 leave it to be found again.
    """
    config = read_slurm_config(find_config(request.given.get("config")))
    if is_device(request.log):
        raise UserError(
            f"the log {request.log} has to be a file: the state of a Slurm job is kept in and beside it"
        )
    if "num_threads" not in request.given and (threads := config.defaults.get("num_threads", "")).isdigit():
        request.num_threads = int(threads)
    with Attempt(request) as attempt:
        submission = _Submission(request, program, config, attempt)
        try:
            with signals_raised():
                failed = submission.run()
        except Interrupted as interrupted:
            submission.leave(interrupted.name)
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
    """The jobs of one request."""

    def __init__(self, request: JobRequest, program: str, config: SlurmConfig, attempt: Attempt):
        self.request, self.config, self.attempt = request, config, attempt
        self.say = partial(say, program)
        self.limit = f"%{request.max_jobs_run}" if request.max_jobs_run else ""
        site = [*config.command, *config.sbatch_options(request.given)]
        self.options = shlex.join(filter(None, [*site, self.limit]))
        self.slurm = Slurm(inherited=attempt.descriptors)
        self.script = script_path(request)
        self.waiter = Waiter(request, self.slurm, config.poll, self.say)
        self.task_of: dict[int, Task] = {}  # the latest, by job number
        self.more: dict[int, dict[str, str]] = {}  # memory and time of those that took more, by job number
        self.entries: list[dict] = []  # those of the record that are known to be ours

    def run(self) -> dict[int, Ending]:
        """Return the endings of the failed jobs."""
        todo = self._resume()
        failed = {}
        if todo and self.limit and self.waiter.tasks:
            failed = self.waiter.wait()  # the limit of an array holds for its own tasks only
        if todo:
            self._submit(todo)
        failed |= self.waiter.wait()
        for attempt in range(1, self.request.retries + 1):
            ended = {n: failed.pop(n) for n in sorted(failed) if failed[n].state not in ("CANCELLED", "GONE")}
            groups: dict[str, list[int]] = {}
            for number, ending in ended.items():
                more = self.config.twice(ending.state, self.request.given | self.more.get(number, {}))
                self.more[number] = self.more.get(number, {}) | more
                groups.setdefault(_spelt(self.more[number]), []).append(number)
            for more, numbers in groups.items():
                states = ", ".join(sorted({ended[n].state for n in numbers}))
                which = f"again{more and ' with'}{more} ({attempt} of {self.request.retries})"
                self.say(f"jobs {compress(numbers)} ended with {states}, {which}")
                self._submit(numbers)
                failed |= self.waiter.wait() if self.limit else {}
            failed |= self.waiter.wait()
        return failed

    def _resume(self) -> list[int]:
        """Wait for what the same attempt has in the queue, or cancel what another has; return the jobs to
        submit.
        """
        jobs = self.waiter.ask(self._look_up)
        live = self.waiter.ask(self.slurm.live, jobs) if jobs else {}
        options = {entry["job"]: entry.get("options", self.options) for entry in self.attempt.jobs}
        if not self.attempt.resumed or any(entry.get("cancelled") for entry in self.attempt.jobs):
            why = "which an earlier run left: it is of other inputs or options, was cancelled, or is unknown"
            live = self._clear(live, jobs, why)
        else:  # with other options, it may be these that a job waits for
            started = {job for (job, _), (state, _) in live.items() if state != "PENDING"}
            outdated = [job for job, used in options.items() if job not in started and used != self.options]
            why = f"which waits and was submitted with other options than {self.config.place} gives now"
            live = self._clear(live, outdated, why)
        if not self.attempt.resumed:
            self.attempt.start()
            self.entries = self.attempt.jobs
            return list(self.request.numbers)
        self.waiter.tasks = {task: self.request.first if task[1] is None else task[1] for task in live}
        self.task_of = {number: task for task, number in self.waiter.tasks.items()}
        names = dict.fromkeys(job for job, _ in live)
        known = {entry["job"]: entry for entry in self.attempt.jobs}
        self.entries = self.attempt.jobs = [known.get(job) or self._entry(job) for job in names]
        self.attempt.write()
        todo = [number for number in self.attempt.todo() if number not in self.task_of]
        of_all = f"of {len(self.request.numbers)} jobs are"
        if done := len(self.request.numbers) - len(todo) - len(live):
            self.say(f"{done} {of_all} done by an earlier run; {self.request.logs}")
        if live:
            self.say(
                f"{len(live)} {of_all} in the queue, from an earlier run: Slurm job {short_names(names)}"
            )
        return todo

    def _clear(self, live: dict, jobs: list[str], why: str) -> dict:
        """Cancel jobs of an earlier run until they are gone; return what else of it is in the queue."""
        jobs = [job for job in dict.fromkeys(job for job, _ in live) if job in jobs]
        if not jobs:
            return live
        self.say(f"cancelling Slurm job {short_names(jobs)}, {why}")
        if left := self.waiter.ask(self._cancel, jobs, _REPLACE_SECONDS):
            raise UserError(
                f"Slurm job {short_names(left)} does not end, and others are to take its place; look at "
                "squeue --me, and try again later"
            )
        return {task: state for task, state in live.items() if task[0] not in jobs}

    def _entry(self, job: str | None = None) -> dict:
        return new_entry(self.script, job=job, options=self.options)

    def _look_up(self) -> list[str]:
        return look_up(self.slurm, self.attempt.jobs, self.attempt.path, self.script)

    def _submit(self, numbers: list[int]) -> None:
        for number in numbers:
            put_aside(self.request.log_of(number))
        entry = self._entry()
        command = self._sbatch(numbers, entry)
        write_text(self.script, job_script(self.request, numbers, command))
        self.attempt.jobs.append(entry)
        self.attempt.write()
        try:
            submit(self.slurm, self.config, command, self.attempt, self.say)
        except Refused:
            if self.attempt.jobs or len(numbers) < len(self.request.numbers):
                self.attempt.write()
            else:
                self.attempt.close()  # nothing of it has started
            raise
        for number in numbers:
            task = (entry["job"], number if self.request.variable else None)
            self.waiter.tasks[task], self.task_of[number] = number, task
        many = f", {len(numbers)} tasks" if len(numbers) > 1 else ""
        self.say(f"Slurm job {short_name(entry['job'])}{many}, log is in {self.request.logs}")

    def _sbatch(self, numbers: list[int], entry: dict) -> list[str]:
        """Return the command that submits. What the wrapper itself relies on comes last: no site's option can
        replace it.
        """
        log = os.path.abspath(self.request.log)
        if "\\" in log:
            raise UserError(f"Slurm cannot write to a path with a backslash ({log}); choose another name")
        if self.request.variable:
            log = substitute(log, self.request.variable, _INDEX)
        output = log.replace("%", "%%").replace(_INDEX, "%a")
        array = [f"--array={compress(numbers)}{self.limit}"] if self.request.variable else []
        ours = ["--parsable", "--open-mode=append", f"--output={output}", *array]
        given = self.request.given | self.more.get(numbers[0], {})
        return marked(entry, [*self.config.command, *self.config.sbatch_options(given), *ours])

    def _cancel(self, jobs: list[str], seconds: float) -> list[str]:
        """Cancel jobs, wait, for a time, until they are gone, and return those that are not."""
        end, pauses = time.monotonic() + seconds, doubled(0.5, 10.0)
        self.slurm.cancel(jobs)
        while (left := self.slurm.jobs_in_queue(jobs)) and time.monotonic() < end:
            time.sleep(next(pauses))
        return left

    def leave(self, signal_name: str) -> None:
        """End after a signal."""
        names = short_names(entry["job"] for entry in self.attempt.jobs if entry["job"])
        if signal_name in ("SIGHUP", "SIGUSR1"):
            jobs = f"Slurm job {names} goes on" if names else "ending"
            self.say(f"{signal_name} received: {jobs}; the same command finds it again")
            return
        for entry in self.attempt.jobs:
            entry["cancelled"] = True
        try:
            self.attempt.write()
            lost = not self.entries or any(not entry["job"] for entry in self.entries)
            jobs = self.slurm.jobs_in_queue([entry["job"] for entry in self.entries if entry["job"]])
            if lost:
                self.slurm.cancel(jobs)
                jobs += [job for job in self._look_up() if job not in jobs]
            left = self._cancel(jobs, _CANCEL_SECONDS) if jobs else []
            said = f"cancelled Slurm job {short_names(left or jobs)}" if jobs else "nothing was in the queue"
            said += ", which has not ended yet: see squeue --me" if left else ""
        except (Unreachable, UserError) as error:
            said = f"could not cancel ({error}); do so yourself: scancel {names or '(see squeue --me)'}"
        self.say(f"{signal_name} received: {said}")


def _spelt(options: dict[str, str]) -> str:
    return "".join(f" --{name} {value}" for name, value in sorted(options.items()))
