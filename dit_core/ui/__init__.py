"""The Gradio face: a module per idea, over the same functions as Python and the command line. Nothing computes here."""
