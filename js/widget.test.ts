// @vitest-environment happy-dom
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { STATUS } from "./testing";
import widget from "./widget";

const UPDATE = { type: "update", seq: 1, since: 0, run_id: "a", status: STATUS };

beforeEach(() => {
  vi.useFakeTimers();
  document.body.replaceChildren();
});
afterEach(() => vi.useRealTimers());

function open() {
  const heard = new Map<string, (...args: unknown[]) => void>();
  const sent: { type: string }[] = [];
  const model = {
    comm_live: true,
    get: (name: string) => (name === "panel_id" ? "panel" : {}),
    send: (message: { type: string }) => void sent.push(message),
    on: (event: string, callback: (...args: never[]) => void) =>
      void heard.set(event, callback as never),
    off: () => undefined,
  };
  const end = new AbortController();
  widget.initialize({ model, signal: end.signal });
  widget.render({ model, el: document.body, signal: end.signal });
  return {
    model,
    sent,
    end,
    hear: (event: string, ...args: unknown[]) => heard.get(event)!(...args),
    says: () => document.querySelector(".tw-detail")?.textContent,
    start: () => document.querySelector("button")!,
  };
}

it("a kernel that answers nothing is said to be silent, until it is heard", () => {
  const { sent, hear, says } = open();
  hear("msg:custom", UPDATE, []);
  vi.advanceTimersByTime(9_000);
  expect(says()).toBe("");
  vi.advanceTimersByTime(5_000);
  expect(says()).toBe("No answer from the kernel");
  expect(sent.filter((one) => one.type === "sync").length).toBeGreaterThan(3);
  hear("msg:custom", { ...UPDATE, seq: 2, since: 1 }, []);
  vi.advanceTimersByTime(100);
  expect(says()).toBe("");
});

it("a kernel that was restarted is said to be so, and nothing can be pressed", () => {
  const { model, hear, says, start } = open();
  hear("msg:custom", { ...UPDATE, status: { ...STATUS, state: "idle" } }, []);
  vi.advanceTimersByTime(100);
  expect(start().disabled).toBe(false);
  model.comm_live = false;
  hear("comm_live_update");
  vi.advanceTimersByTime(100);
  expect(says()).toContain("The kernel was restarted");
  expect(start().disabled).toBe(true);
});

it("a view that is closed is silent", () => {
  const { sent, end } = open();
  const before = sent.length;
  end.abort();
  vi.advanceTimersByTime(20_000);
  expect(sent.length).toBe(before);
  expect(document.querySelector("section")).toBeNull();
});
