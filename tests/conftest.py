"""What every test shares: no network, few threads, and one tiny suite folder per session."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import pytest
import torch

torch.set_num_threads(2)


@pytest.fixture(scope="session")
def tiny_suite_folder(tmp_path_factory):
    """A suite of random weights in the published layout; tests that change files copy it first."""
    from tests.tiny import write_tiny_suite

    return write_tiny_suite(tmp_path_factory.mktemp("suites") / "tiny")
