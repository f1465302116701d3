// @vitest-environment happy-dom
import { describe, expect, it, vi } from "vitest";
import { buttonsFor, Controls, LABELS, movesPerSecond, paceText } from "./controls";
import { Log } from "./log";
import type { Command, State, Status } from "./protocol";

function status(state: State, fields: Partial<Status> = {}): Status {
  return { state, view: "watch", speed: 0.5, watch_cost: null, ...fields } as Status;
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
    ["pausing", "Stop"],
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

  it("a finished run is trained for longer, and says for how long", () => {
    const { controls, sent, byName } = make();
    const fields = { can_resume: true, more_timesteps: 2_000_000 };
    controls.update(status("finished", fields), true);
    expect(byName("Train longer").title).toBe("for 2,000,000 more timesteps");
    byName("Train longer").click();
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
  const note = { seq: 1, level: "error" as const, text: "broken", elapsed: 61 };

  it("shows the newest first, and folds tracebacks", () => {
    const log = new Log();
    log.update([
      { ...note, detail: null },
      { ...note, seq: 2, text: "<b>worse</b>", detail: "Traceback …" },
    ]);
    expect(log.element.getAttribute("role")).toBe("log");
    const first = log.element.firstElementChild!;
    expect(first.textContent).toContain("1:01<b>worse</b>");
    expect(first.querySelector("details")?.open).toBe(false);
  });

  it("leaves alone what it shows already", () => {
    const log = new Log();
    log.update([{ ...note, detail: null }]);
    const shown = log.element.firstElementChild;
    log.update([{ ...note, detail: null }]);
    expect(log.element.firstElementChild).toBe(shown);
  });
});
