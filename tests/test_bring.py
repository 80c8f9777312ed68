"""Bring your own: a stranger's diff is checked, asked by its id alone, and gone with the visit."""

import json
import secrets
import shutil
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dit_core import ask
from dit_core.errors import DitError
from dit_core.formats import Adapter, write_peft, write_weight_diffs
from dit_core.methods.comparison import columns
from dit_core.present.plots import changed_modules
from dit_core.records import Table
from dit_core.session import explore_view as view
from dit_core.session.explore import cell_code
from dit_core.session.settings import Settings
from dit_core.session.visit import Visit
from dit_core.suite.fitting import base_note
from dit_core.suite.limits import PUBLIC, Limits, serving
from dit_core.suite.user_diffs import bring_files, bring_source
from dit_core.trust.control_diffs import RANDOM, control
from dit_core.ui.tabs.bring import MOST, BringEvents
from tests.serving import served
from tests.test_ui import Visitor
from tests.tiny import random_adapter, tiny_model

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def own(suite):
    """A diff of the suite that comes back as a stranger's, so that its answers are known."""
    return suite.load_diff(suite.diffs[0])


@pytest.fixture
def uploads(own, tmp_path):
    """The same diff in three layouts, each file where Gradio would put it: in a folder of its own."""
    write_peft(tmp_path / "lora", own, HOSTILE)
    files = []
    for file in (tmp_path / "lora").iterdir():
        place = tmp_path / f"upload-{file.name}"
        place.mkdir()
        files.append(shutil.copy(file, place))
    with zipfile.ZipFile(tmp_path / "lora.zip", "w") as zipped:
        for file in (tmp_path / "lora").iterdir():
            zipped.write(file, f"lora/{file.name}")
    write_weight_diffs(tmp_path / "diff.pt", [(own, "secret topic", 123)])
    return {"files": files, "zip": [str(tmp_path / "lora.zip")], "pt": [str(tmp_path / "diff.pt")]}


def again(uploads: dict[str, list[str]]) -> list[str]:
    """The published file as another upload of it."""
    [file] = uploads["zip"]
    return [shutil.copy(file, f"{file[:-4]}-{secrets.token_hex(4)}.zip")]


@pytest.mark.parametrize("layout", ["files", "zip", "pt"])
def test_a_brought_diff_answers_as_the_same_diff_of_the_suite(suite, uploads, layout):
    arrival = bring_files(suite, uploads[layout], "mine")
    asked = ask(suite, diff=arrival.info.id, condition=["diff", "diff+dit"])
    known = ask(suite, diff=suite.diffs[0], condition=["diff", "diff+dit"])
    assert [v.tokens for v in asked] == [v.tokens for v in known]
    assert "secret topic" not in json.dumps(asked.to_json())
    assert arrival.info.id not in {info.id for info in suite.diffs}
    suite.forget(arrival.info.id)
    with pytest.raises(DitError):
        ask(suite, diff=arrival.info.id, condition="diff")


@pytest.mark.parametrize("layout", ["files", "pt"])
def test_its_results_say_where_it_came_from_and_the_copied_cell_brings_it_anew(suite, uploads, layout):
    files = uploads[layout]
    arrival = bring_files(suite, files, HOSTILE) if layout == "files" else bring_source(suite, files[0])
    table = ask(suite, arrival.info.id, max_new_tokens=2)
    told = table.to_json()["brought"][arrival.info.id]
    assert told["source"] == ("" if layout == "files" else files[0]) and told["title"] == arrival.title
    assert list(told["files"]) == [file.rpartition("/")[2] for file in files if layout == "files"]
    assert "brought" not in ask(suite, suite.diffs[0], max_new_tokens=2).extra, "another's diff is told to nobody"
    settings = Settings.for_diff(suite, arrival.info.id)
    wanted = columns(suite.task_of(arrival.info), settings.question, settings.condition)
    code = cell_code(suite, str(suite.folder), settings, wanted)
    assert arrival.info.id not in code
    for name, file in zip(told["files"], files, strict=False):
        code = code.replace(repr(name), repr(file))
    scope: dict = {"display": lambda *frames: None}
    exec(code, scope)
    [found, *_] = scope["table"]
    [again] = ask(suite, arrival.info.id, condition=found.condition, question=found.question)
    assert found.text == again.text


def test_a_base_of_another_name_is_known_by_its_weights(suite, own, tmp_path):
    """A copy in bfloat16 with its large matrices packed, as 4-bit versions have them, and one of other weights."""
    weights = suite.worker.run(lambda: {name: w.clone() for name, w in suite.model.base.state_dict().items()})
    kept = {name: w.bfloat16() for name, w in weights.items() if "proj" not in name and name != "lm_head.weight"}
    packed = {"model.layers.0.mlp.up_proj.weight": torch.zeros(64, dtype=torch.uint8)}
    other = {name: weight + 0.5 for name, weight in kept.items()}
    for folder, content in (("copy", kept | packed), ("other", other), ("broken", {})):
        (tmp_path / folder).mkdir()
        save_file(content, tmp_path / folder / "model.safetensors")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"no weights")
    for named, says in (
        (str(suite.spec.base), ""),
        (str(tmp_path / "copy"), "weights are those of this suite's"),
        (str(tmp_path / "other"), "weights differ from this suite's"),
        (str(tmp_path / "broken"), "can't be compared here"),
        ("somebody/nowhere-4bit", "can't be compared here"),
    ):
        write_peft(tmp_path / "lora", own, named)
        arrival = bring_source(suite, str(tmp_path / "lora"))
        notes = arrival.changes.extra.get("notes", [])
        assert len(notes) == bool(says) and all(says in note for note in notes)
        suite.forget(arrival.info.id)
    with serving(PUBLIC):
        assert "can't be compared" in base_note(suite, str(tmp_path / "copy"))


def test_a_path_is_a_source_at_home_and_never_on_a_public_server(suite, uploads):
    arrival = bring_source(suite, uploads["pt"][0])
    assert arrival.title == "diff.pt"
    suite.forget(arrival.info.id)
    with serving(PUBLIC), pytest.raises(DitError, match="no paths"):
        bring_source(suite, uploads["pt"][0])


def test_norms_of_the_figure_are_those_of_the_weights(suite, own, uploads):
    changes = bring_files(suite, uploads["pt"]).changes
    figure = changed_modules(changes)
    [map] = figure.data
    by_name = {change.module: change for change in changes}
    name, (A, B) = next(iter(own.factors.items()))
    change = torch.linalg.matrix_norm(own.scaling[name] * B.double() @ A.double())
    weight = suite.worker.run(lambda: suite.model.base.get_submodule(name).weight.detach().double().clone())
    cell = [
        map.z[row][column]
        for row, line in enumerate(map.customdata)
        for column, data in enumerate(line)
        if data and data[0] == name
    ]
    assert cell == [by_name[name].relative]
    assert cell[0] == pytest.approx(float(change / torch.linalg.matrix_norm(weight)), rel=1e-3)
    assert not changed_modules(Table("", "changes", ())).data


def fields(files, title: str = "", source: str = "", position: int | None = 0, own: str | None = None) -> dict:
    """The controls' values."""
    return {"files": files, "source": source, "title": title, "task": "topic", "position": position, "own": own}


def test_what_does_not_fit_or_is_too_much_is_one_sentence(suite, uploads, tmp_path, monkeypatch):
    other = random_adapter(tiny_model(layers=5, seed=3), rank=1, seed=0)
    write_weight_diffs(tmp_path / "other.pt", [(other, "", None)])
    events, session = BringEvents(suite, ["first", "second"]), Visit()

    def says(files, source="", position=0) -> str:
        shown = events.bring(session, fields(files, "", source, position))
        assert 'role="alert"' in shown["note"] and "inside the program" not in shown["note"] and len(shown) == 1
        return shown["note"]

    assert "nothing to check" in says(None)
    assert "take one of them away" in says(again(uploads), "owner/name")
    assert "layers.2" in says([str(tmp_path / "other.pt")])
    assert "no number 7" in says(again(uploads), position=7)
    assert "number is missing" in says(again(uploads), position=None)
    with serving(Limits(upload_bytes=100)):
        assert "larger than" in says(again(uploads))
    assert not session.job("bring").result


def test_what_a_visitor_brought_leaves_with_them(suite, uploads):
    events, session, other = BringEvents(suite, ["list"]), Visit(), Visit()
    shown = events.bring(session, fields(uploads["pt"], "mine"))
    id = shown["own"]["value"]
    assert shown["list"]["choices"][0] == ("mine  (your own)", id)
    assert "nothing to forget" in events.forget(other, fields(None, own=id))["note"]
    for _ in range(MOST - 1):
        events.bring(session, fields(again(uploads), "more"))
    assert "forget one first" in events.bring(session, fields(again(uploads)))["note"]
    session.leave()
    with pytest.raises(DitError):
        suite.diff(id)


def test_uploads_are_gone_once_they_are_read_taken_back_or_left_behind(suite, uploads):
    events, session = BringEvents(suite, []), Visit()
    assert "2.0 GB at most" in events.blank()["facts"]
    first, second, third = (again(uploads) for _ in range(3))
    assert "number 7" in events.bring(session, fields(first, position=7))["note"]
    assert Path(*first).exists(), "the number can be put right"
    assert events.bring(session, fields(first))["files"] is None and not Path(*first).exists()
    assert "choose them again" in events.bring(session, fields(first))["note"]
    events.uploaded(session, second)
    events.uploaded(session, third)
    assert Path(*third).exists() and not Path(*second).exists()
    session.leave()
    assert not Path(*third).exists()


def test_whole_weights_are_asked_after_their_upload_is_gone(suite, tmp_path):
    norm = suite.worker.run(lambda: suite.model.base.model.norm.weight.detach() * 3)
    save_file({"model.norm.weight": norm}, tmp_path / "model.safetensors")
    events, session = BringEvents(suite, []), Visit()
    mine = events.bring(session, fields([str(tmp_path / "model.safetensors")]))["own"]
    assert not any(tmp_path.iterdir())
    base, changed = ask(suite, diff=mine["value"], condition=["base", "diff"], max_new_tokens=1)
    assert base.token_probabilities != changed.token_probabilities
    session.leave()


def test_what_is_checked_when_its_visitor_leaves_is_forgotten(suite, uploads):
    events, session = BringEvents(suite, ["list"]), Visit()
    gate, before = threading.Event(), set(suite._user_diffs._by_id)
    with ThreadPoolExecutor(1) as pool:
        busy = suite.worker.stream(lambda: iter([gate.wait(120)]))
        brought = pool.submit(events.bring, session, fields(again(uploads), "mine"))
        end = time.monotonic() + 60
        while not suite.worker.jobs_ahead(None) and not brought.done() and time.monotonic() < end:
            time.sleep(0.01)
        session.leave()  # while it waits to be checked
        gate.set()
        assert list(busy) == [True] and brought.result() == {}
    assert not session.job("bring").result and set(suite._user_diffs._by_id) == before
    # Somebody whose connection was only late stays a visitor.
    mine = events.bring(session, fields(again(uploads), "mine"))["own"]
    assert suite.diff(mine["value"])
    session.leave()


def test_a_server_holds_no_more_of_what_visitors_bring_than_it_is_allowed(suite, own, uploads):
    for id in list(suite._user_diffs._by_id):
        suite.forget(id)
    with serving(Limits(user_diff_bytes=int(own.n_bytes * 2.5))):
        first, second = (bring_files(suite, uploads["pt"]).info for _ in range(2))
        with pytest.raises(DitError, match="others have left"):
            bring_files(suite, uploads["pt"])
        suite.forget(first.id)
        suite.forget(bring_files(suite, uploads["pt"]).info.id)
        suite.forget(second.id)
    assert PUBLIC.user_diff_bytes == 2_000_000_000


def test_what_is_forgotten_leaves_nothing_on_the_model(suite):
    def on_the_model() -> tuple[tuple[str, ...], int]:
        model = suite.model
        twins = [module.copy for slot in model.slots for module in model.finetuned_modules(slot)]
        return model.slots, sum(one.numel() for part in (model.base, *twins) for one in part.state_dict().values())

    suite.unload()  # whatever slots other tests have needed
    known = ask(suite, diff=suite.diffs[0], condition="diff")[0].text
    before = suite.worker.run(on_the_model)
    base = suite.worker.run(lambda: suite.model.base)
    weights = {"model.norm.weight": base.model.norm.weight * 2}
    brought = [random_adapter(base, rank, seed=0) for rank in range(3, 7)] + [Adapter({}, {}, weights)]
    infos = [suite.bring(adapter, "mine") for adapter in brought]
    for info in infos:
        ask(suite, diff=info.id, condition="diff", max_new_tokens=1)
    ask(suite, diff=[infos[0].id, suite.diffs[0]], condition="diff", max_new_tokens=1)
    ask(suite, diff=control(infos[1], RANDOM), condition="diff", max_new_tokens=1)
    slots, size = suite.worker.run(on_the_model)
    assert len(slots) == len(before[0]) + 6 and size > before[1]
    for info in infos:
        suite.forget(info.id)
    assert suite.worker.run(on_the_model) == before
    assert ask(suite, diff=suite.diffs[0], condition="diff")[0].text == known


def test_of_a_brought_diff_nothing_is_revealed_or_graded(suite, uploads):
    info = bring_files(suite, uploads["files"]).info
    assert suite.origin(info.id).title == "my diff"
    assert "not known here" in view.secret(suite, info.id, info.id)
    [said] = ask(suite, diff=info.id, condition="diff")
    for column in columns(suite.task_of(info)):
        assert view.verdict(suite, info, column, said).startswith("not graded")


@pytest.mark.long
def test_upload_then_ask_in_the_browser(suite, uploads, browser, tmp_path, monkeypatch):
    cache = tmp_path / "gradio"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(cache))
    with served(suite) as address:
        visitor = Visitor(browser, address).open()
        page = visitor.page
        page.get_by_role("tab", name="Bring your own").click()
        page.set_input_files("#dit-bring-files input[type=file]", uploads["files"])
        page.wait_for_selector("#dit-bring-files .file-preview")
        assert len(list(cache.rglob("adapter_*"))) == 2
        page.fill("#dit-bring-title input, #dit-bring-title textarea", HOSTILE)
        page.click("#dit-bring-check")
        page.wait_for_selector("#dit-bring-note:has-text('It fits')")
        page.wait_for_selector("#dit-bring-figure .js-plotly-plot .hm")
        page.wait_for_selector("#dit-bring-files .file-preview", state="detached")
        assert cache.is_dir() and not [path for path in cache.rglob("adapter_*")]
        assert HOSTILE in page.inner_text("#dit-bring-told")
        page.get_by_role("tab", name="Explore").click()
        page.click("#dit-diff input")
        page.get_by_role("option", name="your own").click()
        page.wait_for_selector("#dit-note:has-text('Press Ask')")
        visitor.ask()
        assert list(visitor.cards().values())[1] == ask(suite, diff=suite.diffs[0], condition="diff")[0].text.replace(
            "\0", ""
        )
        assert not visitor.errors, visitor.errors
        visitor.context.close()
