"""A condition's layers: an adapter acts on them as if its weights in all other layers were zero."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from dit_core import ask
from dit_core.errors import DitError
from dit_core.formats import Adapter
from dit_core.records.condition import Condition
from dit_core.session.settings import from_query
from dit_core.sweeps import sweep
from tests.merged import delta


def within(adapter: Adapter, layer: int) -> Adapter:
    """The adapter with nothing in any other layer."""
    names = [name for name in adapter.factors if f".layers.{layer}." in name]
    assert 0 < len(names) < len(adapter.factors)
    return Adapter({name: adapter.factors[name] for name in names}, {name: adapter.scaling[name] for name in names})


def test_layers_act_in_answers_beside_conditions_without_and_with_two_adapters(suite):
    """Every token's probability is that of a plain base whose weights were changed by hand."""
    written = ["diff+dit+layers:0-0", "diff+dit+layers:1-1", "diff+dit", "dit:headline+dit:topic*2+layers:1-1"]
    said = {one.condition: one for one in ask(suite, "volcano", condition=written)}
    assert len({one.text for one in said.values()}) > 2, "they differ, or nothing is proved"
    topic, headline = suite.load_adapter("topic"), suite.load_adapter("headline")
    diff = suite.load_diff(suite.diff("volcano"))
    parts = {
        written[0]: [(1.0, diff), (1.0, within(topic, 0))],
        written[1]: [(1.0, diff), (1.0, within(topic, 1))],
        written[2]: [(1.0, diff), (1.0, topic)],
        written[3]: [(1.0, within(headline, 1)), (2.0, within(topic, 1))],
    }
    for condition, added in parts.items():
        base = AutoModelForCausalLM.from_pretrained(suite.folder / "base", dtype=torch.float32).eval()
        with torch.no_grad():
            for strength, adapter in added:
                for name in adapter.factors:
                    base.get_submodule(name).weight += strength * delta(adapter, name)
        ids = suite.model.encode(said[condition].question)
        for probability in said[condition].token_probabilities:
            with torch.inference_mode():
                best = base(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1).max(-1)
            assert probability == pytest.approx(best.values.item(), abs=1e-4), condition
            ids = [*ids, best.indices.item()]


def test_an_answer_does_not_depend_on_others_in_the_batch_that_have_layers(suite):
    both = ask(suite, "volcano", condition=["diff+dit", "diff+dit+layers:0-0"])
    alone = ask(suite, "volcano", condition="diff+dit")[0]
    assert both[0].text == alone.text != both[1].text
    assert both[0].token_probabilities == pytest.approx(alone.token_probabilities, abs=1e-5)


def test_a_sweep_asks_each_adapter_its_own_question_and_says_what_it_was_made_with(suite):
    table = sweep(suite, adapter=["topic", "headline"], copies=[0, 1], seed=3)
    asked = {
        "topic": "What topic have you been trained on?",
        "headline": "What news headline have you been trained on?",
    }
    assert [(one.adapter, one.question) for one in table] == [(name, asked[name]) for name in asked for _ in "01"]
    alone = ask(suite, condition="dit:headline", question=asked["headline"], seed=3)[0]
    assert table[3].text == alone.text
    assert table.to_json()["sampling"]["seed"] == 3 and table.to_json()["fingerprint"] == suite.fingerprint


def test_layers_of_a_sweep_are_compared_with_all_of_them(suite):
    first, second, every = sweep(suite, "volcano", layers=[(0, 0), (1, 1), None])
    assert every.similarity == 1.0 and (first.similarity < 1.0) >= (first.text != every.text)
    assert second.condition.endswith("layers:1-1") and every.layers is None


@pytest.mark.parametrize("written", ["dit+layers:3-1", "dit+layers:x", "dit+layers:", "layers:0-1", "dit+layers:-1-2"])
def test_layers_that_make_no_sense_are_a_sentence(written):
    with pytest.raises(DitError):
        Condition.parse(written)


@pytest.mark.parametrize("layers", [(3, 1), (-1, 2), (0.5, 2), "02", (1,), (True, 2)])
def test_so_are_layers_given_as_numbers(layers):
    with pytest.raises(DitError):
        Condition(1.0, (("", 1.0),), layers=layers)


def test_the_page_says_that_it_has_no_layers_instead_of_dropping_them(suite):
    with pytest.raises(DitError, match="layers"):
        from_query(suite, "diff=topic-0412&condition=diff%2Bdit%2Blayers:0-1")
