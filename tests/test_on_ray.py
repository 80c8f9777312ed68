"""A scoreboard that is shared out comes to what one process finds, whoever dies; with actors pretended and of Ray."""

import json
import pickle
import sys
from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace

import psutil
import pytest

from dit_core import DitError
from dit_core.records import DiffInfo, Finding
from dit_core.scoreboard import OnRay, findings, mean_scores, stream
from dit_core.scoreboard import ray_engine as on_ray
from dit_core.scoreboard.jobs import Agenda, Job, LocalEngine
from dit_core.scoreboard.ledger import Ledger
from dit_core.scoreboard.ray_engine import Actor, share_jobs
from dit_core.scoreboard.rows import Row
from tests.test_command_line import run as run_command  # noqa: F401 (a fixture)


@pytest.fixture(scope="module")
def plain(suite):
    return findings(suite)


def assert_same(found, plain):
    """The same words and grades; log-probabilities but for what rounding in other batches does."""
    assert [(one.method, one.diff, one.layer, one.answers) for one in found] == [
        (one.method, one.diff, one.layer, one.answers) for one in plain
    ]
    for one, other in zip(found, plain, strict=True):
        assert one.values.keys() == other.values.keys()
        for measure, values in one.values.items():
            assert values == (pytest.approx(other.values[measure], abs=1e-4) if measure == "lift" else
                              other.values[measure])  # fmt: skip


class Scrambled:
    """An engine of three workers that know only what can be sent to them, the last job first."""

    workers = 3

    def run_jobs(self, suite, rows, jobs, on_start):
        sent = pickle.dumps((suite, rows))
        while jobs:
            job = jobs.pop()
            on_start(job)
            there, others = pickle.loads(sent)
            yield job, pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(job)).run(there, others)))


@pytest.mark.long
def test_jobs_done_elsewhere_in_any_order_come_to_the_same(suite, plain, tmp_path):
    file = tmp_path / "board.jsonl"
    tables = stream(suite, file=file, engine=Scrambled())
    for table in tables:
        if len(table) > 30:
            break
    tables.close()
    kept = [one for line in file.read_text().splitlines() for one in json.loads(line).get("findings", ())]
    assert len(kept) == len(table), "all but what was in flight is on disk"
    assert_same(findings(suite, file=file), plain), "another engine goes on with the same file"
    told = []
    assert_same(findings(suite, progress=lambda *now: told.append(now), engine=Scrambled()), plain)
    done = [done for done, _, _ in told]
    assert done == sorted(done) and told[-1][:2] == (told[-1][1], told[-1][1])


# -------------------------------------------------------------------- actors that are only pretended


class Died(Exception):
    """As Ray's, of an actor."""


class Failed(Exception):
    """As Ray's, of what an actor was doing; the reason is its `cause`."""

    def __init__(self, cause):
        self.cause = cause


@dataclass(eq=False)
class Call:
    """Something an actor was asked to do."""

    actor: "Acted"
    name: str
    given: object


class Acted:
    """An actor of this process; `lives` says how many calls it survives."""

    def __init__(self, hand, lives=99):
        self.hand, self.lives = hand, lives
        self.open, self.run = (SimpleNamespace(remote=self._later(name)) for name in ("open", "run"))

    def _later(self, name):
        def call(given):
            self.lives -= 1
            return Call(self, name, given)

        return call


class PretendedRay:
    """What is used of Ray, in one thread: the call that was made last ends first."""

    exceptions = SimpleNamespace(RayActorError=Died, RayTaskError=Failed)

    def wait(self, running, timeout):
        return running[-1:], running[:-1]

    def get(self, call):
        if call.actor.lives < 0:
            raise Died("The actor is dead.\nIts last words.")
        try:
            return getattr(call.actor.hand, call.name)(call.given)
        except Exception as error:
            raise Failed(error) from error


class Lengths(Row):
    """Finds how long ids are, after a choice of how much to add; one of them can't be done."""

    key, measures, choice_answers, batch_size = ("length", "topic", ""), ("length",), 1, 2

    def __init__(self, count):
        self.infos = [DiffInfo(f"topic-{at:04d}", "topic", "test", 1, "", None) for at in range(count)]

    def choose(self, suite):
        return {"more": 3}

    def find(self, suite, infos, choice):
        if len(self.infos) > 20:
            raise DitError("Ids are too long: take shorter ones.")
        return [Finding(*self.key, None, one.id, (), {"length": (len(one.id) + choice["more"],)}) for one in infos]


def shared(suite, hands, count=11, ray=None):
    """What so many ids come to with these actors, and how many jobs each was given."""
    rows, ledger = [Lengths(count)], Ledger({})
    agenda = Agenda(suite, rows, ledger, len(hands))
    for job, found in share_jobs(ray or PretendedRay(), hands, suite, rows, agenda.jobs, lambda job: None):
        agenda.add_result(job, found)
    assert agenda.done == agenda.total == 1 + count
    return sorted(one.diff for one in ledger.findings if one.values == {"length": (13,)})


def test_the_diffs_of_an_actor_that_dies_go_to_another(suite):
    everything = [info.id for info in Lengths(11).infos]
    assert shared(suite, [Acted(Actor())]) == everything
    for lives in range(6):  # it dies as it opens, at the choice, or at one of the parts
        assert shared(suite, [Acted(Actor(), lives), Acted(Actor()), Acted(Actor(), 3)]) == everything


def test_when_all_have_died_it_is_said(suite):
    with pytest.raises(
        DitError, match=r"All 2 actors died \(topic length: The actor is dead\). What was found is kept"
    ):
        shared(suite, [Acted(Actor(), 2), Acted(Actor(), 3)])


def test_what_an_actor_cannot_do_is_said_as_here(suite):
    with pytest.raises(DitError, match="^Ids are too long: take shorter ones.$"):
        shared(suite, [Acted(Actor()), Acted(Actor())], count=21)


def test_an_actor_with_other_files_is_refused(suite):
    class Elsewhere(Actor):
        def open(self, packed):
            return super().open(packed) + "0"

    with pytest.raises(DitError, match="other files of the suite"):
        shared(suite, [Acted(Elsewhere())])


def test_a_cluster_without_room_is_said(suite):
    class Full(PretendedRay):
        def wait(self, running, timeout):
            assert timeout == on_ray.START_SECONDS
            return [], running

    with pytest.raises(DitError, match="No actor could start"):
        shared(suite, [Acted(Actor())], ray=Full())


def test_here_takes_jobs_that_come_in_later(suite):
    rows, jobs = [Lengths(2)], deque([Job(0)])
    done = []
    for job, _ in LocalEngine().run_jobs(suite, rows, jobs, lambda job: None):
        done.append(job)
        if len(done) < 3:
            jobs.append(Job(0, tuple(rows[0].infos), {"more": len(done)}))
    assert [job.choice for job in done] == [None, {"more": 1}, {"more": 2}]


# -------------------------------------------------------------------- what is wrong with a request


def test_what_makes_no_sense_is_one_sentence(run_command, monkeypatch):  # noqa: F811
    for options, sentence in (
        (["--engine", "rya"], "There is no engine 'rya': use here or ray."),
        (["--address", "auto"], "An address is one of a Ray cluster: add --engine ray."),
        (["--engine", "ray", "--actors", "0"], "The number of actors must be at least 1, not 0."),
    ):
        code, _, error = run_command("scoreboard", "--limit", "1", *options)
        assert code == 2 and error.strip() == f"Error: {sentence}"
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DitError, match="pip install -r requirements-ray.txt"):
        OnRay()


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "here", "here:there"])
def test_a_cluster_that_is_not_there_is_said_at_once(suite, address):
    with pytest.raises(DitError, match=f"No Ray cluster could be reached at '{address}' .*: check the address"):
        findings(suite, limit=1, kinds=["lens"], engine=OnRay(2, address))


# -------------------------------------------------------------------- Ray itself


@pytest.mark.slow
def test_ray_finds_what_one_process_finds_though_an_actor_is_killed(suite, plain, tmp_path):
    killed = []
    for table in stream(suite, file=tmp_path, engine=OnRay(actors=2)):
        actors = [one for one in psutil.Process().children(recursive=True) if one.name().startswith("ray::Actor")]
        if len(actors) == 2 and not killed:
            actors[0].kill()
            killed.append(len(table))
    assert killed and killed[0] < len(plain), "one of two, while there was work left"
    assert_same(table, plain)
    assert mean_scores(table).records[0] == mean_scores(plain).records[0]
    assert not [one for one in psutil.Process().children(recursive=True) if "ray" in one.name()], "nothing is left"
    assert_same(findings(suite, file=tmp_path), plain)
