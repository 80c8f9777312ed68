"""Launching the page: its settings as flags or as Gradio's environment variables."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from dit_core.ui.server import space  # noqa: F401  first of all: it brings in what a ZeroGPU Space needs before torch

if TYPE_CHECKING:
    import gradio as gr

    from dit_core.ui.server.public import Server


def options(arguments: list[str] | None = None, program: str | None = None) -> argparse.Namespace:
    """Parse the command line; environment variables are the defaults.

    `program` is the name by which the usage calls it; by default that of the script that runs."""
    parser = argparse.ArgumentParser(
        prog=program, description="DIT Explorer: a finetuned model says what its finetuning changed."
    )
    env = os.environ.get
    parser.add_argument(
        "--port",
        type=int,
        default=env("GRADIO_SERVER_PORT"),
        help="port to listen on (GRADIO_SERVER_PORT; else the first free one from 7860)",
    )
    parser.add_argument(
        "--host",
        default=env("GRADIO_SERVER_NAME") or ("0.0.0.0" if env("SPACE_ID") else "127.0.0.1"),
        help="address to listen on (GRADIO_SERVER_NAME; else 127.0.0.1: this machine alone; 0.0.0.0: everybody)",
    )
    parser.add_argument(
        "--share",
        action="store_true",
        default=env("GRADIO_SHARE", "").lower() == "true",
        help="also give a public address, by way of Gradio's server (GRADIO_SHARE=true); as --public then",
    )
    parser.add_argument("--suite", default="pocket", help="name of a suite, or its file or folder (default: pocket)")
    parser.add_argument(
        "--dtype", help="float32, bfloat16 or float16 (DIT_DTYPE; else bfloat16 on a GPU, float32 on a CPU)"
    )
    parser.add_argument("--quantize", help="8bit or 4bit, on an NVIDIA GPU with bitsandbytes (DIT_QUANTIZE)")
    parser.add_argument(
        "--public",
        action="store_true",
        help="for a server that strangers use: a short queue, limits per request, small uploads, no local paths "
        "(by itself on a Hugging Face Space and with --share)",
    )
    parser.add_argument(
        "--upload-mb",
        type=int,
        default=env("DIT_UPLOAD") or None,
        help="largest upload, or download for a visitor, in MB (DIT_UPLOAD; else 2000, on a public server 200)",
    )
    return parser.parse_args(arguments)


def server(chosen: argparse.Namespace) -> "Server":
    """Return a server with the limits that the options ask for: one that is shared is public.

    Raises:
        DitError: uploads of less than 1 MB.
    """
    from dit_core.ui.server.public import Server, limits

    return Server(limits(chosen.public or chosen.share, chosen.upload_mb))


def serve(arguments: list[str] | None = None, program: str | None = None) -> int:
    """Serve the page until interrupted; return 2 after one sentence where it can't be served.

    `program` is the name by which the usage calls it; by default that of the script that runs."""
    chosen = options(arguments, program)
    # Imported here: asking for help needs neither Gradio nor torch.
    from dit_core.errors import DitError
    from dit_core.suite import load_suite

    try:
        suite = load_suite(chosen.suite, chosen.dtype, chosen.quantize)
        from dit_core.ui.page import launch  # once there is a suite to show: it takes seconds

        launch(
            suite,
            chosen.suite,
            server(chosen),
            host=chosen.host,
            port=chosen.port,
            share=chosen.share,
        )
    except DitError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"The page can't be served there: {error} Choose another with --port or --host.", file=sys.stderr)
        return 2
    return 0


def demo() -> "gr.Blocks":
    """Return the page as the environment alone sets it, for hosts that look for one."""
    from dit_core.suite import load_suite
    from dit_core.ui.page import build

    chosen = options([])
    suite = load_suite(chosen.suite, chosen.dtype, chosen.quantize)
    return build(suite, chosen.suite, server(chosen))
