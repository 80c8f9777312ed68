"""Plots: the figures hold the records' own numbers, titles say no more than they show, and text stays text."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from dit_core.errors import DitError
from dit_core.methods.oracle import read
from dit_core.present import plots
from dit_core.present.palette import COLOURS, TITLES
from dit_core.present.plots.charts import lines
from dit_core.present.plots.style import CONFIG, DARK, LIGHT, percent_axis, wrapped
from dit_core.records import AdlFinding, LensToken, NextToken, Norm, Reading, Similarity, Table
from dit_core.suite import load_suite

HOSTILE = '<a href="javascript:alert(1)">x</a> <b>y</b> $\\alpha$ &lt;i&gt; %{x}\n\u202etxet'
STANDING = {"base": "base", "diff": "diff", "trigger": "diff+right", "dit": "dit", "both": "diff+dit"}
OURS = re.compile(r'</?b>|<br>|<span style="font-size:12px;color:#[0-9a-f]{6}">|</span>')


def reading(layer: int, confidence: float, answer: str = "volcano", condition: str = "diff+dit", **more) -> Reading:
    record = Reading(
        diff="topic-0412",
        condition=condition,
        asked="What topic have you been trained on?",
        layer=layer,
        depth_percent=12.5 * layer,
        positions=(3, 4),
        kind="with",
        question="What is the topic?",
        sample=0,
        seed=0,
        text=answer,
        tokens=(answer,),
        token_probabilities=(confidence,),
        confidence=confidence,
        grade=None,
        log_prob_reference=None,
    )
    return replace(record, **more)


def table(records, kind: str = "readings", **extra) -> Table:
    return Table("pocket", kind, tuple(records), extra)


def shown(figure) -> str:
    """All of a figure's text as plotly gets it, a line of it per text."""

    def texts(node):
        if isinstance(node, str):
            yield node
        for value in node.values() if isinstance(node, dict) else node if isinstance(node, list | tuple) else ():
            yield from texts(value)

    content = json.loads(figure.to_json())
    for one in content["data"]:
        one.pop("customdata", None)  # read by scripts, never shown
    return "\n".join(texts(content))


def title(figure) -> str:
    """The heading as a reader sees it, without the note under it."""
    text = figure.layout.title.text.split("<br><span")[0].replace("<br>", " ")
    for entity, character in {"&lt;": "<", "&gt;": ">", "&#36;": "$", "&amp;": "&"}.items():
        text = re.sub("</?b>", "", text).replace(entity, character)
    return text


def said(figure) -> str:
    """The sentence of a figure that has nothing to draw."""
    assert not figure.data
    assert not figure.layout.xaxis.visible
    (annotation,) = figure.layout.annotations
    return annotation.text.replace("<br>", " ")


def test_plotly_waits_for_the_first_figure():
    code = "import sys, dit_core, dit_core.present.plots; assert 'plotly' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_by_layer_holds_the_records_in_the_conditions_look():
    records = [
        reading(layer, 0.1 * at + 0.05 * layer, condition=condition)
        for layer in range(4)
        for at, condition in enumerate(STANDING.values())
    ]
    figure = plots.by_layer(table(records, n_layers=4, trained_layers=[0, 1, 2, 3]))
    assert [line.name for line in figure.data] == [TITLES[kind] for kind in STANDING]
    for at, (kind, line) in enumerate(zip(STANDING, figure.data, strict=True)):
        assert line.x == (0, 1, 2, 3)
        assert line.y == pytest.approx([0.1 * at + 0.05 * layer for layer in range(4)])
        assert line.line.color == line.marker.color == COLOURS[kind]
        assert [tuple(data) for data in line.customdata] == [(STANDING[kind], layer) for layer in range(4)]
    assert len({line.line.dash for line in figure.data}) == len({line.marker.symbol[0] for line in figure.data}) == 5


def test_title_states_the_surest_layer_of_the_selected_condition():
    records = [reading(layer, value, f"word {layer}") for layer, value in enumerate((0.2, 0.86, 0.5))]
    records += [reading(layer, 0.9, "none", condition="base") for layer in range(3)]
    figure = plots.by_layer(table(records, n_layers=3), selected="dit+diff")
    assert title(figure) == "diff + DIT: the oracle is surest at layer 1 (86 %): “word 1”"
    assert [a.text for a in figure.layout.annotations] == ["word 0", "word 1", "word 2"]
    assert title(plots.by_layer(table(records, n_layers=3))).startswith("base: the oracle is surest at layer 0 (90 %)")


def test_samples_are_one_point_with_counts():
    words = ["lava", "volcano", "volcano", "ash", "tuff"]
    records = [reading(2, 0.1 * (at + 1), word, sample=at) for at, word in enumerate(words)]
    figure = plots.by_layer(table(records, n_layers=3))
    (line,) = figure.data
    assert line.x == (2,) and line.y == pytest.approx([0.3])
    assert title(figure).endswith("layer 2 (30 %): “volcano” in 2 of 5 readings")
    assert "2 × “volcano”<br>1 × “lava”<br>1 × “ash”<br>1 × “tuff”<br>mean confidence 30 %" in line.hovertext[0]


def test_a_filling_table_keeps_the_range_and_says_so():
    full = [reading(layer, 0.1 + 0.1 * layer) for layer in range(8)]
    part = plots.by_layer(table(full[:3], n_layers=8, n_readings=8))
    whole = plots.by_layer(table(full, n_layers=8, n_readings=8))
    assert part.layout.xaxis.range == whole.layout.xaxis.range == (-0.5, 7.5)
    assert part.layout.yaxis.range == whole.layout.yaxis.range
    assert part.layout.height == whole.layout.height
    assert "so far" in title(part) and "so far" not in title(whole)


def test_layers_beyond_the_oracles_training_are_hollow():
    records = [reading(layer, 0.5) for layer in range(4)]
    figure = plots.by_layer(table(records, n_layers=4, trained_layers=[1, 2]))
    (line,) = figure.data
    assert line.marker.symbol == ("circle-open", "circle", "circle", "circle-open")
    assert ["not trained" in text for text in line.hovertext] == [True, False, False, True]
    assert "Hollow" in figure.layout.title.text
    for known in ({"trained_layers": [0, 1, 2, 3]}, {}):
        figure = plots.by_layer(table(records, n_layers=4, **known))
        assert "open" not in str(figure.data[0].marker.symbol)
        assert "ollow" not in shown(figure) and "not trained" not in shown(figure)


def test_answers_along_the_axis_have_room():
    records = [reading(layer, 0.9 if layer == 31 else 0.1, f"answer number {layer}") for layer in range(36)]
    axis = plots.by_layer(table(records, n_layers=36)).layout
    places = [annotation.x for annotation in axis.annotations]
    assert len(places) <= 12 and 31 in places
    assert all((place - axis.xaxis.tick0) % axis.xaxis.dtick == 0 for place in places)
    assert all(len(annotation.text) <= 14 for annotation in axis.annotations)
    every = plots.by_layer(table(records[:8], n_layers=8)).layout.annotations
    assert [annotation.x for annotation in every] == list(range(8))


@pytest.mark.parametrize(
    ("y", "values", "says"),
    [
        ("grade", (1, 4, 5), "nearest at layer 2 (grade 5 of 5): “volcano”"),
        ("grade", (1, 1, 1), "wrong at every layer (grade 1 of 5)"),
        ("log_prob_reference", (-9.0, -2.5, -4.0), "the reference is likeliest at layer 1 (−2.5 nats)"),
    ],
)
def test_revealed_measures(y, values, says):
    records = [reading(layer, 0.5, **{y: value}) for layer, value in enumerate(values)]
    figure = plots.by_layer(table(records, n_layers=3), y=y)
    assert figure.data[0].y == values
    assert title(figure).endswith(says)


def test_before_reveal_nothing_revealed_is_in_the_figure():
    records = [reading(layer, 0.5, grade=4, log_prob_reference=-3.25) for layer in range(3)]
    for figure in (plots.by_layer(table(records)), plots.heat_map(table(records), list("abcdef"))):
        assert "grade" not in shown(figure) and "3.2" not in shown(figure) and "reference" not in shown(figure)


def test_what_cannot_be_drawn_is_a_sentence():
    nothing, ungraded = table([]), table([reading(0, 0.5)])
    for figure in (
        plots.by_layer(nothing),
        plots.by_layer(ungraded, y="grade"),
        plots.by_layer(ungraded, y="log_prob_reference"),
        plots.next_token_by_layer(table([], "next_tokens")),
        plots.heat_map(nothing, []),
        plots.heat_map(ungraded, list("abcdef"), colour="grade"),
        plots.heat_map(ungraded, list("abcdef"), colour="agreement"),
        plots.heat_map(ungraded, list("abcdef"), condition="base"),
        plots.difference_norms(table([], "norms"), []),
        plots.lens_tokens(table([], "lens")),
        plots.lens_tokens(table(lens_records(), "lens"), method="tarot"),
        plots.adl_tokens(table([], "adl")),
        plots.adl_tokens(table(adl_records(), "adl"), vector="tarot"),
        plots.cosine(table([], "similarities")),
        plots.sentence("Something failed: try again.", dark=True),
    ):
        assert said(figure).endswith(".")


def test_unknown_measures_are_refused():
    for draw in (
        lambda: plots.by_layer(table([reading(0, 0.5)]), y="confidense"),
        lambda: plots.next_token_by_layer(table([]), y="ranks"),
        lambda: plots.heat_map(table([]), [], colour="grades"),
    ):
        with pytest.raises(DitError, match="Did you mean"):
            draw()


def test_others_are_told_apart():
    assert {condition: plots.kind_of(condition) for condition in STANDING.values()} == {
        condition: kind for kind, condition in STANDING.items()
    }
    assert plots.kind_of("dit+diff*1.0") == "both"
    others = ["diff*2", "diff*2+dit", "diff+wrong", "dit:headline*2", "diff+own:tell%20me%20%3Cb%3E", "diff*0.5"]
    assert {plots.kind_of(condition) for condition in others} == {"other"}
    records = [reading(0, 0.5, condition=condition) for condition in others]
    records += [reading(0, 0.5, condition="diff"), reading(0, 0.5, condition="diff", asked="Write a story.")]
    found = lines(records, "asked")
    assert len({line.name for line in found}) == len({(line.symbol, line.dash) for line in found}) == 8
    assert len({line.colour for line in found if line.condition != "diff"}) >= 5
    assert found[-1].name == "diff · Write a story." and found[-1].colour == COLOURS["diff"]
    assert found[4].name == "diff + “tell me <b>”"


def next_records(ranks, condition="diff+dit", token=" vol", what="answer"):
    return [
        NextToken("topic-0412", condition, "q", layer, 25.0 * layer, 9, what, token, rank, 0.9 / (rank + 1))
        for layer, rank in enumerate(ranks)
    ]


def test_next_token_ranks_stand_upside_down_on_a_log_axis():
    found = table(next_records((873, 40, 0)) + next_records((5, 9, 20), "base"), "next_tokens", n_layers=3)
    figure = plots.next_token_by_layer(found)
    assert [line.y for line in figure.data] == [(874, 41, 1), (6, 10, 21)]
    assert [line.line.color for line in figure.data] == [COLOURS["both"], COLOURS["base"]]
    axis = figure.layout.yaxis
    assert axis.type == "log" and axis.range[0] > axis.range[1]
    assert axis.range[0] > 2.95 and axis.range[1] < 0  # all ranks lie inside
    assert dict(zip(axis.ticktext, axis.tickvals, strict=True)) == {"0": 1, "1": 2, "10": 11, "100": 101, "1,000": 1001}
    assert title(figure) == "diff + DIT: “vol” climbs from rank 873 (layer 0) to 0 (layer 2)"
    falling = plots.next_token_by_layer(found, selected="base")
    assert title(falling) == "base: “vol” falls from rank 5 (layer 0) to 20 (layer 2)"
    probable = plots.next_token_by_layer(found, y="probability")
    assert probable.data[0].y == pytest.approx([0.9 / 874, 0.9 / 41, 0.9])
    assert title(probable) == "diff + DIT: “vol” is likeliest at layer 2 (90 %)"


def test_answer_and_reference_are_two_lines():
    records = next_records((9, 0)) + next_records((99, 50), token="\n", what="reference")
    figure = plots.next_token_by_layer(table(records, "next_tokens"))
    assert [line.name for line in figure.data] == ["diff + DIT · answer: “vol”", "diff + DIT · reference: “↵”"]
    assert figure.data[0].line.dash != figure.data[1].line.dash


LABELS = ["<|im_start|>", " code", "•", "\n"]


def place_records(**values):
    return [
        reading(layer, 0.1 * layer + 0.05 * at, f"w{layer}{at}", positions=(at,), **values)
        for layer in range(3)
        for at in range(4)
    ]


def test_heat_map_has_a_cell_per_layer_and_token():
    figure = plots.heat_map(table(place_records(), n_layers=4, trained_layers=[1]), LABELS)
    (cells,) = figure.data
    for layer in range(3):
        assert cells.z[layer] == pytest.approx([0.1 * layer + 0.05 * at for at in range(4)])
    assert list(cells.z[3]) == [None] * 4  # not read: empty, but there is room
    assert (cells.zmin, cells.zmax) == (0, 1)
    axis = figure.layout.xaxis
    assert axis.type == "category"
    assert [axis.labelalias[key] for key in cells.x] == ["&lt;|im_start|&gt;", "␣code", "•", "↵"]
    assert [figure.layout.yaxis.labelalias[key] for key in cells.y] == ["0", "● 1", "2", "3"]
    assert "“w23”" in cells.hovertext[2][3] and "not trained" in cells.hovertext[2][3]
    assert list(cells.customdata[2][3]) == ["diff+dit", 2, [3]]
    assert title(figure) == "diff + DIT: the oracle is surest at layer 2, token “↵” (35 %): “w23”"


def test_heat_map_by_grade_and_by_agreement():
    figure = plots.heat_map(table(place_records(grade=2), n_layers=3), LABELS, colour="grade")
    assert {value for row in figure.data[0].z for value in row} == {2}
    assert "nearest at layer 0" in title(figure) and "(grade 2 of 5)" in title(figure)
    records = [reading(0, 0.5, "a Volcano!", positions=(0,)), reading(1, 0.5, "lava", positions=(0,))]
    figure = plots.heat_map(table(records), LABELS, colour="agreement", model_said="It is VOLCANO, I think.")
    assert [row[0] for row in figure.data[0].z] == [0.5, 0]
    assert (
        title(figure)
        == "diff + DIT: the oracle agrees most with the model at layer 0, token “<|im_start|>”: “a Volcano!”"
    )
    figure = plots.heat_map(table(records), LABELS, colour="agreement", model_said="No.")
    assert title(figure) == "diff + DIT: the oracle uses no word of what the model said"


def test_heat_map_takes_one_condition_and_spans():
    records = [reading(0, 0.5, "spans"), reading(0, 0.9, "other", condition="base")]
    figure = plots.heat_map(table(records), ["a", "b", "c", " d", "e"], condition="base")
    assert list(figure.data[0].z[0]) == [0.9] and "“other”" in title(figure) and "token “␣de”" in title(figure)
    with pytest.raises(DitError, match="4 token labels, and token 4 was read"):
        plots.heat_map(table(records), ["a", "b", "c", "d"])


def test_difference_norms():
    records = [
        Norm("d", "diff+right", "q", layer, 0.0, at, 5.0 * layer * (at + 1), 10.0, layer * (at + 1) / 2)
        for layer in range(2)
        for at in range(4)
    ]
    figure = plots.difference_norms(table(records, "norms"), LABELS)
    assert [list(row) for row in figure.data[0].z] == [[0, 0, 0, 0], [0.5, 1, 1.5, 2]]
    assert figure.data[0].zmax == 2
    assert title(figure) == "diff + trigger: the change is largest at layer 1, token “↵”: 200 % of the base's norm"
    still = plots.difference_norms(table(records[:4], "norms"), LABELS)
    assert title(still) == "diff + trigger changes nothing here"
    records[4] = replace(records[4], ratio=float("nan"))  # as where the base's norm is 0
    odd = plots.difference_norms(table(records, "norms"), LABELS)
    assert [list(row) for row in odd.data[0].z] == [[0, 0, 0, 0], [None, 1, 1.5, 2]]


def lens_records():
    return [
        LensToken("d", layer, 0.0, position, method, place, token, 0.1 * (layer + 1) / (place + 1))
        for method in ("logit lens", "patchscope")
        for position in (0, 1)
        for layer in (1, 2)
        for place, token in enumerate((f" t{layer}{position}", "<b>", " longer than it"))
    ]


def test_lens_tokens_is_a_table_of_one_method_and_position():
    figure = plots.lens_tokens(table(lens_records(), "lens", n_layers=4), method="patchscope", position=1)
    (cells,) = figure.data
    assert list(cells.text[2]) == ["␣t21", "&lt;b&gt;", "␣longer␣t…"]
    assert list(cells.text[0]) == ["", "", ""] and list(cells.z[0]) == [None] * 3
    assert cells.z[2] == pytest.approx([0.3, 0.15, 0.1])
    assert title(figure) == "Patchscope: surest at layer 2 (30 %): “t21”"
    assert "token 1 of unrelated" in figure.layout.title.text
    assert title(plots.lens_tokens(table(lens_records(), "lens"))).startswith("Logit lens")


def adl_records():
    tokens = (" rock", "<b>", "lava")
    found = [
        AdlFinding(
            "d", 3, 50.0, position, vector, lens, scale, "", place, token, 0.3 * (position + 1) / (place + 1), None
        )
        for vector in ("base", "difference")
        for lens, scale in (("logit lens", None), ("patchscope", 20.0))
        for position in (0, 1)
        for place, token in enumerate(tokens)
    ]
    return [*found, AdlFinding("d", 3, 50.0, 0, "difference", "steering", 1.0, "Why?", 0, "It is warm.", None, None)]


def test_the_lens_as_published_is_a_table_of_its_own():
    records = table(adl_records(), "adl", settings={"texts": 1000})
    figure = plots.adl_tokens(records, lens="patchscope")
    (cells,) = figure.data
    assert [list(row) for row in cells.text] == [["lava"] * 2, ["&lt;b&gt;"] * 2, ["␣rock"] * 2]  # likeliest on top
    assert list(cells.z[2]) == pytest.approx([0.3, 0.6]) and "at 20 times the size" in cells.hovertext[2][1]
    assert title(figure) == "Patchscope as published: surest at token 1 (60 %): “rock”"
    assert "Mean difference over 1000 texts at layer 3" in figure.layout.title.text
    assert title(plots.adl_tokens(records, vector="base")).startswith("Logit lens as published")


def test_cosine_title_holds_the_means():
    values = {((0, 0), (1, 0)): 0.8, ((0, 0), (0, 1)): -0.25, ((0, 0), (1, 1)): 0.1}
    places = [(0, 0), (0, 1), (1, 0)]

    def between(one, other):
        return 1.0 if one == other else values.get((one, other), values.get((other, one), 0.1))

    records = [Similarity("d", *one, *other, between(one, other)) for one in places for other in places]
    figure = plots.cosine(table(records, "similarities"))
    assert [list(row) for row in figure.data[0].z] == [[between(x, y) for x in places] for y in places]
    assert (figure.data[0].zmin, figure.data[0].zmax) == (-1, 1)
    assert title(figure) == "Mean cosine 0.80 between neighbouring layers, −0.25 between tokens of one layer"
    assert "nothing to compare" in title(plots.cosine(table(records[:1], "similarities")))


def hostile_figures():
    readings = table([reading(layer, 0.5, HOSTILE, question=HOSTILE, positions=(0,)) for layer in range(2)])
    yield plots.by_layer(readings)
    yield plots.by_layer(table([reading(0, 0.5, condition="diff+own:%3Ca%20href%3D%22javascript%3A1%22%3Ex%24y%24")]))
    yield plots.heat_map(readings, [HOSTILE])
    yield plots.next_token_by_layer(table(next_records((3, 0), token=HOSTILE), "next_tokens"))
    yield plots.difference_norms(table([Norm("d", "diff", "q", 0, 0.0, 0, 1.0, 2.0, 0.5)], "norms"), [HOSTILE])
    yield plots.lens_tokens(table([LensToken("d", 0, 0.0, 0, "logit lens", 0, HOSTILE, 0.5)], "lens"))
    yield plots.adl_tokens(
        table([AdlFinding("d", 0, 0.0, 0, "difference", HOSTILE, None, "", 0, HOSTILE, 0.5, None)], "adl")
    )
    yield plots.sentence(HOSTILE)


def test_hostile_text_stays_text():
    for figure in hostile_figures():
        left = OURS.sub("", shown(figure).replace("%{text}", ""))
        assert "<" not in left and "$" not in left and "\u202e" not in left
        assert "&lt;a" in left
    assert plots.plain("a<b>&$1\n") == "a&lt;b&gt;&amp;&#36;1↵"
    assert wrapped("<b> " * 30, 12, 2).count("&lt;") <= 6  # cut between characters, never inside an entity


def test_themes_differ_and_let_the_page_through():
    records = table([reading(0, 0.5)])
    for draw in (plots.by_layer, lambda found, dark: plots.heat_map(found, list("abcde"), dark=dark)):
        for dark, theme in ((False, LIGHT), (True, DARK)):
            layout = draw(records, dark=dark).layout
            assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0,0,0,0)"
            assert layout.font.color == theme.ink and layout.hoverlabel.bgcolor == theme.paper
            assert layout.meta["paper"] == theme.paper
            assert layout.title.text and layout.xaxis.title.text and layout.yaxis.title.text
            assert layout.width is None


def test_config_travels_with_the_figure_and_calls_nobody():
    found = json.loads(plots.as_json(plots.by_layer(table([reading(0, 0.5)]))))
    assert found["config"] == CONFIG and found["data"] and found["layout"]
    assert "http" not in json.dumps(found)
    assert not CONFIG["displaylogo"] and not CONFIG["showSendToCloud"]


def test_percent_ticks_are_round():
    for top in (0.0003, 0.02, 0.5, 0.82, 1.0, 3.7):
        ticks = percent_axis(top)["tickvals"]
        assert 3 <= len(ticks) <= 6 and ticks[0] == 0 and ticks[-1] <= top * 1.001
    assert percent_axis()["ticktext"] == ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]


def test_real_readings_are_drawn(tiny_suite_folder):
    suite = load_suite(tiny_suite_folder)
    found = read(suite, "topic-0412", condition=list(STANDING.values()), span="each:last:3", max_new_tokens=2)
    figure = plots.by_layer(found, y="log_prob_reference", selected="diff+dit")
    assert [line.line.color for line in figure.data] == [COLOURS[kind] for kind in STANDING]
    assert all(line.x == (0, 1) for line in figure.data)
    width = max(max(one.positions) for one in found) + 1
    assert len(plots.heat_map(found, ["x"] * width, condition="diff+dit").data[0].z[0]) == 3


def test_a_browser_shows_hostile_text_as_text(browser):
    import plotly.offline

    page = browser.new_page(viewport={"width": 400, "height": 700})
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_content("<div id=plot></div>")
    page.add_script_tag(content=plotly.offline.get_plotlyjs())
    page.evaluate(
        "async (json) => { const f = JSON.parse(json); await Plotly.newPlot('plot', f.data, f.layout, f.config) }",
        plots.as_json(next(hostile_figures())),
    )
    assert page.locator("#plot a[href], #plot svg a, #plot .modebar-btn--logo").count() == 0
    assert '<a href="javascript:' in page.locator("#plot .gtitle").text_content()
    right = page.evaluate("document.querySelector('#plot .gtitle').getBoundingClientRect().right")
    assert right <= 400  # the title fits a phone
    assert asked == []
