import { describe, expect, it } from "vitest";
import { Player } from "./board";
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

it("every piece has four cells in each orientation", () => {
  for (let piece = 1; piece <= 7; piece += 1) {
    for (let rotation = 0; rotation < 4; rotation += 1) {
      expect(cellsOf(piece, rotation).length).toBe(4);
    }
  }
});
