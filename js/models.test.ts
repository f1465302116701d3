// @vitest-environment happy-dom
import { beforeEach, describe, expect, it, vi } from "vitest";
import { PART_BYTES, partsOf } from "./files";
import { dateText, linesText, Models, sorted } from "./models";
import type { Entry, Job, Library, Status } from "./protocol";

function entry(name: string, fields: Partial<Entry> = {}): Entry {
  return {
    name,
    mean_lines: 120.4,
    lower: 80,
    upper: 200,
    best_lines: 300,
    timesteps: 1_000_000,
    algorithm: "ppo",
    saved_at: 1_700_000_000,
    notes: "",
    ...fields,
  };
}

function library(entries: Entry[], fields: Partial<Library> = {}): Library {
  return { entries, told: null, boards: [], ...fields };
}

const STATUS = { state: "stopped", run_dir: "runs/a", timesteps: 5000 } as Status;

function make(entries: Entry[] = [entry("a"), entry("b"), entry("c")]) {
  const sent: Job[] = [];
  const models = new Models(
    (job) => sent.push(job),
    "test",
    () => true,
  );
  document.body.replaceChildren(models.element);
  let last = library(entries);
  const show = (fields: Partial<Library> = {}, status = STATUS, alive = true) => {
    last = library(fields.entries ?? entries, fields);
    models.update(last, status, alive);
  };
  const redraw = () => models.update(last, STATUS, true);
  show();
  const find = (name: string) =>
    [...document.querySelectorAll("button")].find((one) => one.textContent === name)!;
  const choose = (name: string) => {
    document.querySelector<HTMLElement>(`[aria-label="${name}"]`)!.click();
    redraw();
  };
  return { sent, show, redraw, find, choose };
}

function rows(): (string | undefined)[] {
  const boxes = document.querySelectorAll<HTMLInputElement>("tbody [type=checkbox]");
  return [...boxes].map((one) => one.value);
}

beforeEach(() => document.body.replaceChildren());

describe("the list", () => {
  it("says what is known of a model, and what is not", () => {
    expect(linesText(entry("a"))).toBe("120 (80 to 200)");
    expect(linesText(entry("a", { mean_lines: null }))).toBe("–");
    const open = { mean_lines: 900, lower: 300, upper: 900 };
    expect(linesText(entry("a", open))).toBe("≥ 300");
    expect(dateText(1_700_000_000)).toMatch(/^2023-11-1[45] \d\d:\d\d$/);
  });

  it("is sorted by any column, what is not known last", () => {
    const entries = [
      entry("b10", { mean_lines: null }),
      entry("b9", { mean_lines: 1 }),
      entry("b2", { mean_lines: 2 }),
    ];
    const names = (key: "name" | "mean_lines", isDescending: boolean) =>
      sorted(entries, { key, isDescending }).map((one) => one.name);
    expect(names("name", false)).toEqual(["b2", "b9", "b10"]);
    expect(names("mean_lines", true)).toEqual(["b2", "b9", "b10"]);
    expect(names("mean_lines", false)).toEqual(["b9", "b2", "b10"]);
  });

  it("says by which column it is sorted", () => {
    const { find, redraw } = make();
    find("Name").click();
    redraw();
    expect(find("Name").parentElement!.getAttribute("aria-sort")).toBe("ascending");
    find("Name").click();
    redraw();
    expect(rows()).toEqual(["c", "b", "a"]);
  });

  it("shows a name as text, whatever is in it", () => {
    make([entry("a", { notes: "<img src=x>" })]);
    expect(document.querySelector("img")).toBeNull();
  });

  it("is left alone while nothing changes", () => {
    const { show } = make();
    const row = document.querySelector("tbody tr");
    show();
    expect(document.querySelector("tbody tr")).toBe(row);
  });
});

describe("the actions", () => {
  it("need a model, or two to be watched", () => {
    const { find, choose } = make();
    expect(find("Watch").disabled).toBe(true);
    choose("a");
    expect(find("Watch").disabled).toBe(false);
    expect(find("Delete").disabled).toBe(false);
    choose("b");
    expect(find("Watch both").disabled).toBe(false);
    expect(find("Delete").disabled).toBe(true);
  });

  it("a third model takes the place of the first", () => {
    const { find, choose, sent } = make();
    for (const name of ["a", "b", "c"]) choose(name);
    find("Watch both").click();
    expect(sent).toEqual([{ do: "demo", names: ["b", "c"] }]);
  });

  it("send jobs", () => {
    const { find, choose, sent } = make();
    choose("a");
    for (const name of ["New run", "Export", "Delete"]) find(name).click();
    expect(sent).toEqual([
      { do: "train", name: "a" },
      { do: "export", name: "a" },
      { do: "delete", name: "a" },
    ]);
  });

  it("a model is trained on only when no run is under way", () => {
    const { find, choose, show } = make();
    choose("a");
    show({}, { ...STATUS, state: "running" });
    expect(find("New run").disabled).toBe(true);
    expect(find("Watch").disabled).toBe(false);
  });

  it("are all disabled when the kernel is gone", () => {
    const { choose, show } = make();
    choose("a");
    show({}, STATUS, false);
    const enabled = [...document.querySelectorAll("button")].filter((one) => {
      return !one.disabled && !one.closest("thead, .tw-show") && !one.hidden;
    });
    expect(enabled.map((one) => one.textContent)).toEqual(["Models3"]);
  });

  it("what was deleted is brought back", () => {
    const { find, sent, show } = make();
    expect(find("Undo").hidden).toBe(true);
    show({ told: { level: "info", text: "“a” is deleted", undo: "a" } });
    find("Undo").click();
    expect(sent).toEqual([{ do: "restore", name: "a" }]);
  });

  it("a name and notes are edited in place; Escape leaves them", () => {
    const { find, choose, sent, redraw } = make();
    choose("a");
    const press = (key: string) => {
      const input = document.querySelector<HTMLInputElement>(
        '[aria-label="New name"]',
      )!;
      input.value = "z";
      input.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
      redraw();
    };
    find("Rename").click();
    press("Escape");
    expect(sent).toEqual([]);
    find("Rename").click();
    press("Enter");
    expect(sent).toEqual([{ do: "rename", name: "a", new_name: "z" }]);
    expect(document.querySelector('[aria-label="New name"]')).toBeNull();
  });

  describe("a model that is renamed", () => {
    function rename(to: string) {
      const made = make();
      made.choose("a");
      made.find("Rename").click();
      const input = document.querySelector<HTMLInputElement>(
        '[aria-label="New name"]',
      )!;
      input.value = to;
      const enter = { key: "Enter", bubbles: true };
      input.dispatchEvent(new KeyboardEvent("keydown", enter));
      made.redraw();
      const deleted = () => {
        made.find("Delete").click();
        return made.sent.at(-1);
      };
      return { ...made, deleted };
    }

    it("stays chosen under its new name", () => {
      const { show, deleted } = rename("z");
      show({ entries: ["z", "b", "c"].map((name) => entry(name)) });
      expect(deleted()).toEqual({ do: "delete", name: "z" });
    });

    it("stays chosen under its old name if the new one is refused", () => {
      const { show, deleted } = rename("b");
      show({ told: { level: "error", text: "“b” is taken", undo: null } });
      expect(deleted()).toEqual({ do: "delete", name: "a" });
      expect(document.querySelector(".tw-chosen")).not.toBeNull();
      // What happens to it later, in another view, does not choose the other.
      show({ entries: ["b", "c"].map((name) => entry(name)) });
      expect(document.querySelector(".tw-chosen")).toBeNull();
    });
  });

  describe("a file that cannot be imported", () => {
    const said = () => document.querySelector(".tw-told")!.textContent;
    function upload(file: object) {
      const input = document.querySelector<HTMLInputElement>("[type=file]")!;
      Object.defineProperty(input, "files", { value: [file] });
      input.dispatchEvent(new Event("change"));
    }

    it("is refused with its name if it is empty", () => {
      const { sent } = make();
      upload({ name: "a.zip", size: 0 });
      expect(said()).toContain("a.zip: 0 bytes");
      expect(sent).toEqual([]);
    });

    it("is refused with its name if the browser cannot read it", async () => {
      const { sent } = make();
      const arrayBuffer = () => Promise.reject(new Error("no permission"));
      upload({ name: "a.zip", size: 9, arrayBuffer });
      await vi.waitFor(() => expect(said()).toContain("a.zip cannot be read"));
      expect(said()).toContain("no permission");
      expect(sent).toEqual([]);
    });
  });
});

describe("saving", () => {
  it("sends name, notes and which; without a name it has one", () => {
    const { find, sent } = make();
    const [name, notes] =
      document.querySelectorAll<HTMLInputElement>(".tw-field input");
    notes!.value = "try";
    find("Save model").closest("form")!.dispatchEvent(new Event("submit"));
    name!.value = "mine";
    find("Save model").closest("form")!.dispatchEvent(new Event("submit"));
    expect(sent).toEqual([
      { do: "save", name: "at 5k timesteps", which: "current", notes: "try" },
      { do: "save", name: "mine", which: "current", notes: "try" },
    ]);
  });

  it("needs a run", () => {
    const { find, show } = make();
    show({}, { ...STATUS, run_dir: null });
    expect(find("Save model").disabled).toBe(true);
  });
});

it("a large file goes in parts", () => {
  const sizes = partsOf(new ArrayBuffer(PART_BYTES * 2 + 1)).map((p) => p.byteLength);
  expect(sizes).toEqual([PART_BYTES, PART_BYTES, 1]);
});

it("is folded at first, and says so", () => {
  const { find } = make();
  const fold = find("Models3");
  expect(fold.getAttribute("aria-expanded")).toBe("false");
  fold.click();
  expect(fold.getAttribute("aria-expanded")).toBe("true");
});
