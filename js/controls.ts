// The controls: real buttons, radios and a slider, and when each makes sense. Knows
// states and commands, nothing of how they travel.

import { button, element, setText } from "./dom";
import { whole } from "./format";
import type { Command, State, Status, View } from "./protocol";

const THROTTLE_MS = 100;
const TOUCH_MS = 1000;

export const LABELS: Record<State, string> = {
  idle: "Idle",
  starting: "Starting",
  running: "Training",
  pausing: "Pausing",
  paused: "Paused",
  stopping: "Stopping",
  finished: "Finished",
  stopped: "Stopped",
  failed: "Failed",
};

export const STARTABLE: ReadonlySet<State> = new Set<State>([
  "idle",
  "finished",
  "stopped",
  "failed",
]);
const PAUSABLE = new Set<State>(["starting", "running"]);
const STOPPABLE = new Set<State>(["starting", "running", "pausing", "paused"]);
const VIEWS: View[] = ["headless", "watch", "step"];

/** Which buttons make sense in a state. */
export function buttonsFor(
  state: State,
  canResume = false,
): {
  start: boolean;
  pause: boolean;
  resume: boolean;
  stop: boolean;
} {
  return {
    start: STARTABLE.has(state),
    pause: PAUSABLE.has(state),
    // Before it is so, too: while a run starts, a pause waits for seconds.
    resume:
      state === "paused" || state === "pausing" || (canResume && STARTABLE.has(state)),
    stop: STOPPABLE.has(state),
  };
}

/** What the slider's value means in a view. */
export function paceText(view: View, pace: number, delay: number): string {
  if (view === "step") return `${Math.round(delay * 1000)} ms/step`;
  return `${Math.round(pace)} moves/s`;
}

/** The pace of the watched game, as in the Python package's config.py. */
export function movesPerSecond(speed: number): number {
  return 2 * 30 ** ((speed - 0.1) / 0.9);
}

/** What is paid beside the learning: "watching costs 1.2 %", "evaluating 4.8 %". */
export function costsOf(status: Status): string[] {
  const percent = (share: number) => `${(share * 100).toFixed(1)} %`;
  const { watch_cost: watched, evaluation_cost: evaluated } = status;
  const costs: string[] = [];
  if (watched !== null && status.view === "watch") {
    costs.push(`watching costs ${percent(watched)}`);
  }
  if (evaluated !== null) {
    costs.push(`evaluating ${costs.length ? "" : "costs "}${percent(evaluated)}`);
  }
  return costs;
}

export class Controls {
  readonly element = document.createElement("div");
  private readonly start = button("Start");
  private readonly pause = button("Pause");
  private readonly stop = button("Stop");
  private readonly radios = new Map<View, HTMLInputElement>();
  private readonly slider = document.createElement("input");
  // Not an <output>: that is a second status to a screen reader.
  private readonly output = document.createElement("span");
  private readonly costs = [element("span"), element("span")];
  private state: State = "idle";
  private canResume = false;
  private view: View = "watch";
  private sentAt = -Infinity;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private touchedAt = -Infinity;

  constructor(
    private readonly send: (command: Command) => void,
    name: string,
  ) {
    this.element.className = "tw-toolbar";
    this.start.addEventListener("click", () => send({ command: "start" }));
    this.stop.addEventListener("click", () => send({ command: "stop" }));
    this.pause.addEventListener("click", () => this.togglePause());
    this.start.dataset.widest = "Start";
    this.pause.dataset.widest = "Resume";
    this.stop.dataset.widest = "Stop";
    const costs = element("span", "tw-costs");
    costs.append(...this.costs);
    this.element.append(
      this.start,
      this.pause,
      this.stop,
      this.buildViews(name),
      this.buildSpeed(),
      costs,
    );
    this.showState("idle", false, false);
  }

  /** Pauses or resumes, whichever makes sense; nothing otherwise. */
  togglePause(): void {
    const can = buttonsFor(this.state, this.canResume);
    if (can.pause) this.send({ command: "pause" });
    else if (can.resume) this.send({ command: "resume" });
  }

  update(status: Status, alive: boolean): void {
    this.showState(status.state, status.can_resume, alive);
    const isLonger = status.state === "finished" && status.can_resume;
    const more = `for ${whole(status.more_timesteps)} more timesteps`;
    this.pause.title = isLonger ? more : "";
    // Not while a hand is on them: the answer to an older value would pull them back.
    if (performance.now() - this.touchedAt > TOUCH_MS) {
      this.view = status.view;
      this.radios.get(status.view)!.checked = true;
      this.slider.value = String(status.speed);
      this.showSpeed(status.speed);
    }
    const costs = costsOf(status);
    this.costs.forEach((span, i) => {
      setText(span, costs[i] ?? "");
    });
  }

  private showState(state: State, canResume: boolean, alive: boolean): void {
    this.state = state;
    this.canResume = canResume;
    const can = buttonsFor(state, canResume);
    setText(this.pause, can.resume ? "Resume" : "Pause");
    this.enable(this.pause, alive && (can.pause || can.resume));
    this.enable(this.start, alive && can.start);
    this.enable(this.stop, alive && can.stop);
    // The obvious next thing: to go on with what there is, if that is possible.
    const begins = can.start && !can.resume;
    this.start.classList.toggle("tw-primary", begins);
    this.pause.classList.toggle("tw-primary", !begins);
    for (const input of [...this.radios.values(), this.slider]) {
      this.enable(input, alive);
    }
  }

  /** Disables or enables; the focus must not fall out of the panel. */
  private enable(control: HTMLButtonElement | HTMLInputElement, on: boolean): void {
    if (control.disabled === !on) return;
    const { activeElement } = control.getRootNode() as Document;
    control.disabled = !on;
    if (on || activeElement !== control) return;
    const { pause } = this;
    // Not to Stop, of all: Space pauses and resumes on both of these.
    const next = pause.disabled ? this.element.closest<HTMLElement>("section") : pause;
    next?.focus({ preventScroll: true });
  }

  private buildViews(name: string): HTMLElement {
    const group = document.createElement("div");
    group.className = "tw-segments";
    group.setAttribute("role", "radiogroup");
    group.setAttribute("aria-label", "View");
    for (const view of VIEWS) {
      const label = document.createElement("label");
      const radio = document.createElement("input");
      radio.type = "radio";
      radio.name = name;
      radio.value = view;
      radio.addEventListener("change", () => this.onView(view));
      label.append(radio, capitalise(view));
      group.append(label);
      this.radios.set(view, radio);
    }
    return group;
  }

  private buildSpeed(): HTMLElement {
    const label = document.createElement("label");
    label.className = "tw-speed";
    this.output.className = "tw-pace";
    Object.assign(this.slider, { type: "range", min: "0.1", max: "1", step: "0.05" });
    this.slider.setAttribute("aria-label", "Speed");
    this.slider.addEventListener("input", () => this.onSlide());
    const name = element("span");
    name.textContent = "Speed";
    label.append(name, this.slider, this.output);
    return label;
  }

  private onView(view: View): void {
    this.touchedAt = performance.now();
    this.view = view;
    this.showSpeed(Number(this.slider.value));
    this.send({ command: "set_view", view });
  }

  private onSlide(): void {
    this.touchedAt = performance.now();
    this.showSpeed(Number(this.slider.value));
    clearTimeout(this.timer);
    const wait = Math.max(0, this.sentAt + THROTTLE_MS - performance.now());
    this.timer = setTimeout(() => {
      this.sentAt = performance.now();
      this.send({ command: "set_speed", speed: Number(this.slider.value) });
    }, wait);
  }

  private showSpeed(speed: number): void {
    const text = paceText(this.view, movesPerSecond(speed), (1 - speed) * 0.1);
    this.output.textContent = text;
    this.slider.setAttribute("aria-valuetext", text);
  }
}

function capitalise(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
