"""The library below the panel, as a person meets it: by accessible names."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.lab import Notebook
from tests.e2e.test_panel import started

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_models_are_kept_compared_sent_and_trained_on(
    notebook: Notebook, tmp_path: Path
) -> None:
    started(notebook, "total_timesteps=100_000_000")
    panel, page = notebook.panel, notebook.page
    toggle = panel.get_by_role("button", name="Models")
    expect(toggle).to_have_attribute("aria-expanded", "false")
    toggle.press("Enter")
    expect(toggle).to_have_attribute("aria-expanded", "true")

    def said(text: str) -> None:
        expect(panel.get_by_text(text)).to_be_visible(timeout=60_000)

    # Two models of the run under way are kept; a bad name is a sentence.
    notebook.wait_for(lambda: notebook.timesteps > 20_000)
    name = panel.get_by_label("Name", exact=True)
    for text, answer in (
        ("a/b", "'a/b' is refused; allowed: 1 to 50 letters"),
        ("early", "“early” is saved"),
        ("später", "“später” is saved"),
    ):
        name.fill(text)
        name.press("Enter")
        said(answer)

    # Both play the same pieces, while the training goes on.
    panel.get_by_role("checkbox", name="early").check()
    panel.get_by_role("checkbox", name="später").check()
    notebook.button("Watch both").click()
    for model in ("early", "später"):
        board = panel.get_by_role("img", name=f"{model}: ")
        expect(board).to_be_visible(timeout=60_000)
    before = notebook.timesteps
    notebook.wait_for(lambda: notebook.timesteps > before)
    notebook.expect_status("Training")
    page.set_viewport_size({"width": 1400, "height": 2000})
    notebook.screenshot("demo")
    loaded = "import sys; print([m for m in ('torch', 'numba') if m in sys.modules])"
    assert notebook.execute(loaded).strip() == "[]"
    notebook.button("End demo").click()
    expect(panel.get_by_role("img", name="early: ")).to_be_hidden()

    # One is renamed by keyboard, sent to a file, deleted, and brought back.
    panel.get_by_role("checkbox", name="später").uncheck()
    notebook.button("Rename").press("Enter")
    page.keyboard.type("first")
    page.keyboard.press("Enter")
    said("“early” is now “first”")
    with page.expect_download() as download:
        notebook.button("Export").click()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    notebook.button("Delete").press("Enter")
    expect(notebook.button("Undo")).to_be_focused()
    page.keyboard.press("Enter")
    said("“first” is back")

    # It comes in again under another name; what is no model does not.
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"nonsense")
    for path, answer in ((bad, "bad.zip is not a model"), (file, "“copy” is imported")):
        name.fill("copy")
        with page.expect_file_chooser() as chooser:
            notebook.button("Import…").click()
        chooser.value.set_files(path)
        said(answer)

    # A new run begins with it.
    notebook.button("Stop").click()
    notebook.expect_status("Stopped", 10)
    panel.get_by_role("checkbox", name="copy").check()
    notebook.button("New run").click()
    notebook.expect_status("Training", 60)
    expect(panel.get_by_role("log")).to_contain_text("with the model “copy”")
