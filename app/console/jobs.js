/** Background jobs: how they stand, live; admins see everybody's. */

import { act } from "./dialogs.js";
import { button, h, time } from "./dom.js";
import { choice, field, onFilter } from "./forms.js";
import * as http from "./http.js";
import { at, badge, facts, paged, row } from "./lists.js";
import { saveRejected } from "./rejected.js";
import * as session from "./session.js";
import { listen } from "./stream.js";

const TONES = { running: "busy", succeeded: "good", failed: "bad" };
const STATUSES = ["queued", "running", "succeeded", "failed", "cancelled"];

export function show(section) {
  const shown = new Map(); // id → job, as it was drawn last
  const status = field("Status", { name: "status" }, { control: choice([["", "All"], ...STATUSES.map((each) => [each, each])]) });
  const kind = field("Kind", { name: "kind", autocomplete: "off", placeholder: "items.import" });
  const filters = h("form", { class: "filters narrow", "aria-label": "Jobs" }, status, kind);
  const list = paged({
    label: "Jobs",
    load: (query) => http.get(`/jobs?${query}`),
    query: () => Object.fromEntries(new FormData(filters)),
    toRow: draw,
    empty: "No jobs.",
  });

  function draw(job) {
    shown.set(job.id, job);
    return jobRow(job, () => refresh(job.id));
  }

  async function refresh(id) {
    redraw(await http.get(`/jobs/${id}`));
  }

  function redraw(job) {
    const old = list.list.querySelector(`[data-id="${job.id}"]`);
    const focused = [...(old?.querySelectorAll("button") ?? [])].indexOf(document.activeElement);
    const fresh = draw(job);
    old?.replaceWith(fresh);
    if (focused >= 0) (fresh.querySelectorAll("button")[focused] ?? document.getElementById("place-title")).focus();
  }

  function happened(event) {
    if (!event.type.startsWith("job.")) return;
    const id = Number(event.subject.split(":")[1]);
    if (!shown.has(id)) list.reload();
    else if (event.type === "job.finished") act(() => refresh(id));
    else redraw({ ...shown.get(id), ...event.data });
  }

  onFilter(filters, list.reload);
  const hint = session.isAdmin() ? "Everybody's, because you are an admin." : "Work that goes on in the background for you.";
  section.append(h("p", { class: "hint" }, hint), filters, list.element);
  list.reload();
  return listen(happened, list.reload);
}

function jobRow(job, refresh) {
  const isOpen = job.status === "queued" || job.status === "running";
  const cancel = () => act(async () => (await http.remove(`/jobs/${job.id}`), refresh()));
  const retry = () => act(async () => (await http.post(`/jobs/${job.id}/retry`), refresh()));
  const mayRetry = job.status === "failed" || job.status === "cancelled";
  const name = `${job.kind} ${job.id}`;
  return row({
    id: job.id,
    title: job.kind,
    badges: [badge(job.isCancelling && isOpen ? "cancelling" : job.status, TONES[job.status]), h("span", { class: "number" }, `#${job.id}`)],
    lines: [
      job.status === "running" && h("progress", { value: job.progress, max: 1, "aria-label": `Progress of ${name}` }, `${Math.round(job.progress * 100)} %`),
      counts(job.result ?? job.detail),
      job.error && h("p", { class: "line bad" }, job.error),
      facts(
        session.isAdmin() && (job.ownerId ? `user ${job.ownerId}` : "by the service"),
        at("created", time(job.createdAt)),
        job.finishedAt && at("finished", time(job.finishedAt)),
        job.attempts > 1 && `${job.attempts} attempts`,
      ),
    ],
    actions: [
      hasRejected(job) && button("Refused lines", () => act(() => saveRejected(job.id)), { "aria-label": `Refused lines of ${name}` }),
      isOpen && !job.isCancelling && button("Cancel", cancel, { "aria-label": `Cancel ${name}` }),
      mayRetry && button("Retry", retry, { "aria-label": `Retry ${name}` }),
    ],
  });
}

const hasRejected = (job) => job.kind === "items.import" && (job.result ?? job.detail)?.rejected > 0;

/** What a job counts: "lines 12, rejected 1". */
function counts(detail) {
  const plain = Object.entries(detail ?? {}).filter(([, value]) => typeof value === "number");
  return plain.length ? plain.map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`).join(", ") : null;
}
