// @vitest-environment happy-dom
import { beforeEach, describe, expect, it, vi } from "vitest";
import type { Command, Frame, Status, Tail } from "./protocol";
import { Store } from "./store";
import { STATUS } from "./testing";
import { detailOf, PanelView, timeOf } from "./view";

function detail(fields: Partial<Status>): string {
  return detailOf({ ...STATUS, ...fields });
}

it("beside the status stands what matters most", () => {
  expect(detail({})).toBe("");
  expect(detail({ target_lines: 1000 })).toBe("goal: 1,000 lines per game");
  expect(detail({ target_lines: 1000, detail: "importing torch" })).toBe(
    "importing torch",
  );
  const reason = "reached 1,000 lines per game";
  expect(detail({ state: "finished", reason })).toBe(reason);
  const silent = { seconds: 3.4, phase: "gradient update" };
  expect(detail({ not_responding: silent, target_lines: 1000 })).toBe(
    "not responding for 3 s (gradient update)",
  );
});

it("the time says what is left only where something is", () => {
  expect(timeOf(STATUS)).toBe("0:11 · *1:39* left");
  expect(timeOf({ ...STATUS, remaining: null })).toBe("0:11 · *–:––* left");
  expect(timeOf({ ...STATUS, state: "finished" })).toBe("0:11");
});

describe("a view", () => {
  beforeEach(() => document.body.replaceChildren());

  function make() {
    const sent: Command[] = [];
    const store = new Store(() => true);
    let seq = 0;
    const send = (command: Command) => sent.push(command);
    const view = new PanelView(store, send, () => null);
    view.mount(document.body, new AbortController().signal);
    const root = document.querySelector<HTMLElement>("section")!;
    /** Applies an update, and lets a frame pass. */
    const show = async (fields: object = {}, runId = "one") => {
      seq += 1;
      const empty = { notes: [], tails: [], frames: [], demo: [], sync: false };
      const always = { seq, since: seq - 1, runId, view: null, library: null };
      store.apply({ ...empty, ...always, status: STATUS, ...fields });
      view.push(store.takeFrames());
      await new Promise((resolve) => requestAnimationFrame(resolve));
      await new Promise((resolve) => requestAnimationFrame(resolve));
    };
    return { store, sent, root, show };
  }

  function tails(...names: string[]): Tail[] {
    const column = Float64Array.of(1);
    return names.map((name) => ({
      name,
      epoch: 0,
      start: 0,
      columns: [column, column, column, column],
    }));
  }

  const board = (root: HTMLElement) =>
    root.querySelector(".tw-board")?.getAttribute("aria-label");

  it("begins another run with an empty board", async () => {
    const { root, show } = make();
    const frame = (lines: number) =>
      ({ lines, pieces: 9, next: [], cells: new Uint8Array(200) }) as object as Frame;
    await show({ frames: [frame(3)], view: "watch" });
    expect(board(root)).toBe("Tetris board, 3 lines, 9 pieces");
    await show({}, "two");
    expect(board(root)).toBe("Tetris board, 0 lines, 0 pieces");
    await show({ frames: [frame(1)], view: "watch" }, "three");
    expect(board(root)).toBe("Tetris board, 1 lines, 9 pieces");
  });

  it("offers the metrics that there are, also when their number stays", async () => {
    const { root, show } = make();
    const offered = () =>
      [...root.querySelectorAll("figcaption option")].map((one) => one.textContent);
    await show({ tails: tails("train/loss", "train/entropy_loss") });
    expect(offered()).toEqual(["Entropy", "Loss"]);
    expect(root.textContent).toContain("one of 2 metrics");
    await show({ tails: tails("rollout/x", "train/y") }, "two");
    expect(offered()).toEqual(["rollout/x", "y"]);
  });

  it("says what its curves are", async () => {
    const { root, show } = make();
    const at = (value: number) => Float64Array.of(value);
    const [tail] = tails("evaluation/lines");
    tail!.columns = [at(1), at(177), at(460), at(277)];
    await show({ tails: [tail] });
    const captions = [...root.querySelectorAll(".tw-about")].map(
      (one) => one.textContent,
    );
    expect(captions[0]).toContain("evaluation 277 (95 %: 177 to 460), 20 games");
    expect(captions[1]).toContain("each of 1,204 games");
    tail!.columns = [at(2), at(400), at(1600), at(1600)];
    await show({ tails: [tail] });
    expect(root.querySelector(".tw-about")?.textContent).toContain(
      "evaluation at least 400 (no game ended), 20 games",
    );
    await show({ status: { ...STATUS, best_eval: { mean: 1600, lo: 400, hi: 1600 } } });
    expect(root.textContent).toContain("≥ 400");
    expect(captions[0]).toContain("training, mean of 100");
    await show({ status: { ...STATUS, training_rows: 8 } });
    expect(root.querySelector(".tw-about")?.textContent).toContain(
      "training on 8 rows, mean of 100",
    );
  });

  it("has a name of its own for every box", async () => {
    const { root, show } = make();
    await show();
    const boxes = [...root.querySelectorAll("figure [type=checkbox]")];
    expect(boxes.map((box) => box.getAttribute("aria-label"))).toEqual([
      "log: Lines per game",
      "log: Reward per game",
      "log: Metric",
    ]);
  });

  it("keeps keys to itself, but not the host's shortcuts", async () => {
    const { root, sent, show } = make();
    await show();
    const heard: string[] = [];
    const listen = (event: Event) => heard.push((event as KeyboardEvent).key);
    document.body.addEventListener("keydown", listen);
    const press = (key: string, held: KeyboardEventInit = {}) =>
      root.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, ...held }));
    press("b");
    press(" ");
    press("s", { ctrlKey: true });
    press("s", { metaKey: true });
    press("x", { altKey: true });
    press(" ", { ctrlKey: true });
    press(" ", { repeat: true });
    document.body.removeEventListener("keydown", listen);
    expect(heard).toEqual(["s", "s", "x", " "]);
    expect(sent).toEqual([{ command: "pause" }]);
  });

  it("pauses by Space from radios and the slider, which have no use for it", async () => {
    const { root, sent, show } = make();
    await show();
    for (const name of ["[type=radio]", "[type=range]", "[type=checkbox]", "select"]) {
      const event = new KeyboardEvent("keydown", {
        key: " ",
        bubbles: true,
        cancelable: true,
      });
      root.querySelector(name)!.dispatchEvent(event);
      expect(event.defaultPrevented).toBe(name.includes("ra"));
    }
    expect(sent).toEqual([{ command: "pause" }, { command: "pause" }]);
  });

  it("has radios of its own, though a host loads its module for every panel", async () => {
    const names = [];
    for (let i = 0; i < 2; i += 1) {
      vi.resetModules();
      const { PanelView } = await import("./view");
      const view = new PanelView(
        new Store(() => true),
        () => undefined,
        () => null,
      );
      view.mount(document.body, new AbortController().signal);
      const root = [...document.querySelectorAll("section.tetris-widget")].at(-1)!;
      names.push(root.querySelector<HTMLInputElement>("[type=radio]")!.name);
      names.push(root.querySelector(".tw-models-body")!.id);
    }
    expect(new Set(names).size).toBe(4);
  });
});
