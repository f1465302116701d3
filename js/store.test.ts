import { describe, expect, it } from "vitest";
import type { Frame, Status, Tail, Update } from "./protocol";
import { ANSWER_MS, MAX_FRAMES, MAX_NOTES, SILENCE_MS, Store } from "./store";

const STATUS = { state: "running" } as Status;

function update(fields: Partial<Update>): Update {
  return {
    seq: 1,
    since: 0,
    runId: "run",
    status: STATUS,
    notes: [],
    tails: [],
    frames: [],
    view: null,
    sync: false,
    library: null,
    demo: [],
    ...fields,
  };
}

function tail(start: number, x: number[], epoch = 0): Tail {
  const column = Float64Array.from(x);
  return { name: "a", epoch, start, columns: [column, column, column, column] };
}

function make() {
  const asked: number[] = [];
  let now = 0;
  const store = new Store(
    (since) => {
      asked.push(since);
      return true;
    },
    () => now,
  );
  return {
    store,
    asked,
    pass: (ms: number) => {
      now += ms;
    },
  };
}

describe("a store", () => {
  it("appends tails and replaces the points that they overlap", () => {
    const { store } = make();
    store.apply(update({ tails: [tail(0, [1, 2, 3])] }));
    store.apply(update({ seq: 2, since: 1, tails: [tail(2, [30, 40])] }));
    expect(store.series.get("a")?.x).toEqual([1, 2, 30, 40]);
  });

  it("drops a series whose epoch has changed", () => {
    const { store } = make();
    store.apply(update({ tails: [tail(0, [1, 2, 3])] }));
    store.apply(update({ seq: 2, since: 1, tails: [tail(0, [2], 1)] }));
    expect(store.series.get("a")?.x).toEqual([2]);
  });

  it("asks for everything when it missed the beginning of an epoch", () => {
    const { store, asked } = make();
    store.apply(update({ tails: [tail(0, [1, 2, 3])] }));
    store.apply(update({ seq: 2, since: 1, tails: [tail(5, [2], 1)] }));
    expect(asked).toEqual([0]);
  });

  it("asks after a gap and shows the status all the same", () => {
    const { store, asked } = make();
    store.apply(update({ seq: 5 }));
    const paused = { state: "paused" } as Status;
    store.apply(update({ seq: 9, since: 7, status: paused }));
    expect(asked).toEqual([5]);
    expect(store.status).toBe(paused);
    expect(store.seq).toBe(5);
  });

  it("keeps the last frame of its run, for views that open later", () => {
    const { store } = make();
    const frame = { lines: 3 } as Frame;
    store.apply(update({ frames: [{ lines: 2 } as Frame, frame], view: "watch" }));
    store.takeFrames();
    expect(store.lastFrame).toBe(frame);
    store.apply(update({ seq: 2, runId: "another" }));
    expect(store.lastFrame).toBeNull();
  });

  it("asks when it is running and has heard nothing, once", () => {
    const { store, asked, pass } = make();
    store.apply(update({ seq: 3 }));
    store.tick();
    expect(asked).toEqual([]);
    pass(SILENCE_MS + 1);
    store.tick();
    store.tick();
    expect(asked).toEqual([3]);
    pass(ANSWER_MS + 1);
    store.tick();
    expect(asked).toEqual([3, 3]);
  });

  it("asks nothing while it is idle", () => {
    const { store, asked, pass } = make();
    store.apply(update({ status: { state: "finished" } as Status }));
    pass(60_000);
    store.tick();
    expect(asked).toEqual([]);
  });

  it("starts afresh with another run", () => {
    const { store } = make();
    store.apply(update({ tails: [tail(0, [1])] }));
    store.apply(update({ seq: 2, since: 1, runId: "other" }));
    expect(store.series.size).toBe(0);
  });

  it("stays bounded", () => {
    const { store } = make();
    const notes = Array.from({ length: 500 }, (_, i) => ({
      seq: i + 1,
      level: "info" as const,
      text: "",
      elapsed: null,
      detail: null,
    }));
    const frames = Array.from({ length: 500 }, () => ({}) as never);
    store.apply(update({ notes, frames }));
    expect(store.notes.length).toBe(MAX_NOTES);
    expect(store.takeFrames().length).toBe(MAX_FRAMES);
    expect(store.takeFrames()).toEqual([]);
  });

  it("shows each note once", () => {
    const { store } = make();
    const note = {
      seq: 4,
      level: "info" as const,
      text: "x",
      elapsed: 0,
      detail: null,
    };
    store.apply(update({ notes: [note] }));
    store.apply(update({ seq: 5, since: 3, notes: [note] }));
    expect(store.notes.length).toBe(1);
  });
});
