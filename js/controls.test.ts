// @vitest-environment happy-dom
import { describe, expect, it, vi } from "vitest";
import {
  buttonsFor,
  Controls,
  costsOf,
  LABELS,
  movesPerSecond,
  paceText,
} from "./controls";
import { Fact } from "./dom";
import { Log } from "./log";
import type { Command, State, Status } from "./protocol";
import { STATUS } from "./testing";

function status(state: State, fields: Partial<Status> = {}): Status {
  return { ...STATUS, state, ...fields };
}

function make() {
  const sent: Command[] = [];
  const controls = new Controls((command) => sent.push(command), "test");
  const byName = (name: string) =>
    [...controls.element.querySelectorAll("button")].find(
      (one) => one.textContent === name,
    )!;
  return { controls, sent, byName };
}

describe("the buttons", () => {
  it.each([
    ["idle", "Start"],
    ["starting", "Pause Stop"],
    ["running", "Pause Stop"],
    ["pausing", "Resume Stop"],
    ["paused", "Resume Stop"],
    ["stopping", ""],
    ["finished", "Start"],
    ["stopped", "Start"],
    ["failed", "Start"],
  ] as [State, string][])("in %s: %s", (state, expected) => {
    const { controls } = make();
    controls.update(status(state), true);
    const enabled = [...controls.element.querySelectorAll("button")]
      .filter((one) => !one.disabled)
      .map((one) => one.textContent);
    expect(enabled.join(" ")).toBe(expected);
  });

  it("send their commands", () => {
    const { controls, sent, byName } = make();
    controls.update(status("idle"), true);
    byName("Start").click();
    controls.update(status("running"), true);
    byName("Pause").click();
    controls.update(status("paused"), true);
    byName("Resume").click();
    byName("Stop").click();
    expect(sent.map((one) => one.command)).toEqual([
      "start",
      "pause",
      "resume",
      "stop",
    ]);
  });

  it("a finished run is resumed, and says for how long", () => {
    const { controls, sent, byName } = make();
    const fields = { can_resume: true, more_timesteps: 2_000_000 };
    controls.update(status("finished", fields), true);
    expect(byName("Resume").title).toBe("for 2,000,000 more timesteps");
    byName("Resume").click();
    expect(sent).toEqual([{ command: "resume" }]);
    controls.update(status("failed", fields), true);
    expect(byName("Resume").title).toBe("");
  });

  it("are all disabled when the kernel is gone", () => {
    const { controls } = make();
    controls.update(status("running"), false);
    for (const one of controls.element.querySelectorAll("button, input")) {
      expect((one as HTMLButtonElement).disabled).toBe(true);
    }
  });

  it("toggling makes sense only when one of both does", () => {
    const { controls, sent } = make();
    controls.update(status("finished"), true);
    controls.togglePause();
    expect(sent).toEqual([]);
  });
});

describe("the focus", () => {
  function focused(name: string, before: State, after: State): Element | null {
    const { controls, byName } = make();
    const panel = document.createElement("section");
    panel.tabIndex = 0;
    panel.append(controls.element);
    document.body.replaceChildren(panel);
    controls.update(status(before), true);
    byName(name).focus();
    controls.update(status(after), true);
    return document.activeElement;
  }

  it("goes from Start to Pause, so that Space pauses", () => {
    expect(focused("Start", "idle", "starting")?.textContent).toBe("Pause");
  });

  it("goes from Pause to the panel, and never to Stop", () => {
    expect(focused("Pause", "running", "stopping")?.tagName).toBe("SECTION");
  });

  it("stays where it can", () => {
    expect(focused("Pause", "starting", "running")?.textContent).toBe("Pause");
    expect(focused("Pause", "running", "pausing")?.textContent).toBe("Resume");
    expect(focused("Stop", "running", "pausing")?.textContent).toBe("Stop");
  });
});

it("what is paid beside the learning is said", () => {
  const costs = { watch_cost: 0.012, evaluation_cost: 0.0481 };
  expect(costsOf(status("running"))).toEqual([]);
  expect(costsOf(status("running", costs))).toEqual([
    "watching costs 1.2 %",
    "evaluating 4.8 %",
  ]);
  expect(costsOf(status("running", { ...costs, view: "headless" }))).toEqual([
    "evaluating costs 4.8 %",
  ]);
});

it("a fact keeps the room of its longest text", () => {
  const fact = new Fact();
  fact.reserve("*1,000* / 1,000");
  fact.set("*1* / 1,000");
  const [shown, room] = fact.element.children;
  expect(shown?.innerHTML).toBe("<b>1</b> / 1,000");
  expect(room?.textContent).toBe("1,000 / 1,000");
  expect(room?.ariaHidden).toBe("true");
  fact.set("*10,000* / 1,000");
  expect(room?.textContent).toBe("10,000 / 1,000");
});

it("every state has exactly one word", () => {
  expect(Object.values(LABELS).sort()).toEqual(
    "Failed Finished Idle Paused Pausing Starting Stopped Stopping Training".split(" "),
  );
  expect(buttonsFor("paused").resume).toBe(true);
});

it("the view is chosen by radios", () => {
  const { controls, sent } = make();
  document.body.append(controls.element);
  controls.update(status("running"), true);
  const group = controls.element.querySelector("[role=radiogroup]")!;
  expect(group.getAttribute("aria-label")).toBe("View");
  group.querySelector<HTMLInputElement>("[value=step]")!.click();
  expect(sent).toEqual([{ command: "set_view", view: "step" }]);
});

it("the slider sends at most ten values a second, and always the last", () => {
  vi.useFakeTimers();
  const { controls, sent } = make();
  const slider = controls.element.querySelector<HTMLInputElement>("[type=range]")!;
  for (let i = 0; i <= 50; i += 1) {
    slider.value = String(0.1 + 0.9 * (i / 50));
    slider.dispatchEvent(new Event("input"));
    vi.advanceTimersByTime(10);
  }
  vi.advanceTimersByTime(200);
  expect(sent.length).toBeLessThanOrEqual(7);
  expect(sent.at(-1)).toEqual({ command: "set_speed", speed: 1 });
  vi.useRealTimers();
});

it("the pace is said in the view's own terms", () => {
  expect(paceText("watch", movesPerSecond(0.1), 0)).toBe("2 moves/s");
  expect(paceText("watch", movesPerSecond(1), 0)).toBe("60 moves/s");
  expect(paceText("step", 1, 0.03)).toBe("30 ms/step");
});

describe("the log", () => {
  const note = { seq: 1, id: 1, level: "error" as const, text: "broken", elapsed: 61 };

  it("shows the newest first, and folds tracebacks", () => {
    const log = new Log();
    log.update([
      { ...note, detail: null },
      { ...note, seq: 2, id: 2, text: "<b>worse</b>", detail: "Traceback …" },
    ]);
    expect(log.element.getAttribute("role")).toBe("log");
    const first = log.element.firstElementChild!;
    expect(first.textContent).toContain("1:01<b>worse</b>");
    expect(first.querySelector("details")?.open).toBe(false);
  });

  it("puts a note in the place of the one that it replaces", () => {
    const log = new Log();
    const best = { ...note, level: "good" as const, detail: null };
    log.update([{ ...best, text: "new best: 5 lines" }]);
    log.update([
      { ...best, seq: 2, id: 2, text: "other" },
      { ...best, seq: 3, text: "new best: 7 lines: more" },
    ]);
    const texts = [...log.element.children].map((row) => row.textContent);
    expect(texts).toEqual(["1:01new best: 7 lines: more", "1:01other"]);
    // Only what it is has the colour of good news.
    expect(log.element.querySelector("em")?.textContent).toBe("new best");
  });

  it("leaves alone what it shows already", () => {
    const log = new Log();
    log.update([{ ...note, detail: null }]);
    const shown = log.element.firstElementChild;
    log.update([{ ...note, detail: null }]);
    expect(log.element.firstElementChild).toBe(shown);
  });
});
