// The widget's life: `initialize` owns the connection (once per model), `render` the
// DOM (once per view). Knows anywidget; nothing of drawing.

import "uplot/dist/uPlot.min.css";
import "./widget.css";
import { download } from "./files";
import {
  type Command,
  type Frame,
  parseUpdate,
  type Status,
  toBytes,
} from "./protocol";
import { Store } from "./store";
import { PanelView } from "./view";

const TICK_MS = 250;
/** A kernel that leaves a question unanswered for so long may be gone. */
const SILENT_MS = 10_000;
const SILENT = "No answer from the kernel";
const GONE = "The kernel was restarted: use TrainingPanel.attach()";

interface Model {
  get(name: string): unknown;
  send(content: unknown, callbacks?: unknown, buffers?: ArrayBuffer[]): void;
  on(event: string, callback: (...args: never[]) => void): void;
  off(event: string, callback: (...args: never[]) => void): void;
}

interface Snapshot {
  status?: Status;
  series?: Record<string, [number[], number[], number[], number[]]>;
  messages?: Store["notes"];
  frame?: Omit<Frame, "cells"> & { cells: number[] };
}

/** One per model: the store, its views, and the way to the kernel. */
class Connection {
  readonly store: Store;
  readonly views = new Set<PanelView>();
  /** Why nothing can be steered, in a sentence; null: all is well. */
  trouble: string | null = null;
  // Answers go to all tabs: each must know its own.
  private nextId = Math.floor(Math.random() * 2 ** 40);
  private readonly exports = new Set<number>();

  constructor(private readonly model: Model) {
    this.store = new Store((since) => this.post({ type: "sync", since }));
    this.showSnapshot((model.get("snapshot") ?? {}) as Snapshot);
  }

  /** Listens until `signal` aborts. */
  open(signal: AbortSignal): void {
    const onMessage = (
      content: { type?: string; id?: number; name?: string },
      buffers: DataView[],
    ) => {
      if (content?.type === "file" && this.exports.delete(content.id ?? -1)) {
        download(content.name ?? "model.zip", toBytes(buffers[0]!));
      }
      if (content?.type === "ack") this.store.follow();
      if (content?.type !== "update") return;
      this.store.apply(parseUpdate(content, buffers));
      this.trouble = null;
      const frames = this.store.takeFrames();
      const demo = this.store.takeDemo();
      for (const view of this.views) {
        if (frames.length) view.push(frames);
        view.models.push(demo);
      }
    };
    // Fired by ipywidgets when the kernel behind a model is replaced.
    const onGone = () => {
      const isLive = (this.model as { comm_live?: boolean }).comm_live;
      if (isLive !== undefined) this.trouble = isLive ? null : GONE;
    };
    this.model.on("msg:custom", onMessage as never);
    this.model.on("comm_live_update", onGone);
    this.store.sync();
    const timer = setInterval(() => {
      this.store.tick();
      if (this.store.isUnansweredFor(SILENT_MS)) this.trouble ??= SILENT;
    }, TICK_MS);
    signal.addEventListener("abort", () => {
      clearInterval(timer);
      this.model.off("msg:custom", onMessage as never);
      this.model.off("comm_live_update", onGone);
    });
  }

  readonly send = (command: Command, file?: ArrayBuffer): void => {
    this.nextId += 1;
    if (command.command === "library" && command.job.do === "export") {
      this.exports.add(this.nextId);
    }
    this.post({ type: "command", id: this.nextId, ...command }, file);
  };

  private post(message: unknown, file?: ArrayBuffer): boolean {
    try {
      if (file) this.model.send(message, undefined, [file]);
      else this.model.send(message);
      return true;
    } catch {
      this.trouble = GONE; // "Cannot send"
      return false;
    }
  }

  /** Shows what the notebook has saved, until the kernel answers. */
  private showSnapshot(snapshot: Snapshot): void {
    if (!snapshot.status) return;
    this.store.status = snapshot.status;
    this.store.notes = [...(snapshot.messages ?? [])];
    for (const [name, [x, lo, hi, mean]] of Object.entries(snapshot.series ?? {})) {
      this.store.series.set(name, { epoch: -1, x, lo, hi, mean });
    }
    const { frame } = snapshot;
    if (frame) this.store.lastFrame = { ...frame, cells: Uint8Array.from(frame.cells) };
  }
}

/** By `panel_id`: anywidget hands `initialize` and each `render` a model of its own. */
const connections = new Map<string, Connection>();

function connect(model: Model, signal: AbortSignal): Connection {
  const connection = new Connection(model);
  connection.open(signal);
  return connection;
}

export default {
  initialize({ model, signal }: { model: Model; signal: AbortSignal }): void {
    const id = String(model.get("panel_id"));
    connections.set(id, connect(model, signal));
    signal.addEventListener("abort", () => connections.delete(id));
  },

  render({
    model,
    el,
    signal,
  }: {
    model: Model;
    el: HTMLElement;
    signal: AbortSignal;
  }): void {
    // A host may load this module again for every view.
    const id = String(model.get("panel_id"));
    const connection = connections.get(id) ?? connect(model, signal);
    const view = new PanelView(
      connection.store,
      connection.send,
      () => connection.trouble,
    );
    view.mount(el, signal);
    connection.views.add(view);
    signal.addEventListener("abort", () => connection.views.delete(view));
  },
};
