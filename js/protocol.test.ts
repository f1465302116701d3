import { describe, expect, it } from "vitest";
import { parseUpdate, toBytes } from "./protocol";

const BASE = { type: "update", seq: 3, since: 1, status: { state: "running" } };

function columns(values: number[]): ArrayBuffer {
  return Float64Array.from(values).buffer;
}

describe("an update", () => {
  it("is read with its series, from any alignment", () => {
    const series = [
      { name: "a", epoch: 2, start: 5, length: 2, buffer: 0, columns: [] },
    ];
    const raw = new Uint8Array(columns([1, 2, 3, 4, 5, 6, 7, 8]));
    const shifted = new Uint8Array(raw.length + 3);
    shifted.set(raw, 3);
    const view = new DataView(shifted.buffer, 3);
    const update = parseUpdate({ ...BASE, series }, [view]);
    const tail = update.tails[0]!;
    expect(tail.start).toBe(5);
    expect([...tail.columns[0]]).toEqual([1, 2]);
    expect([...tail.columns[3]]).toEqual([7, 8]);
  });

  it("is read with its frames", () => {
    const frames = {
      view: "watch",
      rows: 1,
      columns: 2,
      count: 2,
      buffer: 0,
      moves: [{ piece: 1 }, { piece: 2 }],
    };
    const update = parseUpdate({ ...BASE, frames }, [new Uint8Array([1, 2, 3, 4])]);
    expect(update.view).toBe("watch");
    expect(update.frames.map((frame) => [...frame.cells])).toEqual([
      [1, 2],
      [3, 4],
    ]);
  });

  it.each([
    [undefined],
    [{}],
    [{ ...BASE, seq: "3" }],
    [{ ...BASE, status: null }],
    [{ ...BASE, series: [{ name: "a", length: 2, buffer: 0 }] }],
  ])("that is malformed is refused: %j", (content) => {
    expect(() => parseUpdate(content, [])).toThrow(/update|buffer/);
  });
});

it("buffers may come as DataView, Uint8Array or ArrayBuffer", () => {
  const buffer = new Uint8Array([9, 8, 7]).buffer;
  expect([...toBytes(buffer)]).toEqual([9, 8, 7]);
  expect([...toBytes(new DataView(buffer, 1))]).toEqual([8, 7]);
  expect([...toBytes(new Uint8Array(buffer, 2))]).toEqual([7]);
});
