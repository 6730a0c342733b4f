/** The one live connection of the page, and who listens to it. */

import { $ } from "./dom.js";
import { connect } from "./live.js";
import * as session from "./session.js";

const STATES = { connecting: "Connecting", live: "Live", offline: "Reconnecting" };

const listeners = new Set();
const gaps = new Set();
const lives = new Set();

/** Call back with each event; `onGap` when some may have been missed. Returns how to stop that. */
export function listen(onEvent, onGap = () => {}) {
  listeners.add(onEvent);
  gaps.add(onGap);
  return () => {
    listeners.delete(onEvent);
    gaps.delete(onGap);
  };
}

/** Call back whenever the service is there again. */
export const onLive = (callback) => lives.add(callback);

/** Events speak snake_case, as v1 does; the page speaks v2. */
export function fromWire(data) {
  const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(data).map(([name, value]) => [camel(name), value]));
}

export function start() {
  const live = connect({
    channels: () => (session.account() ? ["items", "jobs", "me"] : ["items"]),
    token: session.token,
    onRefused: session.refused,
    onEvent(event) {
      if (event.type === "user.updated" && event.subject === `user:${session.account()?.id}`) session.reload().catch(() => {}); // or their session has ended with it
      listeners.forEach((each) => each(event));
    },
    onGap: () => gaps.forEach((each) => each()),
    onState(state) {
      $("connection").dataset.state = state;
      $("connection").textContent = STATES[state];
      if (state === "live") lives.forEach((each) => each());
    },
  });
  session.onRenewal(() => live.renew());
  let whose = null;
  session.onChange((user) => {
    if (whose === (user?.id ?? null)) return;
    whose = user?.id ?? null;
    live.restart();
  });
}
