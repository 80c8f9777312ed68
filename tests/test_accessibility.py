"""The page for keyboard and screen reader: axe-core on every tab, names of controls, words for what is drawn."""

from pathlib import Path

import axe_playwright_python
import pytest

from tests.test_ui import Visitor

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def page(browser, address):
    visitor = Visitor(browser, address).open()
    visitor.page.evaluate(AXE.read_text(encoding="utf-8"))
    yield visitor.page
    visitor.context.close()


def tabs(page) -> list[str]:
    return page.locator("[role=tab]:visible").all_inner_texts()


def found(page) -> list[str]:
    """Serious violations of what is visible: rule, what is wrong, where."""
    run = "axe.run({resultTypes: ['violations']}).then(r => r.violations)"
    violations = page.evaluate(run)
    return [
        f"{rule['id']}: {node['failureSummary']} {node['html'][:160]}"
        for rule in violations
        if rule["impact"] in SERIOUS
        for node in rule["nodes"]
    ]


@pytest.mark.long
def test_no_tab_has_a_serious_violation(page):
    faults = {}
    for dark in (False, True):
        for name in tabs(page):
            page.get_by_role("tab", name=name, exact=True).click()
            page.evaluate("document.querySelectorAll('button.label-wrap:not(.open)').forEach(fold => fold.click())")
            page.wait_for_timeout(600)
            if here := found(page):
                faults[name, "dark" if dark else "light"] = here
        page.click(".dit-dark")
    assert not faults, "\n".join(f"{where}:\n  " + "\n  ".join(here) for where, here in faults.items())


def test_every_figure_has_words_for_those_who_do_not_see_it(page):
    for name in tabs(page):
        page.get_by_role("tab", name=name, exact=True).click()
        page.wait_for_timeout(400)
        for figure in page.locator(".dit-figure:visible").all():
            drawn = figure.evaluate("f => f.querySelector('svg') ? f.getAttribute('aria-label') || '' : 'nothing yet'")
            assert len(drawn) > 5, (name, figure.evaluate("f => f.parentElement.id"))


def test_the_keyboard_reaches_what_is_first_in_order(page):
    """From the top, Tab goes through the title, the tabs, then the left side from its top to Ask."""
    page.get_by_role("tab", name="Explore", exact=True).click()
    page.evaluate("document.activeElement.blur()")
    page.focus(".dit-dark")
    order = []
    for _ in range(60):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.closest('[id^=dit-]')?.id || document.activeElement.role"))
        if order[-1] == "dit-ask":
            break
    wanted = ["dit-diff", "dit-surprise", "dit-reveal", "dit-strength", "dit-copies", "dit-trigger", "dit-question"]
    places = [order.index(name) for name in [*wanted, "dit-ask"]]
    assert places == sorted(places) and "tab" in order[: places[0]]
