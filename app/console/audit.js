/** The audit log, for admins: who did what to what, from where. */

import { device, h, time } from "./dom.js";
import { field, onFilter } from "./forms.js";
import * as http from "./http.js";
import { facts, paged, row } from "./lists.js";

export function show(section) {
  const filters = h(
    "form",
    { class: "filters narrow", "aria-label": "Audit log" },
    field("By user number", { name: "actorId", type: "number", min: 1, inputmode: "numeric" }),
    field("Kind", { name: "kind", autocomplete: "off", placeholder: "sign_in.failed" }),
    field("Of what", { name: "object", autocomplete: "off", placeholder: "user:7" }),
    field("Since", { name: "since", type: "datetime-local" }),
  );
  const list = paged({
    label: "Audit log",
    load: (query) => http.get(`/audit?${query}`),
    query: () => wanted(new FormData(filters)),
    toRow: entryRow,
    empty: "Nothing matches.",
  });
  onFilter(filters, list.reload);
  section.append(h("p", { class: "hint" }, "Nobody can change it, admins neither."), filters, list.element);
  list.reload();
}

function wanted(form) {
  const query = Object.fromEntries([...form].map(([name, value]) => [name, value.trim()]));
  if (query.since) query.since = new Date(query.since).toISOString();
  return query;
}

function entryRow(entry) {
  const detail = Object.entries(entry.detail).map(([name, value]) => `${name.replaceAll("_", " ")}: ${said(value)}`);
  return row({
    id: entry.id,
    title: entry.kind,
    lines: [
      facts(
        entry.actorId ? `by user ${entry.actorId}` : "by nobody signed in",
        entry.objectId ? `to ${entry.objectType} ${entry.objectId}` : `to a ${entry.objectType}`,
        time(entry.createdAt),
      ),
      facts(entry.address, entry.userAgent && device(entry.userAgent), entry.credential),
      detail.length > 0 && detail.join("; "),
    ],
  });
}

const said = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));
