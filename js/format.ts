// Numbers as people read them. Pure functions.

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** 1284 → "1,284" */
export function whole(value: number): string {
  return WHOLE.format(value);
}

/** A mean of lines: 0.52 → "0.52", 1283.7 → "1,284" */
export function amount(value: number): string {
  return value < 10 ? trim(value) : whole(value);
}

/** An end of an interval of such a mean: 0.00222 → "0", 0.0741 → "0.07", 3724 → "3.72k" */
export function end(value: number): string {
  return value < 1 ? trim(Number(value.toFixed(2))) : short(value);
}

/** Seconds as "0:11" or "1:02:03". */
export function clock(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  const parts = [Math.floor(s / 60) % 60, s % 60].map((n) =>
    String(n).padStart(2, "0"),
  );
  const hours = Math.floor(s / 3600);
  return hours ? `${hours}:${parts.join(":")}` : `${Number(parts[0])}:${parts[1]}`;
}

/** A number on an axis: 1200 → "1.2k", 0.004 → "0.004". */
export function short(value: number): string {
  const size = Math.abs(value);
  const steps: [number, string][] = [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ];
  for (const [unit, letter] of steps) {
    // Rounded before the unit is chosen: 999,600 is "1M", not "1000k".
    if (Number(size.toPrecision(3)) >= unit) return `${trim(value / unit)}${letter}`;
  }
  return trim(value);
}

function trim(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 0.001) return value.toExponential(1).replace(".0e", "e");
  return String(Number(value.toPrecision(3)));
}

/** Whether no game of an evaluation has ended: only the lower end is known. */
export function isOpen(mean: number, upper: number): boolean {
  return mean > 0 && upper <= mean;
}
