// The shapes of the pieces, as in the Python package's game/pieces.py.

export const PIECE_NAMES = ["", "I", "O", "T", "S", "Z", "J", "L"] as const;

const SHAPES: Record<string, string[][]> = {
  I: [["####"], ["#", "#", "#", "#"]],
  O: [["##", "##"]],
  T: [
    [".#.", "###"],
    ["#.", "##", "#."],
    ["###", ".#."],
    [".#", "##", ".#"],
  ],
  S: [
    [".##", "##."],
    ["#.", "##", ".#"],
  ],
  Z: [
    ["##.", ".##"],
    [".#", "##", "#."],
  ],
  J: [
    ["#..", "###"],
    ["##", "#.", "#."],
    ["###", "..#"],
    [".#", ".#", "##"],
  ],
  L: [
    ["..#", "###"],
    ["#.", "#.", "##"],
    ["###", "#.."],
    ["##", ".#", ".#"],
  ],
};

/** The (row, column) of a piece's cells in its box, row 0 on top. */
export function cellsOf(piece: number, rotation: number): [number, number][] {
  const shapes = SHAPES[PIECE_NAMES[piece] ?? ""];
  const shape = shapes?.[rotation % shapes.length] ?? [];
  return shape.flatMap((row, i) =>
    [...row].flatMap((char, j): [number, number][] => (char === "#" ? [[i, j]] : [])),
  );
}
