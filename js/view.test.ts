// @vitest-environment happy-dom
import { expect, it } from "vitest";
import type { Status } from "./protocol";
import { detailOf } from "./view";

const NOTHING = {
  state: "running",
  reason: null,
  detail: null,
  not_responding: null,
  target_lines: null,
};

function detail(fields: Partial<Status>): string {
  return detailOf({ ...NOTHING, ...fields } as Status);
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
