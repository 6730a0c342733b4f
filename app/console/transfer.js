/** Many items at once: exported as a file, imported from one. */

import { load, filters } from "./catalogue.js";
import { ask, panel } from "./dialogs.js";
import { $, button, count, h } from "./dom.js";
import { choice, field } from "./forms.js";
import * as http from "./http.js";
import { rejectedLines, saveRejected } from "./rejected.js";
import { listen } from "./stream.js";

const FORMATS = [
  ["csv", "CSV, for spreadsheets"],
  ["ndjson", "NDJSON, for programs"],
];
const OVER = ["succeeded", "failed", "cancelled"];

function exportItems() {
  ask({
    title: "Export items",
    text: "All items that the catalogue shows now, with its search, filters and order.",
    fields: [field("Format", { name: "format" }, { control: choice(FORMATS) })],
    submit: "Download",
    action: ({ format }) => {
      const query = filters();
      query.set("format", format);
      return http.save(`/items/export?${query}`, `items.${format}`);
    },
  });
}

function importItems() {
  const check = (name, text) => h("label", { class: "check" }, h("input", { type: "checkbox", name }), text);
  ask({
    title: "Import items",
    text: "A file as an export makes it: CSV with a first line of names, or NDJSON. What it brings will be yours.",
    fields: [
      field("File", { name: "file", type: "file", accept: ".csv,.ndjson,.jsonl,text/csv,application/x-ndjson" }),
      check("dryRun", "Only check the lines, import nothing"),
      check("atomic", "Import all lines or none"),
    ],
    submit: "Start",
    async action({ file, dryRun, atomic }) {
      if (!file.name) throw new Error("Choose a file first.");
      const format = /\.csv$/i.test(file.name) ? "csv" : "ndjson";
      const query = new URLSearchParams({ format, atomic: Boolean(atomic), dry_run: Boolean(dryRun) });
      return http.post(`/items/import?${query}`, file);
    },
    done: follow,
  });
}

/** Show how an import goes, live, and what came of it. */
function follow(job) {
  const bar = h("progress", { max: 1, value: job.progress, "aria-label": "Import" });
  const status = h("p", { role: "status" }, "Waiting for its turn.");
  const rejected = h("div");
  let last = job;
  const dialog = panel("Import", bar, status, rejected);

  async function draw(now) {
    if (OVER.includes(last.status)) return;
    last = now;
    const isOver = OVER.includes(now.status);
    bar.value = isOver ? 1 : now.progress;
    status.textContent = told(now);
    if (!isOver) return;
    stop();
    load();
    if (((now.result ?? now.detail)?.rejected ?? 0) === 0) return;
    const download = () => saveRejected(job.id);
    rejected.replaceChildren(await rejectedLines(job.id), button("Download all refused lines", download));
  }

  const refresh = async () => draw(await http.get(`/jobs/${job.id}`));
  const stop = listen((event) => {
    if (event.subject !== `job:${job.id}`) return;
    if (event.type === "job.finished") refresh();
    else draw({ ...last, ...event.data });
  }, refresh);
  dialog.addEventListener("close", stop);
  refresh(); // it may have ended before we listened
}

function told({ status, detail, result, error }) {
  if (status === "failed") return error;
  if (status === "cancelled") return "It was cancelled.";
  const counts = result ?? detail;
  if (!counts) return "Waiting for its turn.";
  const good = `${count(counts.accepted)} ${counts.accepted === 1 ? "line is" : "lines are"} good`;
  const bad = counts.rejected ? `, ${count(counts.rejected)} refused` : "";
  if (status !== "succeeded") return `${good}${bad} so far.`;
  return counts.dry_run ? `${good}${bad}. Nothing was imported.` : `Done: ${count(counts.accepted)} imported${bad}.`;
}

export function start() {
  $("export-open").onclick = exportItems;
  $("import-open").onclick = importItems;
}
