// @vitest-environment happy-dom
import { describe, expect, it, vi } from "vitest";
import { Board, MAX_QUEUED, Player } from "./board";
import { cellsOf } from "./pieces";
import type { Frame } from "./protocol";

const frame = (pieces: number) => ({ pieces }) as Frame;

describe("the player of moves", () => {
  it("shows nothing before the first move", () => {
    expect(new Player().at(0, 10)).toBeNull();
  });

  it("shows each move for its time", () => {
    const player = new Player();
    player.push([frame(1), frame(2)]);
    expect(player.at(0, 2)?.frame.pieces).toBe(1);
    expect(player.at(0.25, 2)?.progress).toBeCloseTo(0.5);
    expect(player.at(0.5, 2)?.frame.pieces).toBe(2);
  });

  it("rests on the last move", () => {
    const player = new Player();
    player.push([frame(1)]);
    player.at(0, 2);
    expect(player.at(100, 2)).toEqual({ frame: frame(1), progress: 1 });
  });

  it("keeps the move on screen when what waits is forgotten", () => {
    const player = new Player();
    player.push([frame(1), frame(2)]);
    player.at(0, 2);
    player.clear();
    expect(player.at(9, 2)?.frame.pieces).toBe(1);
  });

  it("settles on the newest move, also when none was on screen", () => {
    const player = new Player();
    player.push([frame(1), frame(2)]);
    player.settle();
    expect(player.at(0, 2)).toEqual({ frame: frame(2), progress: 1 });
    player.settle();
    expect(player.at(0, 2)?.frame.pieces).toBe(2);
  });

  it("has an empty board for another run", () => {
    const player = new Player();
    player.push([frame(1), frame(2)]);
    player.at(0, 2);
    player.reset();
    expect(player.at(9, 2)).toBeNull();
    player.push([frame(3)]);
    expect(player.at(10, 2)?.frame.pieces).toBe(3);
  });

  it("lets the newest win when it falls behind", () => {
    const player = new Player();
    player.push(Array.from({ length: 100 }, (_, i) => frame(i)));
    expect(player.at(0, 10)?.frame.pieces).toBeGreaterThanOrEqual(95);
  });
});

describe("where nothing is drawn", () => {
  it("moves do not pile up", () => {
    const player = new Player();
    for (let i = 0; i < 10 * MAX_QUEUED; i += 1) player.push([frame(i)]);
    const shown = new Set<number>();
    for (let now = 0; now < 10; now += 0.001) {
      shown.add(player.at(now, 1000)!.frame.pieces);
    }
    expect(shown.size).toBeLessThanOrEqual(MAX_QUEUED);
    expect(Math.max(...shown)).toBe(10 * MAX_QUEUED - 1);
  });
});

describe("a board", () => {
  const PACE = 2;

  function make() {
    const drawn = vi.fn();
    const canvas = document.createElement("canvas");
    const board = new Board(canvas, document.createElement("canvas"), () => false);
    // What it draws with is made for each picture.
    canvas.getContext = () => {
      drawn();
      return null;
    };
    const move = (fields: Partial<Frame>) =>
      ({
        cells: new Uint8Array(4),
        piece: 1,
        rotation: 0,
        column: 3,
        ...fields,
      }) as Frame;
    const draw = (now: number) => board.draw(now, PACE, 20, 10, 0);
    return { board, drawn, move, draw };
  }

  it("shows a piece that is turned or moved in its row", () => {
    const { board, drawn, move, draw } = make();
    board.player.push([move({ row: 5, falls: false })]);
    draw(0);
    draw(0.1);
    expect(drawn).toHaveBeenCalledTimes(1);
    board.player.push([move({ row: 5, column: 4, falls: false })]);
    draw(1);
    expect(drawn).toHaveBeenCalledTimes(2);
  });

  it("lets a piece fall, but not with every key", () => {
    const { board, drawn, move, draw } = make();
    board.player.push([move({ row: 10 })]);
    for (let now = 0; now < 0.5; now += 0.02) draw(now);
    expect(drawn.mock.calls.length).toBeGreaterThan(5);
    drawn.mockClear();
    board.player.push([move({ row: 10, falls: false })]);
    for (let now = 1; now < 1.5; now += 0.02) draw(now);
    expect(drawn).toHaveBeenCalledTimes(1);
  });
});

it("every piece has four cells in each orientation", () => {
  for (let piece = 1; piece <= 7; piece += 1) {
    for (let rotation = 0; rotation < 4; rotation += 1) {
      expect(cellsOf(piece, rotation).length).toBe(4);
    }
  }
});
