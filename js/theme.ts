// Colours: from the host's CSS variables, read when drawing; and when they change.
// Knows nothing of what is drawn.

/** Reads one of the widget's CSS variables as it is now. */
export function colour(element: Element, name: string): string {
  return getComputedStyle(element).getPropertyValue(name).trim();
}

/** Whether the host is dark: JupyterLab and VS Code say so, else the system does. */
export function isDark(element: Element): boolean {
  const body = element.ownerDocument.body;
  const lab = body.dataset.jpThemeLight;
  if (lab !== undefined) return lab === "false";
  const kind = body.dataset.vscodeThemeKind ?? body.className;
  if (/vscode-(dark|high-contrast(?!-light))/.test(kind)) return true;
  if (/vscode-light/.test(kind)) return false;
  const root = element.ownerDocument.documentElement;
  if (root.getAttribute("theme") === "dark" || root.classList.contains("dark")) {
    return true;
  }
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Keeps the class `tw-dark` right, and calls back after each change. */
export function followTheme(
  element: HTMLElement,
  changed: () => void,
  signal: AbortSignal,
): void {
  const update = () => {
    element.classList.toggle("tw-dark", isDark(element));
    changed();
  };
  const observer = new MutationObserver(update);
  const watched = { attributes: true };
  observer.observe(document.body, watched);
  observer.observe(document.documentElement, watched);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update, {
    signal,
  });
  signal.addEventListener("abort", () => observer.disconnect());
  update();
}
