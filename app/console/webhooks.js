/** Webhooks: endpoints, their secrets, and what was sent to them. */

import { openDeliveries } from "./deliveries.js";
import { act, ask, reveal } from "./dialogs.js";
import { button, h, time } from "./dom.js";
import { boxes, field, ticked } from "./forms.js";
import * as http from "./http.js";
import { at, badge, facts, row, whole } from "./lists.js";
import { listen } from "./stream.js";
import { toast } from "./toast.js";

const KINDS = [
  "item.created",
  "item.updated",
  "item.deleted",
  "item.restored",
  "file.added",
  "file.removed",
  "job.finished",
  "user.updated",
].map((each) => [each, each]);
const REASONS = {
  owner: "off",
  gone: "off: it answered that it is gone",
  failing: "off: it failed for too long",
};

export function show(section) {
  const list = whole({
    label: "Webhooks",
    load: async () => (await http.get("/webhooks")).items,
    toRow: (endpoint) => endpointRow(endpoint, () => list.reload()),
    empty: "No endpoints yet.",
  });
  section
    .querySelector(".title")
    .append(button("New webhook", () => create(list.reload), { class: "primary" }));
  section.append(h("p", { class: "hint" }, "Events, posted to an address of yours and signed."), list.element);
  list.reload();
  return listen((event) => event.type.startsWith("webhook.") && list.reload(), list.reload);
}

function endpointRow(endpoint, reload) {
  const path = `/webhooks/${endpoint.id}`;
  const name = endpoint.url;
  const change = (body) => act(async () => (await http.patch(path, body, MERGE), reload()));
  const test = () => act(async () => (await http.post(`${path}/test`), openDeliveries(endpoint)));
  const isOn = endpoint.isActive;
  return row({
    id: endpoint.id,
    title: name,
    badges: [badge(isOn ? "on" : (REASONS[endpoint.disabledReason] ?? "off"), isOn ? "good" : "")],
    lines: [
      endpoint.events.length ? endpoint.events.join(", ") : "every kind of event",
      facts(
        at("since", time(endpoint.createdAt)),
        endpoint.failingSince && at("failing since", time(endpoint.failingSince)),
        endpoint.previousExpiresAt && at("old secret signs until", time(endpoint.previousExpiresAt)),
      ),
    ],
    actions: [
      button("Deliveries", () => openDeliveries(endpoint), { "aria-label": `Deliveries of ${name}` }),
      button("Send a test", test, { "aria-label": `Send a test to ${name}` }),
      button(isOn ? "Switch off" : "Switch on", () => change({ isActive: !isOn }), { "aria-label": `${isOn ? "Switch off" : "Switch on"} ${name}` }),
      button("Edit", () => edit(endpoint, reload), { "aria-label": `Edit ${name}` }),
      button("New secret", () => rotate(endpoint, reload), { "aria-label": `New secret of ${name}` }),
      button("Delete", () => remove(endpoint, reload), { class: "danger", "aria-label": `Delete ${name}` }),
    ],
  });
}

const MERGE = { "Content-Type": "application/merge-patch+json" };

const fieldsOf = (endpoint) => [
  field("Address", { name: "url", type: "url", value: endpoint.url, autocomplete: "off", placeholder: "https://hooks.example.com/kingpost" }),
  boxes("Events (none: every kind)", "events", KINDS, endpoint.events),
];

function create(reload) {
  ask({
    title: "New webhook",
    fields: fieldsOf({ url: "", events: [] }),
    submit: "Create",
    action: ({ url }, form) => http.post("/webhooks", { url, events: ticked(form, "events") }),
    done: (endpoint) => showSecret(endpoint.secret, reload),
  });
}

function edit(endpoint, reload) {
  ask({
    title: "Edit webhook",
    fields: fieldsOf(endpoint),
    submit: "Save",
    action: ({ url }, form) => {
      const known = new Set(KINDS.map(([kind]) => kind));
      const others = endpoint.events.filter((kind) => !known.has(kind)); // set by the API, kept
      return http.patch(`/webhooks/${endpoint.id}`, { url, events: [...ticked(form, "events"), ...others] }, MERGE);
    },
    done: reload,
  });
}

function rotate(endpoint, reload) {
  ask({
    title: "A new secret?",
    text: "Messages carry two signatures for a day, by the new and by the old one.",
    submit: "Make a new secret",
    action: () => http.post(`/webhooks/${endpoint.id}/secret/rotate`),
    done: ({ secret }) => showSecret(secret, reload),
  });
}

function showSecret(secret, reload) {
  reveal({
    title: "The secret of the webhook",
    text: "Copy it now: it is shown this once. By it you verify that a message is from here.",
    label: "Secret",
    secret,
    done: reload,
  });
}

function remove(endpoint, reload) {
  ask({
    title: "Delete the webhook?",
    text: `Nothing is sent to ${endpoint.url} any more, and what was sent is forgotten.`,
    submit: "Delete",
    isDangerous: true,
    action: () => http.remove(`/webhooks/${endpoint.id}`),
    done() {
      toast("The webhook is deleted.");
      reload();
    },
  });
}
