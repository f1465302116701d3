import { describe, expect, it } from "vitest";
import type { Frame, Library, Status, Tail, Update } from "./protocol";
import {
  AFTERWARDS_MS,
  ANSWER_MS,
  MAX_FRAMES,
  MAX_NOTES,
  SILENCE_MS,
  Store,
  UNPUSHED_MS,
} from "./store";

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

  it("counts the time without an answer from the first question", () => {
    const { store, asked, pass } = make();
    store.apply(update({ seq: 3 }));
    for (let ms = 0; ms < 4 * ANSWER_MS; ms += SILENCE_MS) {
      pass(SILENCE_MS);
      store.tick();
    }
    expect(asked.length).toBeGreaterThan(2);
    expect(store.isUnansweredFor(3 * ANSWER_MS)).toBe(true);
    // Whatever comes shows that somebody is there.
    store.apply(update({ seq: 4, since: 3 }));
    expect(store.isUnansweredFor(0)).toBe(false);
  });

  it("asks nothing while it is idle", () => {
    const { store, asked, pass } = make();
    store.apply(update({ status: { state: "finished" } as Status }));
    pass(60_000);
    store.tick();
    expect(asked).toEqual([]);
  });

  it("asks for a while after a command, whose effect may never be pushed", () => {
    const { store, asked, pass } = make();
    store.apply(update({ seq: 3, status: { state: "idle" } as Status }));
    pass(SILENCE_MS + 1);
    store.follow();
    store.tick();
    expect(asked).toEqual([3]);
    // A cell may keep the kernel busy: that is no trouble.
    pass(2 * ANSWER_MS);
    store.tick();
    expect(asked).toEqual([3, 3]);
    expect(store.isUnansweredFor(ANSWER_MS)).toBe(false);
    store.apply(update({ seq: 3, status: { state: "idle" } as Status, sync: true }));
    pass(AFTERWARDS_MS);
    store.tick();
    expect(asked).toEqual([3, 3]);
  });

  it("forgets a series that is gone", () => {
    const { store } = make();
    store.apply(update({ tails: [tail(0, [1, 2])] }));
    const { version } = store;
    store.apply(update({ seq: 2, since: 1, tails: [tail(0, [])] }));
    expect(store.series.has("a")).toBe(false);
    expect(store.version).toBeGreaterThan(version);
  });

  it("starts afresh with another run", () => {
    const { store } = make();
    store.apply(update({ tails: [tail(0, [1])] }));
    store.apply(update({ seq: 2, since: 1, runId: "other" }));
    expect(store.series.size).toBe(0);
    expect(store.runs).toBe(1);
  });

  it("the first run that it hears of is no other", () => {
    const { store } = make();
    store.apply(update({ runId: null }));
    store.apply(update({ seq: 2, since: 1, runId: "first" }));
    expect(store.runs).toBe(0);
  });

  describe("the boards of answers", () => {
    const frame = (pieces: number) =>
      ({ pieces, lines: 0, cells: new Uint8Array([pieces]) }) as Frame;
    const answer = (pieces: number) =>
      update({ sync: true, frames: [frame(pieces)], view: "watch" });
    const shown = (store: Store) => store.takeFrames().map((one) => one.pieces);

    it("are shown where nothing is pushed", () => {
      const { store, pass } = make();
      store.apply(answer(1));
      pass(SILENCE_MS);
      store.apply(answer(2));
      expect(shown(store)).toEqual([1, 2]);
    });

    it("are not shown where boards are pushed", () => {
      const { store, pass } = make();
      store.apply(update({ frames: [frame(5)], view: "watch" }));
      pass(UNPUSHED_MS);
      store.apply(answer(4));
      expect(shown(store)).toEqual([5]);
      pass(1);
      store.apply(answer(6));
      expect(shown(store)).toEqual([6]);
    });

    it("are shown once", () => {
      const { store } = make();
      store.apply(answer(1));
      store.apply(answer(1));
      expect(shown(store)).toEqual([1]);
    });

    it("are shown for every key, where a piece takes several", () => {
      const { store } = make();
      for (const column of [3, 3, 4]) {
        const moved = { ...frame(1), column };
        store.apply(update({ sync: true, frames: [moved], view: "watch" }));
      }
      expect(store.takeFrames().map((one) => one.column)).toEqual([3, 4]);
    });
  });

  describe("the models on show", () => {
    const move = (pieces: number) =>
      ({ pieces, lines: 0, cells: new Uint8Array([pieces]) }) as Frame;
    const moves = (board: number, ...pieces: number[]) => ({
      board,
      frames: pieces.map(move),
    });
    const shown = (store: Store) =>
      store
        .takeDemo()
        .map(({ board, frames }) => [board, ...frames.map((one) => one.pieces)]);

    it("are asked for where nothing is pushed, while no run goes on", () => {
      const { store, asked, pass } = make();
      const status = { state: "idle" } as Status;
      const library = { entries: [], told: null, boards: [{}] } as unknown as Library;
      store.apply(update({ status }));
      pass(SILENCE_MS + 1);
      store.tick();
      expect(asked).toEqual([]);
      store.apply(update({ seq: 2, since: 1, status, library }));
      pass(SILENCE_MS + 1);
      store.tick();
      expect(asked).toEqual([2]);
    });

    it("are shown from answers, each move once", () => {
      const { store } = make();
      store.apply(update({ sync: true, demo: [moves(0, 1), moves(1, 1)] }));
      store.apply(update({ sync: true, demo: [moves(0, 1), moves(1, 2)] }));
      expect(shown(store)).toEqual([
        [0, 1],
        [1, 1],
        [1, 2],
      ]);
    });

    it("are not shown from answers where moves are pushed", () => {
      const { store, pass } = make();
      store.apply(update({ demo: [moves(0, 1, 2)] }));
      pass(UNPUSHED_MS);
      store.apply(update({ sync: true, demo: [moves(0, 1)] }));
      expect(shown(store)).toEqual([[0, 1, 2]]);
      pass(1);
      store.apply(update({ sync: true, demo: [moves(0, 3)] }));
      expect(shown(store)).toEqual([[0, 3]]);
    });
  });

  it("stays bounded", () => {
    const { store } = make();
    const notes = Array.from({ length: 500 }, (_, i) => ({
      seq: i + 1,
      id: i + 1,
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
      id: 4,
      level: "info" as const,
      text: "x",
      elapsed: 0,
      detail: null,
    };
    store.apply(update({ notes: [note] }));
    store.apply(update({ seq: 5, since: 3, notes: [note] }));
    expect(store.notes.length).toBe(1);
  });

  it("puts a note in the place of the one with its id", () => {
    const { store } = make();
    const fields = { level: "good" as const, elapsed: 1, detail: null };
    const note = (seq: number, id: number, text: string) => ({
      ...fields,
      seq,
      id,
      text,
    });
    store.apply(update({ seq: 2, notes: [note(1, 1, "one"), note(2, 2, "other")] }));
    store.apply(update({ seq: 3, since: 2, notes: [note(3, 1, "two")] }));
    expect(store.notes.map((one) => one.text)).toEqual(["other", "two"]);
  });
});
