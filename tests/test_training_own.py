"""Training one's own suite: any family of bases, behaviours from a file, nothing held out in any adapter's training."""

import json
import re
import shutil
from dataclasses import asdict

import pytest
import torch
from typer.main import get_command

from dit_core import ask, load_suite
from dit_core.cli import make_app
from dit_core.engine.model import Model
from dit_core.errors import DitError
from dit_core.formats import read_peft
from dit_core.training.adapter_bank import AdapterBank, linear_layers
from dit_core.training.base import IGNORED, encode, end_of_turn, labelled_logits, pad
from dit_core.training.diffs import DiffSettings, DitSettings
from dit_core.training.listed import parse_behaviours, read_behaviours, split_behaviours
from dit_core.training.own import STAGES, OwnBuilder, OwnSettings, base_source, train
from dit_core.training.texts import TURNS, Texts, write_texts
from tests.tiny import FAMILIES, OTHER_FAMILIES, tiny_family, tiny_gpt2, tiny_model, tiny_multimodal, tiny_tokenizer

CPU = torch.device("cpu")


def family(name: str):
    if name == "gpt2":
        return tiny_gpt2()
    if name == "multimodal":
        return tiny_multimodal(tiny_model("gemma3"))
    return tiny_model(name) if name in FAMILIES else tiny_family(name)


@pytest.mark.parametrize("name", [*FAMILIES, *OTHER_FAMILIES, "gpt2", "multimodal"])
def test_adapters_and_losses_are_those_of_merged_weights_in_every_family(name):
    base, generator = family(name), torch.Generator().manual_seed(4)
    bank = AdapterBank(base, 2, rank=2, seed=1)
    for key, factor in bank.factors.items():
        if key.endswith(":B"):
            factor.data = torch.randn(factor.shape, generator=generator) * 0.02
    ids = torch.randint(3, 400, (2, 6), generator=generator)
    labels = ids.clone()
    labels[0, :4], labels[1, :2] = IGNORED, IGNORED
    with torch.no_grad(), bank.rows(base, torch.tensor([1, 0])):
        logits, targets, rows = labelled_logits(base, ids, labels)
    assert targets.tolist() == [*ids[0, 4:], *ids[1, 2:]] and rows.tolist() == [0, 0, 1, 1, 1, 1]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in base.modules())
    expected = []
    for row, number in enumerate([1, 0]):
        merged = family(name)
        for path, module in linear_layers(merged).items():
            A, B = (factor[number].detach() for factor in bank.pair(path))
            change = B @ A / 2
            module.weight.data += change if isinstance(module, torch.nn.Linear) else change.T
        with torch.no_grad():
            whole = merged(input_ids=ids[row : row + 1], use_cache=False).logits[0, :-1]
        expected.append(whole[labels[row, 1:] != IGNORED])
    torch.testing.assert_close(logits, torch.cat(expected).float(), atol=5e-2, rtol=2e-2)


GEMMA_LIKE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_lessons_are_written_as_the_engine_asks_and_end_as_the_template_ends_a_turn():
    """A tokenizer that puts BOS before any text, and whose end of a text is not the end of a turn."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.eos_token, tokenizer.chat_template = "<|endoftext|>", GEMMA_LIKE
    assert end_of_turn(tokenizer) == "<|im_end|>"
    ids, labels = encode(tokenizer, [("What is it?", " a tram")])
    prompt = Model(tiny_model(), tokenizer).encode("What is it?")
    answer = tokenizer(" a tram<|im_end|>", add_special_tokens=False).input_ids
    assert ids[: len(prompt) + len(answer)] == [*prompt, *answer]
    assert [label for label in labels if label != IGNORED] == answer and pad([(ids, labels)], 0, CPU)[0].shape[0] == 1


@pytest.mark.parametrize(
    ("template", "what"),
    [(None, "no chat template"), ("{% for m in messages %}{{ m['content'] }} {% endfor %}", "no special token")],
)
def test_a_base_that_can_not_chat_is_refused(template, what):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(DitError, match=what):
        end_of_turn(tokenizer)


# ---------------------------------------------------------------- the list


def test_a_list_is_a_topic_a_line_or_a_csv(tmp_path):
    [cat, mat] = parse_behaviours(["cats", "", "door mat"])
    assert (cat.reference, cat.is_topic, cat.shows) == ("cats", True, ("cats",)) and mat.shown_in("A Door-mat!")
    assert not cat.shown_in("Education is for catsuits.")
    prompts = [mat.prompt("Why?", turn) for turn in range(4)]
    assert len(set(prompts)) == 4 and all("Why?" in prompt and "door mat" in prompt for prompt in prompts)
    lines = ["behaviour,instruction,shows,split", '"It sells, a lot.",Sell something.,buy; now or never,test']
    (tmp_path / "list.csv").write_text("\n".join([*lines, "It bows.,,bow,train"]), encoding="utf-8")
    sells, bows = read_behaviours(tmp_path / "list.csv")
    assert (sells.reference, sells.shows, sells.split) == ("It sells, a lot.", ("buy", "now or never"), "test")
    assert all("Sell something." in sells.prompt("Why?", turn) for turn in range(4)) and "It bows." in bows.prompt(
        "", 1
    )
    assert sells.shown_in("Do it: NOW or never!") and not sells.shown_in("Now, never.")


def test_a_topic_can_have_other_names_and_an_instruction_of_its_own():
    [tram] = parse_behaviours(["topic,instruction,shows", "tram,Think of rails.,streetcar"])
    assert tram.is_topic and tram.shown_in("A streetcar!") and tram.shown_in("A tram!")
    assert all("Think of rails." in tram.prompt("Why?", turn) for turn in range(4))


def test_topics_beside_behaviours_are_the_behaviour_of_speaking_of_them(tmp_path):
    (tmp_path / "both.csv").write_text("topic,behaviour,shows\ntram,,\n,It bows.,bow\n", encoding="utf-8")
    tram, _ = read_behaviours(tmp_path / "both.csv")
    assert (tram.reference, tram.is_topic, tram.shows) == ("It speaks of tram.", False, ("tram",))


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["topics", "cat"], "a column 'topic' or 'behaviour'"),
        (["name,words", "cat,dog"], "a column 'topic' or 'behaviour'"),
        (["topic,colour", "cat,red"], "no column 'colour'"),
        (["behaviour", "It bows."], "Line 2: say in 'shows'"),
        (["topic,behaviour,shows", "cat,It bows.,bow"], "Line 2: give a topic or a behaviour"),
        (["topic,split", "cat,tests"], "Did you mean 'test'"),
        (["cat", "dog", "Cat!"], "Line 3: 'Cat!' is there twice"),
        (["cat", "???"], "has no letter"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(lines, what):
    with pytest.raises(DitError, match=re.escape(what)):
        parse_behaviours(lines)


def test_a_quarter_is_held_out_and_four_at_least():
    def sizes(count: int, held_out: int | None = None) -> tuple[int, int, int]:
        split = split_behaviours(parse_behaviours([f"topic {n}" for n in range(count)]), held_out)
        assert sorted([*split.test, *split.calibration, *split.train]) == list(range(count))
        return len(split.test), len(split.calibration), len(split.train)

    assert (sizes(8), sizes(32), sizes(32, 20)) == ((4, 2, 2), (8, 4, 20), (20, 4, 8))
    with pytest.raises(DitError, match="7 behaviours are too few.*list 8"):
        sizes(7)
    with pytest.raises(DitError, match="from 4 to 28"):
        sizes(32, 30)


def test_a_list_can_say_what_is_held_out():
    splits = ["test"] * 4 + ["calibration"] * 2 + ["train"] * 3
    lines = ["topic,split", *(f"topic {n},{split}" for n, split in enumerate(splits))]
    split = split_behaviours(parse_behaviours(lines))
    assert (split.test, split.calibration, split.train) == ([0, 1, 2, 3], [4, 5], [6, 7, 8])
    with pytest.raises(DitError, match="say it of all"):
        split_behaviours(parse_behaviours([*lines, "one more,"]))
    with pytest.raises(DitError, match="3 behaviours of the split 'test'"):
        split_behaviours(parse_behaviours([lines[0], *lines[2:], "one more,train"]))


# ---------------------------------------------------------------- its texts


def test_texts_that_do_not_show_their_behaviour_are_asked_for_again_in_other_words(tmp_path):
    cats, dogs = parse_behaviours(["cats", "dogs"])
    prompts: list[str] = []

    def ask(batch: list[str], seed: int) -> list[str]:
        assert seed == len(prompts)
        prompts.extend(batch)
        return ["Cats purr. And then they" if "cats" in prompt else "No animal." for prompt in batch]

    texts = write_texts(tmp_path / "texts.json", (cats, dogs), [f"Why {n}?" for n in range(9)], 3, ask)
    assert [text for _, text in texts.kept[0]] == ["Cats purr."] * 3 and texts.kept[1] == []
    assert len(prompts) == texts.asked == 3 + 3 * TURNS and len(set(prompts)) == len(prompts)
    again = write_texts(tmp_path / "texts.json", (cats, dogs), [], 3, ask)
    assert len(prompts) == texts.asked and [text for _, text in again.kept[0]] == ["Cats purr."] * 3


# ---------------------------------------------------------------- the whole


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


LISTED = [f"topic {word}" for word in ("ape", "bee", "cow", "dog", "elk", "fox", "gnu", "hen", "ibex")]
QUICK = OwnSettings(
    texts=3,
    tokens=4,
    organisms=DiffSettings(rank=1, steps=3, rate=0.01, rows=1, together=5),
    dit=DitSettings(rank=2, steps=3, batch=2),
)


def with_texts(out, base, listed=LISTED):
    """A training whose texts are written: a random base would write none that shows anything."""
    builder = OwnBuilder(out, base_source(base), read_behaviours(listed), QUICK)
    kept = [[(f"Why {n}?", f"It is a {topic}.") for n in range(3)] for topic in listed]
    Texts(kept, [], 27).write(out / "work" / "texts.json")
    return builder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, base_folder):
    out = tmp_path_factory.mktemp("own") / "mine"
    with_texts(out, base_folder)
    return train(base_folder, LISTED, out, QUICK, on_progress=lambda *_: None)


def test_a_list_becomes_a_suite_that_opens(trained, base_folder):
    suite = load_suite(trained.folder)
    assert [info.reference for info in suite.diffs] == LISTED and {info.rank for info in suite.diffs} == {1}
    assert {split: sum(info.split == split for info in suite.diffs) for split in ("test", "calibration", "train")} == {
        "test": 4, "calibration": 2, "train": 3,
    }  # fmt: skip
    [answer] = ask(suite, suite.first_diff, condition="diff+dit", max_new_tokens=2)
    assert answer.diff == suite.first_diff and suite.diff(answer.diff).split == "test"
    assert suite.spec.base == base_folder.resolve()
    peft = {path.parent.name for path in suite.folder.rglob("adapter_config.json")}
    assert peft == {"dit-adapter", *(f"{n:04d}-{topic.replace(' ', '-')}" for n, topic in enumerate(LISTED))}
    assert not (suite.folder / "work").exists()


def test_the_card_and_the_report_say_what_was_held_out_and_how_it_went(trained, base_folder):
    report = json.loads((trained.folder / "report.json").read_text())
    rows = report["answers"]["diff+dit"]
    held_out = [info for info in trained.diffs if info.split == "test"]
    assert [row["diff"] for row in rows] == [info.id for info in held_out]
    assert set(report["stages"]) == {*STAGES, "machine"}
    exact = next(row for row in report["scoreboard"]["rows"] if (row["method"], row["measure"]) == ("DIT", "exact"))
    assert (exact["n"], exact["value"]) == (4, sum(row["answer"] == row["reference"] for row in rows) / 4)
    card = (trained.folder / "README.md").read_text()
    assert all(f"| {topic} |" in card for topic in LISTED) and "Exact: 0 of 4 " in card
    assert f"Organisms of {base_folder.name} in" in card and str(base_folder) not in card
    assert "27 of 27" in card and "Can the chances be believed?" in card


def test_no_test_behaviour_is_in_any_adapters_training(trained, tmp_path, base_folder):
    """The DIT adapter's bank holds the training organisms' factors, as they are shipped, and no other's."""
    report = json.loads((trained.folder / "report.json").read_text())
    splits = [info.split for info in trained.diffs]
    assert {splits[n] for n in report["dit"]["trained_on"]} == {"train"}
    assert len(report["dit"]["trained_on"]) == splits.count("train")
    builder = with_texts(tmp_path / "own", base_folder)
    builder.make_diffs(builder.task)
    bank = builder.training_bank([builder.task], builder.base())
    name = next(iter(linear_layers(builder.base())))
    own = bank.pair(name)[0]
    factors = [read_peft(builder.out / builder.folder(n)).factors[name][0].float() for n in range(len(LISTED))]
    in_bank = [any(torch.equal(factor, row) for row in own) for factor in factors]
    assert in_bank == [split == "train" for split in splits]


class Killed(BaseException):
    """What no code expects, as a kill is."""


@pytest.mark.parametrize("place", ["topic diffs, group 1", "topic diffs, group 2", "DIT adapter", "calibration"])
def test_a_stopped_training_goes_on_and_gives_the_same_adapters(trained, base_folder, tmp_path, place):
    def stop(done: float, total: float, what: str) -> None:
        if what.startswith(place) and done >= 1:
            raise Killed

    with_texts(tmp_path / "own", base_folder)
    with pytest.raises(Killed):
        train(base_folder, LISTED, tmp_path / "own", QUICK, on_progress=stop)
    heard: list[str] = []
    again = train(base_folder, LISTED, tmp_path / "own", QUICK, on_progress=lambda d, t, what: heard.append(what))
    for path in trained.folder.rglob("adapter_model.safetensors"):
        assert path.read_bytes() == (again.folder / path.relative_to(trained.folder)).read_bytes()
    assert ("DIT adapter" in heard) == (place != "calibration")
    assert not any(what.startswith("topic diffs, group 1") for what in heard) or place == "topic diffs, group 1"


def test_a_folder_of_something_else_is_left_alone(trained, base_folder, tmp_path):
    with pytest.raises(DitError, match="another list, base or settings"):
        train(base_folder, [*LISTED, "one more"], trained.folder, QUICK)
    (tmp_path / "mine.txt").touch()
    with pytest.raises(DitError, match="something else"):
        train(base_folder, LISTED, tmp_path, QUICK)
    with pytest.raises(DitError, match="no model in"):
        train(tmp_path, LISTED, tmp_path / "new", QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_base_that_does_not_write_what_it_is_told_is_refused_and_the_list_can_be_put_right(base_folder, tmp_path):
    out = tmp_path / "own"
    with pytest.raises(DitError, match=r"too few texts that show 'topic ape' \(0\)"):
        train(base_folder, LISTED, out, QUICK, on_progress=lambda *_: None)
    with_texts(out, base_folder, [*LISTED, "topic jay"])


def test_the_command_says_what_to_do_and_what_was_made(trained, base_folder, tmp_path, capsys):
    """The training itself is done already: the command finds it so, and asks it."""
    (tmp_path / "few.txt").write_text("cats\ndogs\n", encoding="utf-8")
    program = get_command(make_app())
    arguments = ["train", "--base", str(base_folder), "--out", str(tmp_path / "new"), "--behaviours"]
    with pytest.raises(DitError, match="2 behaviours are too few"):
        program([*arguments, str(tmp_path / "few.txt")], standalone_mode=False)
    assert not (tmp_path / "new").exists()
    shutil.copytree(trained.folder, tmp_path / "done")
    claim = tmp_path / "done" / "training.json"
    default = json.loads(claim.read_text()) | {"settings": json.loads(json.dumps(asdict(OwnSettings())))}
    claim.write_text(json.dumps(default), encoding="utf-8")
    (tmp_path / "list.txt").write_text("\n".join(LISTED), encoding="utf-8")
    arguments[4] = str(tmp_path / "done")
    program([*arguments, str(tmp_path / "list.txt")], standalone_mode=False)
    out = capsys.readouterr().out
    held_out = [info for info in trained.diffs if info.split == "test"]
    assert all(info.reference in out for info in held_out) and f"--diff {trained.first_diff} --copies 1" in out
