// Files from and to the person's computer. Knows nothing of what is in them.

/** Servers refuse messages beyond 10 MB. */
export const PART_BYTES = 4_000_000;

/** Hands a file to the browser's downloads. */
export function download(name: string, bytes: Uint8Array): void {
  const link = document.createElement("a");
  const data = bytes.slice().buffer as ArrayBuffer;
  link.href = URL.createObjectURL(new Blob([data], { type: "application/zip" }));
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  URL.revokeObjectURL(link.href);
}

/** A file in parts that a message can carry; an empty file has one. */
export function partsOf(data: ArrayBuffer): ArrayBuffer[] {
  const count = Math.max(1, Math.ceil(data.byteLength / PART_BYTES));
  return Array.from({ length: count }, (_, i) =>
    data.slice(i * PART_BYTES, (i + 1) * PART_BYTES),
  );
}
