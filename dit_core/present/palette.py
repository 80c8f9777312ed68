"""One colour and one title for each kind of condition, the same on cards, lines, legends and tables."""

# Colour-blind safe: Okabe and Ito, the purple and the grey adapted.
COLOURS = {
    "base": "#7d7d7d",
    "diff": "#0072b2",
    "trigger": "#d55e00",
    "dit": "#8a63c4",
    "both": "#009e73",
    "other": "#9a8700",
}
TITLES = {
    "base": "base",
    "diff": "diff",
    "trigger": "diff + trigger",
    "dit": "DIT alone",
    "both": "diff + DIT",
    "other": "your condition",
}


def kind_colours() -> str:
    """Return a style sheet that gives each `dit-kind-…` its colour, as `--kind`."""
    return "".join(f".dit-kind-{kind} {{ --kind: {colour}; }}\n" for kind, colour in COLOURS.items())
