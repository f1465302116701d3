import { describe, expect, it } from "vitest";
import {
  align,
  decades,
  leastDecade,
  logRange,
  pad,
  placeLabels,
  reading,
  smooth,
  thin,
  withGoal,
} from "./charts";
import { linesChart, metricChart, metricsOf, titleOf } from "./curves";
import { amount, clock, end, short, whole } from "./format";

describe("smoothing", () => {
  it("of weight 0 changes nothing", () => {
    expect(smooth([1, null, 3], 0)).toEqual([1, null, 3]);
  });

  it("of a constant is that constant from the start", () => {
    for (const value of smooth([5, 5, 5], 0.9)) expect(value).toBeCloseTo(5);
  });

  it("skips what is missing", () => {
    expect(smooth([1, null, 1], 0.5)[1]).toBeNull();
  });
});

it("series are aligned on one x", () => {
  const aligned = align([
    { x: [1, 3], y: [10, 30] },
    { x: [2, 3], y: [200, 300] },
  ]);
  expect(aligned).toEqual([
    [1, 2, 3],
    [10, null, 30],
    [null, 200, 300],
  ]);
});

it("of two points at one x the later one counts", () => {
  const x = [1, 1, 2];
  const parts = [
    { x, y: [10, 11, 20] },
    { x, y: [1, 2, 3] },
  ];
  expect(align(parts)).toEqual([
    [1, 2],
    [11, 20],
    [2, 3],
  ]);
});

describe("a log axis", () => {
  const marks = (values: number[]) => {
    const least = leastDecade([values]);
    const [lo, hi] = [Math.min(...values), Math.max(...values)];
    return decades(...logRange(lo, hi, least), least);
  };

  it("has room for zero", () => {
    expect(decades(0, 2000, 0)).toEqual([0, 1, 10, 100, 1000]);
    expect(logRange(0, 3, 0)).toEqual([0, 10]);
    expect(logRange(null, null, 0)).toEqual([0, 10]);
  });

  it("has marks for values below one", () => {
    const found = marks([0.0004, 0.005]);
    expect(found.length).toBe(5);
    [0, 1e-6, 1e-5, 1e-4, 1e-3].forEach((mark, i) => {
      expect(found[i]).toBeCloseTo(mark, 12);
    });
  });

  it("shows what is negative", () => {
    expect(marks([-300, -2])).toEqual([-100, -10, -1, -0.1, 0]);
    expect(marks([-3, 20])).toEqual([-1, -0.1, -0.01, 0, 0.01, 0.1, 1, 10]);
    expect(logRange(-300, -2, -1)).toEqual([-360, 0]);
  });

  it("has no more marks than there is room for", () => {
    const values = marks([-3e5, 2e5]);
    expect(values.length).toBe(9);
    expect(thin(values, 9)).toEqual(values);
    expect(thin(values, 5)).toEqual([-1e5, -1e3, 0, 1e3, 1e5]);
    expect(thin([0, 1, 10, 100], 0)).toEqual([0, 100]);
  });

  it("of nothing, or of zero, is one all the same", () => {
    expect(marks([0])).toEqual([0, 1, 10]);
    expect(leastDecade([[]])).toBe(0);
  });
});

describe("what hovering reads", () => {
  const values = [null, 80, 200, 7, 7];
  const value = (i: number) => values[i];
  const line = { kind: "line" } as const;
  const points = { label: "games", kind: "points" } as const;

  it("is a mean and its interval", () => {
    const curve = { ...line, label: "evaluation", between: [1, 2] as [number, number] };
    expect(reading(curve, 120, value)).toBe("evaluation 120 (80 to 200)");
  });

  it("is a mean alone where there is no interval", () => {
    expect(reading({ ...line, label: "mean" }, 4.681, value)).toBe("mean 4.68");
  });

  it("is the range of a cloud, or its only value", () => {
    expect(reading({ ...points, between: [1, 2] }, 80, value)).toBe("games 80 to 200");
    expect(reading({ ...points, between: [3, 4] }, 7, value)).toBe("games 7");
  });

  it("is nothing where nothing is", () => {
    expect(reading(points, null, value)).toBe("");
  });
});

describe("a range of values", () => {
  it("has air on both sides", () => {
    const [lo, hi] = pad(-3, -1);
    expect(lo).toBeLessThan(-3);
    expect(hi).toBeGreaterThan(-1);
  });

  it("starts at zero rather than below it", () => {
    expect(pad(0, 10)[0]).toBe(0);
    expect(pad(2, 10)[0]).toBe(0);
    expect(pad(8, 10)[0]).toBeGreaterThan(7);
  });

  it.each([
    [null, null],
    [0, 0],
    [5, 5],
    [-3.0167438983917236, -3.016743898391723],
  ])("of %d to %d is wide enough for marks", (lo, hi) => {
    const [from, to] = pad(lo, hi);
    expect(to - from).toBeGreaterThan(1e-3);
    expect(from).toBeLessThanOrEqual(lo ?? 0);
    expect(to).toBeGreaterThanOrEqual(hi ?? 0);
  });
});

describe("labels of marks", () => {
  const label = (x: number, text = "a") => ({ text, x, width: 30 });
  const places = (...labels: ReturnType<typeof label>[]) =>
    placeLabels(labels, 200, 4).map(({ left, row }) => [left, row]);

  it("stand right of their lines, and left of one at the right end", () => {
    expect(places(label(10), label(190))).toEqual([
      [14, 0],
      [156, 0],
    ]);
  });

  it("stand below each other rather than over each other", () => {
    expect(places(label(10), label(12), label(60))).toEqual([
      [14, 0],
      [16, 1],
      [64, 0],
    ]);
  });

  it("are left out where there is no room at all", () => {
    expect(places(...[10, 11, 12, 13].map((x) => label(x))).length).toBe(3);
  });
});

describe("the metrics", () => {
  it("are those without a chart of their own", () => {
    const names = ["running/lines", "train/loss", "episode/lines", "episode/length"];
    expect(metricsOf(names)).toEqual(["episode/length", "train/loss"]);
    const charted = linesChart().curves.map((curve) => curve.series);
    expect(metricsOf(charted)).toEqual([]);
  });

  it("have names for people, and else their own", () => {
    expect(titleOf("train/learning_rate")).toBe("Learning rate");
    expect(titleOf("train/n_updates")).toBe("n_updates");
  });

  it("show the entropy, not the loss that is its negative", () => {
    expect(titleOf("train/entropy_loss")).toBe("Entropy");
    const signs = metricChart("train/entropy_loss").curves.map((curve) => curve.sign);
    expect(signs).toEqual([-1, -1, -1]);
    const [low, high] = metricChart("train/entropy_loss").curves;
    expect([low?.column, high?.column]).toEqual(["hi", "lo"]);
    expect(metricChart("train/loss").curves[0]?.sign).toBe(1);
  });
});

it("a goal is always in sight", () => {
  expect(withGoal(0, 10, null)).toEqual([0, 10]);
  expect(withGoal(2, 10, 100)).toEqual([2, 100]);
  expect(withGoal(20, 30, 10)).toEqual([10, 30]);
  expect(withGoal(null, null, 10)).toEqual([0, 10]);
});

describe("numbers", () => {
  it.each([
    [0, "0"],
    [0.004, "0.004"],
    [0.00001, "1e-5"],
    [1200, "1.2k"],
    [999_600, "1M"],
    [999.7, "1k"],
    [2_000_000, "2M"],
    [1e12, "1T"],
  ])("%d is %s on an axis", (value, text) => {
    expect(short(value)).toBe(text);
  });

  it.each([
    [0, "0"],
    [0.519, "0.519"],
    [1283.7, "1,284"],
  ])("a mean of %d lines is %s", (value, text) => {
    expect(amount(value)).toBe(text);
  });

  it.each([
    [0.00013, "0"],
    [0.0741, "0.07"],
    [1.25, "1.25"],
    [3724, "3.72k"],
  ])("%d lines are %s at the end of an interval", (value, text) => {
    expect(end(value)).toBe(text);
  });

  it("are whole with separators", () => {
    expect(whole(1234567.8)).toBe("1,234,568");
  });

  it.each([
    [11, "0:11"],
    [671, "11:11"],
    [3723, "1:02:03"],
  ])("%d seconds are %s", (seconds, text) => {
    expect(clock(seconds)).toBe(text);
  });
});
