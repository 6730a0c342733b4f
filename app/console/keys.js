/** API keys: made, shown once, rotated, revoked. */

import { ask, reveal } from "./dialogs.js";
import { button, h, time } from "./dom.js";
import { boxes, choice, field, ticked } from "./forms.js";
import * as http from "./http.js";
import { at, badge, card, facts, row, whole } from "./lists.js";

const KEYS = "/auth/api-keys";
const SCOPES = [
  ["items:read", "Read items"],
  ["items:write", "Create, change and delete items"],
  ["users:read", "Read accounts"],
  ["users:write", "Change accounts"],
  ["events:read", "Receive events"],
];
const OVERLAPS = [
  ["0", "Ends at once: it has leaked"],
  ["3600", "Works for an hour more"],
  ["86400", "Works for a day more"],
  ["604800", "Works for a week more"],
];

export function part() {
  const list = whole({
    label: "API keys",
    load: async () => (await http.get(KEYS)).items,
    toRow: (key) => keyRow(key, list.reload),
    empty: "No keys yet.",
  });
  list.reload();
  const action = button("New key", () => create(list.reload));
  return card("API keys", { hint: "For programs that act for you. They never may more than you.", action }, list.element);
}

function keyRow(key, reload) {
  const isOver = key.expiresAt && new Date(key.expiresAt) < new Date();
  return row({
    id: key.id,
    title: key.name,
    badges: [isOver && badge("expired", "bad")],
    lines: [
      h("p", { class: "line" }, h("code", {}, `${key.prefix}…`), ` ${key.scopes.join(", ")}`),
      facts(
        key.lastUsedAt ? at("last used", time(key.lastUsedAt)) : "never used",
        key.expiresAt ? at(isOver ? "ended" : "ends", time(key.expiresAt)) : "no end",
        key.previousEndsAt && new Date(key.previousEndsAt) > new Date() && at("old secret ends", time(key.previousEndsAt)),
      ),
    ],
    actions: [
      button("Rotate", () => rotate(key, reload), { "aria-label": `Rotate ${key.name}` }),
      button("Revoke", () => revoke(key, reload), { class: "danger", "aria-label": `Revoke ${key.name}` }),
    ],
  });
}

function create(reload) {
  ask({
    title: "New API key",
    fields: [
      field("Name", { name: "name", maxlength: 100, autocomplete: "off" }, { hint: "What it is for." }),
      boxes("It may", "scopes", SCOPES, ["items:read"]),
      field("Ends after (optional)", { name: "expiresOn", type: "date" }),
    ],
    submit: "Create",
    action: ({ name, expiresOn }, form) =>
      http.post(KEYS, { name, scopes: ticked(form, "scopes"), expiresAt: endOf(expiresOn) }),
    done: (key) => show(key, reload),
  });
}

/** The last second of a day, where the person is. */
const endOf = (day) => (day ? new Date(`${day}T23:59:59`).toISOString() : null);

function rotate(key, reload) {
  ask({
    title: `Rotate ${key.name}`,
    text: "You get a new secret, which works at once.",
    fields: [field("The old secret", { name: "overlapSeconds" }, { control: choice(OVERLAPS, "3600") })],
    submit: "Rotate",
    action: ({ overlapSeconds }) => http.post(`${KEYS}/${key.id}/rotate`, { overlapSeconds: Number(overlapSeconds) }),
    done: (rotated) => show(rotated, reload),
  });
}

function revoke(key, reload) {
  ask({
    title: `Revoke ${key.name}?`,
    text: "What uses it is refused from now on. There is no way back.",
    submit: "Revoke",
    isDangerous: true,
    action: () => http.remove(`${KEYS}/${key.id}`),
    done: reload,
  });
}

function show(key, reload) {
  reveal({
    title: `The secret of ${key.name}`,
    text: "Copy it now: it is shown this once and kept nowhere. Send it as X-API-Key.",
    label: "Secret",
    secret: key.secret,
    done: reload,
  });
}
