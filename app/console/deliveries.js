/** What was sent to a webhook, and what was answered. */

import { act, ask, panel } from "./dialogs.js";
import { button, h, time } from "./dom.js";
import { choice, field, onFilter } from "./forms.js";
import * as http from "./http.js";
import { at, badge, facts, paged, row } from "./lists.js";
import { toast } from "./toast.js";

const TONES = { succeeded: "good", failed: "bad", pending: "busy" };
const STATUSES = ["pending", "succeeded", "failed", "cancelled"];
const PAUSE = 1500; // milliseconds: deliveries make no events of their own

/** Open the delivery log of an endpoint. */
export function openDeliveries(endpoint) {
  const status = field("Status", { name: "status" }, { control: choice([["", "All"], ...STATUSES.map((each) => [each, each])]) });
  const filters = h("form", { class: "filters narrow" }, status);
  let isWaiting = false;
  const list = paged({
    label: "Deliveries",
    load: async (query) => {
      const page = await http.get(`/webhooks/${endpoint.id}/deliveries?${query}`);
      isWaiting = page.items.some((each) => each.status === "pending");
      return page;
    },
    query: () => Object.fromEntries(new FormData(filters)),
    toRow: (delivery) => deliveryRow(delivery, () => list.reload()),
    empty: "Nothing was sent yet.",
  });
  const again = button("Send a time again", () => replay(endpoint, list.reload));
  const dialog = panel(`Deliveries to ${endpoint.url}`, filters, list.element, again);
  const timer = setInterval(() => {
    const isBeingRead = list.list.contains(document.activeElement) || list.list.querySelector("details[open]");
    if (isWaiting && !isBeingRead) list.reload();
  }, PAUSE);
  dialog.addEventListener("close", () => clearInterval(timer));
  onFilter(filters, list.reload);
  list.reload();
}

function deliveryRow(delivery, reload) {
  const retry = () =>
    act(async () => {
      await http.post(`/webhooks/deliveries/${delivery.id}/retry`);
      await reload();
    });
  const details = h("details", {}, h("summary", {}, "What was sent and answered"));
  details.addEventListener("toggle", () => details.open && act(() => fill(details, delivery.id)), { once: true });
  return row({
    id: delivery.id,
    title: delivery.kind,
    badges: [badge(delivery.status, TONES[delivery.status])],
    lines: [
      facts(
        delivery.responseStatus && `answered ${delivery.responseStatus}`,
        delivery.durationMs !== null && `${delivery.durationMs} ms`,
        delivery.attempt > 0 && `attempt ${delivery.attempt}`,
        at("at", time(delivery.attemptedAt ?? delivery.createdAt)),
        delivery.status === "pending" && delivery.nextAttemptAt && at("next", time(delivery.nextAttemptAt)),
      ),
      delivery.error && h("p", { class: "line bad" }, delivery.error),
      details,
    ],
    actions: [
      // The next attempt may be hours away; one that was not tried yet is on its way.
      (delivery.status !== "pending" || delivery.attempt > 0) &&
        button(delivery.status === "pending" ? "Send now" : "Send again", retry, {
          "aria-label": `Send ${delivery.kind} ${delivery.id} again`,
        }),
    ],
  });
}

async function fill(details, id) {
  const { payload, requestHeaders, responseBody } = await http.get(`/webhooks/deliveries/${id}`);
  const headers = Object.entries(requestHeaders ?? {}).map(([name, value]) => `${name}: ${value}`);
  details.append(
    h("pre", { tabindex: "0", "aria-label": "Sent" }, [...headers, "", payload].join("\n")),
    h("pre", { tabindex: "0", "aria-label": "Answered" }, responseBody || "(no answer)"),
  );
}

function replay(endpoint, reload) {
  ask({
    title: "Send a time again",
    text: "All events of it, those too that came while the endpoint was off.",
    fields: [
      field("From", { name: "since", type: "datetime-local" }),
      field("To (optional: now)", { name: "until", type: "datetime-local" }),
    ],
    submit: "Send again",
    action({ since, until }) {
      if (!since) throw new Error("Say from when.");
      const iso = (local) => (local ? new Date(local).toISOString() : null);
      return http.post(`/webhooks/${endpoint.id}/replay`, { since: iso(since), until: iso(until) });
    },
    done({ queued }) {
      toast(`${queued} ${queued === 1 ? "message is" : "messages are"} sent again.`);
      reload();
    },
  });
}
