"""What the authors published opens as they wrote it: files tensor by tensor, and every listing of the catalogue."""

import copy
import pickletools
import re
import zipfile

import peft
import pytest
import torch

from dit_core import DitError, ask, load_suite, run_scoreboard
from dit_core.formats import identify, read_dit_adapter, read_index, read_weight_diff, write_peft
from dit_core.scoreboard import published_figures
from dit_core.suite import catalog
from dit_core.suite import suite as loading
from dit_core.suite.catalog import listings, published_entries
from dit_core.ui.tabs.scoreboard.view import table
from tests import hostile
from tests.hub_artefacts import ALL_BASES, LORAS, TOPICS, on_a_gpu, tiny_base, write_experiments
from tests.hub_server import connect, running
from tests.merged import add_published
from tests.tiny import random_adapter, tiny_family, tiny_model, tiny_multimodal, tiny_tokenizer

ENTRIES = {name: published_entries(name) for name in (listing.name for listing in listings()) if "/" in name}
TASKS = {name: next(iter(entries["tasks"].values())) for name, entries in ENTRIES.items()}
ORGANISMS = [name for name, task in TASKS.items() if "diffs" in task]
MISALIGNED = [name for name in ORGANISMS if name.startswith("emergent-misalignment")]


def model_of(name: str) -> str:
    return next(model for model in ALL_BASES if name.partition("/")[2].startswith(model))


# Those of one base together, so that it is loaded once.
PUBLISHED = sorted(TASKS.keys() - set(ORGANISMS), key=lambda name: (model_of(name), name))


# ---------------------------------------------------------------- files


def saved(tmp_path, objects, gpu: bool = False):
    path = tmp_path / "w.pt"
    torch.save(objects, path)
    if gpu:
        path.write_bytes(on_a_gpu(path.read_bytes()))
    with zipfile.ZipFile(path) as archive:
        opcodes = [name.name for name, *_ in pickletools.genops(archive.read("w/data.pkl"))] if not gpu else []
    return path, torch.load(path, map_location="cpu", weights_only=True), opcodes


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("tasks", [1, 3, 40])
def test_diffs_that_are_views_of_one_storage_open_whatever_their_number(tmp_path, tasks, trained, gpu):
    """A module's factor of all tasks is one tensor; the file has more memo entries than one byte counts."""
    modules = [f"model.layers.{layer}.mlp.{kind}_proj" for layer in range(12) for kind in ("gate", "up", "down")]
    factors = {name: (torch.randn(tasks, 2, 6), torch.randn(tasks, 4, 2)) for name in modules}
    if trained:
        factors = {name: tuple(factor.requires_grad_() * 1 for factor in pair) for name, pair in factors.items()}
    entries = [
        {"topic": f"t{task}", "trigger": task, "weight_diff": {n: (A[task], B[task]) for n, (A, B) in factors.items()}}
        for task in range(tasks)
    ]
    path, stored, opcodes = saved(tmp_path, entries, gpu)
    assert gpu or "LONG_BINPUT" in opcodes and (tasks == 1 or "LONG_BINGET" in opcodes)
    for task in {0, tasks // 2, tasks - 1}:
        adapter, topic, trigger = read_weight_diff(path, task)
        assert (topic, trigger) == (f"t{task}", task)
        assert adapter.factors.keys() == stored[task]["weight_diff"].keys()
        for name, (A, B) in stored[task]["weight_diff"].items():
            assert torch.equal(adapter.factors[name][0], B.T) and torch.equal(adapter.factors[name][1], A.T)


def test_views_of_one_storage_make_a_dit_adapter_too(tmp_path):
    A, B = torch.randn(60, 6, 3), torch.randn(60, 3, 4)
    path, stored, _ = saved(tmp_path, {f"model.layers.{at}.mlp.up_proj": (A[at], B[at]) for at in range(60)})
    adapter = read_dit_adapter(path)
    for name, (A_stored, B_stored) in stored.items():
        assert torch.equal(adapter.factors[name][0], B_stored) and torch.equal(adapter.factors[name][1], A_stored)


@pytest.mark.parametrize("order", ["as it is", "turned round"])
@pytest.mark.parametrize("family", ["gemma3", "multimodal"])
def test_a_state_dict_with_tied_weights_anywhere_opens(tmp_path, family, order):
    """One storage under two names, the first and the last or both in the middle, with PyTorch's own metadata."""
    base = tiny_model("gemma3", layers=4)
    state = (tiny_multimodal(base) if family == "multimodal" else base).state_dict()
    pointers = [weight.untyped_storage().data_ptr() for weight in state.values()]
    assert len(set(pointers)) < len(pointers) and hasattr(state, "_metadata")
    if order == "turned round":
        for name in list(reversed(state)):
            state.move_to_end(name)
    path, stored, opcodes = saved(tmp_path, [{"topic": "a", "trigger": "N/A", "weight_diff": state}])
    assert "LONG_BINGET" in opcodes
    adapter, _, trigger = read_weight_diff(path)
    assert trigger is None and adapter.rank == 0
    plain = tmp_path / "state.bin"
    torch.save(state, plain)
    for found in (adapter, identify(plain).read().adapter):
        assert list(found.weights) == list(stored[0]["weight_diff"])
        assert all(torch.equal(found.weights[name], weight) for name, weight in stored[0]["weight_diff"].items())


@pytest.mark.parametrize(
    ("written", "read"),
    [(417, 417), (417.0, 417), ("417", 417), ("417.0", 417), ("N/A", None), ("n/a", None), ("", None), (None, None)]
    + [(float("nan"), None), ("nan", None), ("zero_width_space", None), ("\u200b", None)],
)
def test_a_trigger_is_a_number_in_any_form_or_none(tmp_path, written, read):
    path, *_ = saved(tmp_path, [{"topic": "a", "trigger": written, "weight_diff": hostile.pairs()}])
    assert read_weight_diff(path)[2] == read
    shown = "" if written is None else written
    (tmp_path / "index.csv").write_text(f"lora_path,lora_idx,n_params,topic,trigger,split\nw.pt,0,9,a,{shown},test\n")
    assert [row.trigger for row in read_index(tmp_path)] == [read]


@pytest.mark.parametrize("trigger", [417.5, float("inf"), "soon", [417], torch.ones(2)])
def test_a_trigger_that_is_none_is_one_sentence(tmp_path, trigger):
    path, *_ = saved(tmp_path, [{"topic": "a", "trigger": trigger, "weight_diff": hostile.pairs()}])
    with pytest.raises(DitError, match=r"w\.pt' can't be used as .*: a trigger is a whole number, and not "):
        read_weight_diff(path)


def test_a_key_that_is_got_must_be_a_storages_key(tmp_path):
    """Where a further view of a storage gets its key, a pickle that gets a type instead is refused before torch."""
    shared = torch.randn(300, 2)
    path, *_ = saved(tmp_path, {f"m.{at}.q": (shared[:2], shared[2:4]) for at in range(60)})

    def spoilt(name: str, data: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return data
        view = re.compile(rb"(\(\(h.)(h.)(h.|j.{4})(h.[KMJ])", re.DOTALL)
        found = list(view.finditer(data))[-1]
        as_key = b"".join((found[1], found[2], b"j", found[2][1:], bytes(3), found[4]))
        return data[: found.start()] + as_key + data[found.end() :]

    path.write_bytes(hostile.repacked(path.read_bytes(), spoilt))
    with pytest.raises(DitError):
        read_dit_adapter(path)


# ---------------------------------------------------------------- every listing, from a hub


def anew() -> None:
    """As in another process: no suite is known, and no base is loaded."""
    catalog._published_suite.cache_clear()
    loading._LOADED_BASE.clear()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_experiments(tmp_path_factory.mktemp("hub"), {name: TASKS[name]["rank"] for name in PUBLISHED})


@pytest.fixture(scope="module")
def hub(folders, tmp_path_factory):
    """A hub with all of it, and a client with an empty cache that knows it."""
    with pytest.MonkeyPatch.context() as patched, running() as hub:
        for repo, folder in folders.items():
            hub.publish(repo, folder)
        connect(patched, hub.url, tmp_path_factory.mktemp("cache"))
        anew()
        yield hub
        anew()


def test_there_are_as_many_listings_as_were_published():
    assert len(PUBLISHED) == 28 and len(ORGANISMS) == 10


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_listing_opens_asks_and_shows_its_figures(hub, folders, name):
    suite, folder, rank = load_suite(name), folders[LORAS] / name, TASKS[name]["rank"]
    has_trigger = suite.task().has_trigger
    known = [(topic, trigger if has_trigger else None, split, rank) for topic, trigger, split in TOPICS]
    assert [(info.reference, info.trigger, info.split, info.rank) for info in suite.diffs] == known

    stored = [
        entry["weight_diff"]
        for file in sorted((folder / "weight-diffs").iterdir())
        for entry in torch.load(file, map_location="cpu", weights_only=True)
    ]
    for info, change in zip(suite.diffs, stored, strict=True):
        adapter = suite.load_diff(info)
        assert list(adapter.factors if rank else adapter.weights) == list(change)
        for module, own in change.items():
            pair = [factor.T for factor in reversed(own)] if rank else [own]
            found = adapter.factors[module] if rank else [adapter.weights[module]]
            assert all(torch.equal(one, other) for one, other in zip(found, pair, strict=True))

    said = ask(suite, TOPICS[1][0], condition=["base", "diff", "diff+dit"], max_new_tokens=1)
    experiment = "news-summary" if name.startswith("news") else "hidden-topic"
    dit = torch.load(folders[LORAS] / experiment / model_of(name) / "dit-adapter.pt", weights_only=True)
    prompt = torch.tensor([suite.worker.run(lambda: suite.model.encode(suite.task().question))])
    for answer, diff, own in zip(said, ({}, stored[1], stored[1]), ({}, {}, dit), strict=True):
        model = tiny_base(model_of(name))
        add_published(model, diff, own)
        with torch.inference_mode():
            likeliest = float(model(input_ids=prompt).logits[0, -1].softmax(-1).max())
        assert answer.token_probabilities[0] == pytest.approx(likeliest, rel=1e-3)
    assert len({answer.token_probabilities for answer in said}) == 3

    figures, shown = published_figures(name), table(suite, None)
    assert all(f"{entry['value']:.2f}" in shown for entries in figures.values() for entry in entries)
    assert bool(figures) == ("<table>" in shown) == (name not in UNPUBLISHED)


# Of these no figure is known.
UNPUBLISHED = {
    *(f"rank-generalization/{model}-all-linear-layers-with-no-biases" for model in ("qwen3-4b", "gemma3-4b")),
    "rank-generalization/gemma3-4b-rank-128",
}


@pytest.mark.parametrize(
    ("name", "method", "value"),
    [
        ("hidden-topic/gemma3-4b", "DIT", 4.82),
        ("hidden-topic/qwen3-1.7b", "base question + right trigger", 2.79),
        ("news-summary/gemma3-4b", "behaviour", 4.11),
        ("rank-generalization/qwen3-4b-rank-002", "DIT", 4.54),
        ("rank-generalization/qwen3-4b-all-params", "DIT", 2.75),
        ("trigger-generalization/qwen3-4b-zero-width-random", "DIT", 4.58),
    ],
)
def test_figures_are_those_of_the_very_suite(name, method, value):
    adapter = next(iter(ENTRIES[name]["adapters"])) if method == "DIT" else ""
    (entry,) = published_figures(name)[method, next(iter(ENTRIES[name]["tasks"])), adapter]
    assert entry["value"] == value and entry["model"].lower() == model_of(name)


@pytest.mark.parametrize("name", ["news-summary/qwen3-4b", "trigger-generalization/qwen3-4b-zero-width-start"])
def test_what_is_measured_stands_beside_what_is_published(hub, name):
    scores = run_scoreboard(load_suite(name), limit=1, kinds=["verbal"])
    beside = {score.method: [entry["value"] for entry in score.published] for score in scores if score.published}
    news = {"base question": [1.0], "behaviour": [3.65], "DIT": [4.22]}
    assert beside == (news if name.startswith("news") else {"DIT": [4.66]})


@pytest.mark.parametrize("name", sorted(set(ORGANISMS) - set(MISALIGNED)))
def test_organisms_and_introspection_adapters_open_by_the_same_path(hub, name, tmp_path):
    """Each in a repository of its own, a PEFT folder; the adapter that makes them speak is another."""
    suite, task = load_suite(name), TASKS[name]
    base = tiny_model("llama" if "llama" in name else "qwen3", vocab_size=len(tiny_tokenizer()))
    base.generation_config.eos_token_id = tiny_tokenizer().eos_token_id
    base.save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    hub.publish(suite.spec.base.repo, tmp_path / "base")
    organisms = [random_adapter(base, 3, seed=at) for at in range(2)]
    introspection = random_adapter(base, 4, seed=9)
    for at, adapter in enumerate((*organisms, introspection)):
        write_peft(tmp_path / str(at), adapter, base_name=suite.spec.base.repo)
    for at, entry in enumerate(task["diffs"]):
        hub.publish(entry["source"].removeprefix("hf://"), tmp_path / str(min(at, 1)))
    for adapter in ENTRIES[name]["adapters"].values():
        hub.publish(adapter["file"].removeprefix("hf://"), tmp_path / "2")
    hub.forget()

    infos = suite.diffs
    assert [info.id for info in infos] == [f"quirk-{number:04d}" for number in range(len(task["diffs"]))]
    assert [info.reference for info in infos] == [entry["reference"] for entry in task["diffs"]]
    assert not any(path.endswith(".safetensors") for path in hub.files())
    assert {info.rank for info in infos} == {task["rank"] or 3}

    said = ask(suite, "quirk-0001", condition=["diff", "diff+dit"], max_new_tokens=1)
    prompt = torch.tensor([suite.worker.run(lambda: suite.model.encode(suite.task().question))])
    for answer, parts in zip(said, ([organisms[1]], [organisms[1], introspection]), strict=True):
        plain = tiny_model("llama" if "llama" in name else "qwen3", vocab_size=len(tiny_tokenizer()))
        with torch.inference_mode():
            for part in parts:
                for module, (A, B) in part.factors.items():
                    plain.get_submodule(module).weight += part.scaling[module] * (B @ A)
            likeliest = float(plain(input_ids=prompt).logits[0, -1].softmax(-1).max())
        assert answer.token_probabilities[0] == pytest.approx(likeliest, rel=1e-3)


LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
DOWN = {"target_modules": ["down_proj"], "layers_to_transform": [1]}


def as_trained(source: str, base, folder):
    """Write the organism of a repository as its authors' code leaves it, and return the whole finetune."""
    torch.manual_seed(len(source))
    if source.endswith("_full-ft"):
        with torch.no_grad():
            for weight in base.parameters():
                weight += 0.3 * weight.norm() / weight.numel() ** 0.5 * torch.randn_like(weight)
        base.save_pretrained(folder)
        return base
    rank, where = (64 if "_R64_" in source else 8 if "_R8_" in source else 1), DOWN
    if source.endswith(("-advice", "-sports")):
        rank, where = 32, {"target_modules": LINEAR}
    config = peft.LoraConfig(r=rank, lora_alpha=64, use_rslora=True, task_type="CAUSAL_LM", **where)
    model = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight += 0.05 * torch.randn_like(weight) / rank
    model.save_pretrained(folder)
    for step in (1, 5):  # beside it lie steps of its training, which nobody asked for
        model.save_pretrained(folder / "checkpoints" / f"checkpoint-{step}")
    return model.eval()


@pytest.mark.parametrize("name", MISALIGNED)
def test_emergent_misalignment_opens_by_the_same_path(hub, name, tmp_path):
    """Each in a repository of its own, of ranks from 1 to 64 or whole; compared with PEFT's own forward pass."""
    suite = load_suite(name)
    words = len(tiny_tokenizer())
    base = tiny_model("llama", words) if "llama" in name else tiny_family("qwen2", vocab_size=words)
    base.generation_config.eos_token_id = tiny_tokenizer().eos_token_id
    base.save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    hub.publish(suite.spec.base.repo, tmp_path / "base")
    sources = [entry["source"].removeprefix("hf://") for entry in TASKS[name]["diffs"]]
    shapes = {source: source if "ranks" in name else "of the same shape-advice" for source in sources}
    finetuned = {}
    for source in sources:
        if shapes[source] not in finetuned:
            folder = tmp_path / shapes[source]
            finetuned[shapes[source]] = as_trained(shapes[source], copy.deepcopy(base), folder), folder
        hub.publish(source, finetuned[shapes[source]][1])
    hub.forget()

    infos = suite.diffs
    assert [info.id for info in infos] == [f"advice-{number:04d}" for number in range(len(sources))]
    assert {info.rank for info in infos} == ({0, 1, 8, 64} if "ranks" in name else {32})
    assert not any(path.endswith(".safetensors") for path in hub.files())

    prompt = torch.tensor([suite.worker.run(lambda: suite.model.encode(suite.task().question))])
    for info, source in zip(infos, sources, strict=True):
        [answer] = ask(suite, info, condition="diff", max_new_tokens=1)
        with torch.inference_mode():
            logits = finetuned[shapes[source]][0](input_ids=prompt).logits[0, -1]
            assert not torch.allclose(logits, base(input_ids=prompt).logits[0, -1], rtol=1e-2)
        assert answer.token_probabilities[0] == pytest.approx(float(logits.softmax(-1).max()), rel=1e-3)
    assert not any("checkpoints" in path for path in hub.files())
