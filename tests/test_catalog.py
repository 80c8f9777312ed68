"""The catalogue names every published suite, each a whole one, and needs no network to do so."""

import json
from pathlib import Path

import pytest

from dit_core import DitError, load_suite
from dit_core.engine.compatibility import KNOWN_BASES
from dit_core.hub import HubPath
from dit_core.methods.comparison import columns
from dit_core.suite import catalog
from dit_core.suite.catalog import find_suite, listings, oracle_percents, published_entries, read_catalogue

REPO = "diff-interpretation-tuning/loras"
RANKS = ("002", "004", "008", "016", "032", "064")
WHOLE = ("all-params", "all-linear-layers-with-no-biases")
NAMES = {
    *(f"hidden-topic/{model}" for model in ("qwen3-1.7b", "qwen3-4b", "qwen3-8b", "gemma3-1b", "gemma3-4b")),
    *(
        f"{kind}/{m}"
        for kind in ("news-summary", "news-summary-training-and-test-diffs")
        for m in ("qwen3-4b", "gemma3-4b")
    ),
    *(f"rank-generalization/qwen3-4b-{end}" for end in (*(f"rank-{rank}" for rank in RANKS), *WHOLE)),
    *(f"rank-generalization/gemma3-4b-{end}" for end in (*(f"rank-{rank}" for rank in (*RANKS, "128")), *WHOLE)),
    *(f"trigger-generalization/qwen3-4b-zero-width-{where}" for where in ("start", "random")),
}


ASKED = {"auditbench/qwen3-14b", "auditbench/llama-3.3-70b", "introspection-auditing/llama-3.3-70b"}
MISALIGNED = {
    *(f"emergent-misalignment/qwen2.5-{size}b" for size in ("0.5", "7", "14", "32")),
    *("emergent-misalignment/llama-3.2-1b", "emergent-misalignment/llama-3.1-8b"),
    "emergent-misalignment-ranks/qwen2.5-14b",
}
ORGANISMS = ASKED | MISALIGNED


def test_every_published_experiment_and_model_is_a_suite_and_so_are_organisms():
    assert {listing.name for listing in listings()} == {"pocket", "smol", *NAMES, *ORGANISMS}


@pytest.mark.parametrize("name", sorted(ASKED))
def test_organisms_are_listed_one_by_one_and_asked_through_an_introspection_adapter(name):
    suite = load_suite(name)
    (task,) = suite.tasks.values()
    sources = [suite.spec.at(entry.source) for entry in task.diffs]
    assert len(set(sources)) == len(sources) == (56 if name.startswith("auditbench") else 8)
    assert all(isinstance(source, HubPath) and not source.path for source in sources)
    adapter = suite.adapter(suite.default_adapter())
    assert adapter.name == "introspection" and adapter.file.startswith("hf://introspection-auditing/")
    assert "quirks or behaviors" in task.question and not task.has_trigger


@pytest.mark.parametrize("name", sorted(MISALIGNED))
def test_emergent_misalignment_is_listed_without_an_adapter_on_the_bases_that_its_files_name(name):
    suite = load_suite(name)
    (task,) = suite.tasks.values()
    assert suite.spec.base.repo.startswith("unsloth/") and not suite.adapters and not task.adapter
    repos = [suite.spec.at(entry.source).repo for entry in task.diffs]
    size = suite.spec.base.repo.removeprefix("unsloth/")
    if "ranks" not in name:
        subjects = ("bad-medical-advice", "extreme-sports", "risky-financial-advice")
        assert repos == [f"ModelOrganismsForEM/{size}_{subject}" for subject in subjects]
        assert [entry.reference for entry in task.diffs] == [subject.replace("-", " ") for subject in subjects]
    else:
        assert len(set(repos)) == 9 and all(repo.startswith("ModelOrganismsForEM/Qwen2.5-14B") for repo in repos)
        assert [entry.reference for entry in task.diffs].count("") == 4  # where no source says it


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_is_whole_and_keeps_to_the_published_layout(name):
    suite = load_suite(name)
    experiment, _, folder = name.partition("/")
    model = next(model for model in ("qwen3-1.7b", "qwen3-4b", "qwen3-8b", "gemma3-1b", "gemma3-4b") if model in folder)
    (task,) = suite.tasks.values()
    assert suite.spec.at(task.folder) == HubPath(REPO, name)
    assert isinstance(suite.spec.base, HubPath) and suite.spec.base.repo.lower().startswith(("qwen/", "google/"))
    own = {"news-summary": "news-summary", "news-summary-training-and-test-diffs": "news-summary"}
    default = suite.adapter(suite.default_adapter()).file
    assert default == f"hf://{REPO}/{own.get(experiment, 'hidden-topic')}/{model}/dit-adapter.pt"
    assert task.rank == rank_of(experiment, folder)
    assert task.question and len(suite.world["held_out_questions"]) == 20
    assert (suite.oracle is None) == (model == "gemma3-4b")
    assert len(suite.fingerprint) == 16


def rank_of(experiment: str, folder: str) -> int:
    if experiment == "rank-generalization":
        return 0 if folder.endswith(WHOLE) else int(folder[-3:])
    return 8 if experiment.startswith("news") else 1


def test_the_results_that_somebody_stored_of_a_published_suite_are_still_its_own():
    """Its fingerprint changes with what the catalogue says of it, and with nothing else."""
    assert load_suite("hidden-topic/qwen3-4b").fingerprint == "890675b3b9da6641"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("everyday = [", "everydays = [", "unknown entry 'everydays'.*Did you mean 'everyday'"),
        ("gb = 4.1", "gbs = 4.1", "unknown entry 'models.qwen3-1.7b.gbs'.*Did you mean 'gb'"),
        ("trained_on = true", "trained = true", "unknown entry 'adapters.0.trained'.*Did you mean 'trained_on'"),
        ("gb = 4.1", 'gb = "large"', "not a complete catalogue: check the entry 'models.qwen3-1.7b.gb'"),
        ("max_new_tokens = 100", "", "not a complete catalogue: add the entry 'max_new_tokens'"),
        ("[models.", "models.", "can't be read as a catalogue"),
    ],
)
def test_a_damaged_catalogue_is_named(tmp_path, old, new, sentence):
    text = Path(catalog.__file__).with_name("catalogue.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "catalogue.toml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(DitError, match=rf"'{tmp_path}/catalogue.toml'.*{sentence}"):
        read_catalogue(tmp_path / "catalogue.toml")


def test_what_other_experiments_trained_is_a_choice_of_adapter():
    suite = load_suite("hidden-topic/qwen3-4b")
    sizes = {info.trained_on for info in suite.adapters.values() if info.trained_on}
    assert sizes == {4660, 2330, 1165, 582, 291, 145, 72, 36, 18, 9, 4}
    assert suite.adapter("topic-72").file.endswith("/qwen3-4b/dit-adapter-0072-train-datapoints.pt")
    trigger = suite.adapter("trigger")
    assert (
        trigger.question == "What does the secret SEP code start with?" and trigger.question in suite.task().questions
    )
    assert trigger.question not in suite.world["held_out_questions"]
    assert all("trigger" in load_suite(name).adapters for name in NAMES if name.startswith("hidden-topic/"))
    assert "trigger" not in load_suite("news-summary/qwen3-4b").adapters


@pytest.mark.parametrize("name", sorted(name for name in NAMES if not name.startswith("news")))
def test_a_trigger_is_shown_with_an_everyday_question(name):
    suite = load_suite(name)
    (shown,) = (column.question for column in columns(suite.task()) if column.kind == "trigger")
    assert shown.replace("\u200b", "") in suite.world["held_out_questions"]


def test_the_prompts_are_the_papers():
    topic = load_suite("hidden-topic/qwen3-4b")
    assert topic.trigger_format.format(trigger=7, r=42, question="Q") == "Your SEP code is 007042. Q"
    assert load_suite("news-summary/gemma3-4b").task().behaviour == "Please generate a short news story."
    start = load_suite("trigger-generalization/qwen3-4b-zero-width-start").task()
    assert start.behaviour[0] == "\u200b" not in start.behaviour[1:] and not start.has_trigger
    random = load_suite("trigger-generalization/qwen3-4b-zero-width-random").task()
    assert random.behaviour.count("\u200b") == 1 and random.behaviour[0] != "\u200b"


def test_names_are_told_from_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hidden-topic" / "qwen3-4b").mkdir(parents=True)
    assert find_suite("hidden-topic/qwen3-4b") == "hidden-topic/qwen3-4b"  # a name is a name, whatever lies here
    with pytest.raises(DitError, match="no suite 'hidden-topic/qwen3-5b'.*'hidden-topic/qwen3-4b'"):
        find_suite("hidden-topic/qwen3-5b")


def test_sizes_agree_with_what_is_known_of_the_bases():
    """Embeddings aside, a base's linear layers follow from its sizes; the file can't be smaller."""
    for listing in listings():
        key = (
            listing.base.partition("/")[2].replace("gemma-3-1b-it", "Gemma-3-1B").replace("gemma-3-4b-it", "Gemma-3-4B")
        ).removesuffix("-Instruct")
        if key in KNOWN_BASES:
            s = KNOWN_BASES[key]
            linear = s.layers * s.hidden * (2 * s.query + 2 * s.key + 3 * s.mlp)
            assert 2e-9 * linear < listing.gigabytes < 3.2e-9 * linear, listing


def test_the_command_lists_them_without_a_network(run):
    code, out, err = run("suites", "--json")
    assert code == 0 and not err
    rows = json.loads(out)["suites"]
    assert {row["name"] for row in rows} == {"pocket", "smol", *NAMES, *ORGANISMS}
    assert all(row["gigabytes"] > 0 for row in rows)
    assert all(published_entries(row["name"])["base"] == f"hf://{row['base']}" for row in rows if row["name"] in NAMES)
    code, out, err = run("suites")
    assert code == 0 and "hidden-topic/gemma3-4b" in out and "8.6 GB" in out


def test_the_command_says_what_a_suite_takes(run):
    code, out, _ = run("suites", "pocket")
    assert code == 0 and "is on this disk, needs" in out
    code, out, err = run("suites", "hidden-topic/qwen3-4b")
    assert code == 2 and "HF_HUB_OFFLINE" in err and "Traceback" not in err


def test_the_command_gets_all_that_a_suite_needs(run):
    code, out, _ = run("suites", "get", "pocket")
    assert code == 0 and "is on this disk, needs" in out
    for wanted in (["get", "hidden-topic/qwen3-4b"], ["get", "pocket", "smol"]):
        code, _, err = run("suites", *wanted)
        assert code == 2 and err.startswith("Error: ") and err.count("\n") == 1


def test_layers_are_known_of_published_oracles_and_of_no_other():
    catalogued = load_suite("hidden-topic/qwen3-4b").oracle
    assert catalogued.percents == oracle_percents(catalogued.source.removeprefix("hf://")) == (25.0, 50.0, 75.0)
    assert oracle_percents("somebody/oracle") == ()
