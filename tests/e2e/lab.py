"""A real JupyterLab, a real browser, and a notebook with a panel in it.

Owns how to start them, and the panel's accessible names. Deliberately doesn't know what
is tested or measured with them.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
SCREENSHOTS = Path(__file__).parent / "screenshots"
TOKEN = secrets.token_hex(8)
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
}


@contextmanager
def serve_lab(home: Path) -> Iterator[tuple[str, Path]]:
    """Start JupyterLab; yield its address and its directory of notebooks."""
    notebooks = home / "notebooks"
    notebooks.mkdir()
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    for name in (
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "IPYTHONDIR",
        "JUPYTERLAB_SETTINGS_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
    ):
        directory = home / name.lower()
        directory.mkdir()
        environment[name] = str(directory)
    for plugin, content in SETTINGS.items():
        path = home / "jupyterlab_settings_dir" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--expose-app-in-browser"]
    command += ["--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"]
    command += [f"--IdentityProvider.token={TOKEN}", "--ServerApp.port_retries=0"]
    command += [f"--ServerApp.root_dir={notebooks}"]
    with (home / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        address = f"http://127.0.0.1:{port}"
        try:
            _wait_for(lambda: _answers(f"{address}/api"), 60)
            yield address, notebooks
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait(5)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start the system's Chromium."""
    path = next(
        (
            found
            for name in ("chromium", "chromium-browser", "google-chrome")
            if (found := shutil.which(name))
        ),
        None,
    )
    assert path, "no Chromium found: install the Debian package chromium"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=path, headless=True, args=CHROMIUM_ARGUMENTS
        )
        yield opened
        opened.close()


class Notebook:
    """A notebook open in JupyterLab, with a panel in it."""

    def __init__(self, page: Page, address: str, path: Path) -> None:
        self.page = page
        self.errors: list[str] = []
        self._address = address
        self._path = path
        page.on("pageerror", lambda error: self.errors.append(error.stack or ""))

    def open(self, cells: list[str]) -> None:
        """Write the notebook, open it, and run all its cells."""
        notebook = nbformat.v4.new_notebook()
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
        nbformat.write(notebook, self._path)
        self.page.on("dialog", lambda dialog: dialog.accept())
        name = self._path.relative_to(self._path.parents[1])
        self.page.goto(f"{self._address}/lab/tree/{name}?token={TOKEN}&reset")
        self.wait_for_kernel()
        self.command("notebook:run-all-cells")

    def wait_for_kernel(self) -> None:
        """Wait until the notebook's kernel is there and idle."""
        self.page.wait_for_function("window.jupyterapp", timeout=60_000)
        self.page.evaluate("jupyterapp.started.then(() => jupyterapp.restored)")
        self.page.wait_for_function(
            f"{PANEL}?.sessionContext.session?.kernel?.status === 'idle'",
            timeout=60_000,
        )

    def command(self, name: str) -> None:
        """Carry out a command of JupyterLab's, without waiting for its end."""
        self.page.evaluate(f"void jupyterapp.commands.execute('{name}')")

    def set_source(self, index: int, code: str) -> None:
        """Write another text into a cell."""
        self.page.evaluate(
            f"([index, code]) => {PANEL}.content.widgets[index]"
            ".model.sharedModel.setSource(code)",
            [index, code],
        )

    def keep_busy(self, seconds: float) -> None:
        """Let the kernel's main thread sleep, and go on at once."""
        self.page.evaluate(
            f"(code) => void {PANEL}.sessionContext.session.kernel"
            ".requestExecute({code})",
            f"import time; time.sleep({seconds})",
        )
        self.page.wait_for_timeout(500)

    def save(self) -> None:
        """Save the notebook."""
        self.page.evaluate("jupyterapp.commands.execute('docmanager:save')")

    def set_theme(self, name: str) -> None:
        """Choose JupyterLab's theme: `Light` or `Dark`."""
        self.page.evaluate(
            "jupyterapp.commands.execute('apputils:change-theme', "
            f"{{theme: 'JupyterLab {name}'}})"
        )

    def run_cell(self, index: int) -> None:
        """Run one cell, without waiting for its end."""
        self.page.evaluate(f"{PANEL}.content.activeCellIndex = {index}")
        self.command("notebook:run-cell")

    def execute(self, code: str) -> str:
        """Run code in the kernel without a cell; return what it printed."""
        return str(
            self.page.evaluate(
                """async (code) => {
                  const kernel = PANEL.sessionContext.session.kernel;
                  const future = kernel.requestExecute({code, store_history: false});
                  let out = '';
                  future.onIOPub = (message) => {
                    out += message.content.text ?? '';
                    out += (message.content.traceback ?? []).join('\\n');
                  };
                  await future.done;
                  return out;
                }""".replace("PANEL", PANEL),
                code,
            )
        )

    def restart_kernel(self) -> None:
        """Restart the kernel, as the menu does."""
        self.page.evaluate(f"{PANEL}.sessionContext.session.kernel.restart()")

    # The panel, by accessible names

    @property
    def panel(self) -> Locator:
        """The first view of the panel."""
        return self.page.get_by_label("Tetris training", exact=True).first

    def button(self, name: str) -> Locator:
        """A button of the panel."""
        return self.panel.get_by_role("button", name=name, exact=True)

    @property
    def board(self) -> str:
        """The board's label: lines and pieces."""
        label = self.panel.get_by_role("img").first.get_attribute("aria-label")
        return label or ""

    @property
    def timesteps(self) -> int:
        """The timesteps that the progress bar says."""
        bar = self.panel.get_by_role("progressbar")
        text = bar.get_attribute("aria-valuetext") or "0"
        return int(text.split(" ")[0].replace(",", ""))

    def expect_status(self, name: str, seconds: float = 30) -> None:
        """Wait for a status."""
        status = self.panel.get_by_role("status")
        expect(status).to_have_text(name, timeout=seconds * 1000)

    def chart(self, name: str) -> Locator:
        """A chart: `lines`, `reward` or `metric`; its data attributes say what it has.

        `data-timesteps`, the range shown; `data-points`, of all its curves together;
        `data-marks`.
        """
        return self.panel.locator(f"[data-name={name}] [data-timesteps]")

    def points(self, name: str) -> int:
        """The number of points that a chart has."""
        return int(self.chart(name).get_attribute("data-points") or 0)

    @property
    def log(self) -> list[str]:
        """The lines of the log, the newest first."""
        return self.panel.get_by_role("log").locator(".tw-note").all_inner_texts()

    def wait_for(self, condition: Callable[[], Any], seconds: float = 30) -> None:
        """Poll until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "timed out"
            self.page.wait_for_timeout(20)

    def screenshot(self, name: str) -> None:
        """Keep a picture of the panel."""
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.mouse.move(0, 0)
        self.panel.scroll_into_view_if_needed()
        self.panel.screenshot(path=SCREENSHOTS / f"{name}.png")


PANEL = (
    "[...jupyterapp.shell.widgets('main')]"
    ".find(w => w.context && w.content?.widgets && w.sessionContext)"
)


@contextmanager
def open_notebook(
    lab: tuple[str, Path], browser: Browser, name: str
) -> Iterator[Notebook]:
    """Open a page for a notebook in a directory of its own."""
    address, root = lab
    directory = root / "".join(c if c.isalnum() else "_" for c in name)
    directory.mkdir()
    context = browser.new_context(viewport={"width": 1400, "height": 1200})
    page = context.new_page()
    yield Notebook(page, address, directory / "test.ipynb")
    if not page.is_closed():
        page.evaluate(f"{PANEL}?.sessionContext.shutdown()")
    context.close()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)
