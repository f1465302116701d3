// Builds the front end into the Python package, or into the directory given.
import { context } from "esbuild";

const watch = process.argv.includes("--watch");
const out = process.argv.slice(2).find((arg) => !arg.startsWith("--"));

const build = await context({
  entryPoints: { widget: "js/widget.ts" },
  outdir: out ?? "tetris_widget/panel/static",
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: !watch,
  legalComments: "inline",
  logLevel: "info",
});
if (watch) {
  await build.watch();
} else {
  await build.rebuild();
  await build.dispose();
}
