/** Lists of things: rows, badges, and pages of them. */

import { button, h, refill } from "./dom.js";

/** A row: what it is, what there is to say about it, and what can be done with it. */
export function row({ id, title, badges = [], lines = [], actions = [] }) {
  const said = lines.filter(Boolean).map((line) => (line instanceof Element ? line : h("p", { class: "line" }, line)));
  return h(
    "li",
    { class: "row", "data-id": id },
    h("div", { class: "what" }, h("h3", {}, title, ...badges.filter(Boolean).flatMap((each) => [" ", each])), ...said),
    actions.some(Boolean) && h("div", { class: "actions" }, ...actions),
  );
}

/** A few words on what state something is in. `tone`: "good", "bad", "busy", or none. */
export const badge = (text, tone = "") => h("span", { class: "badge", "data-tone": tone }, text);

/** A line of texts and elements with dots between them. */
export function facts(...parts) {
  const kept = parts.filter(Boolean);
  return h("p", { class: "line" }, ...kept.flatMap((part, index) => (index ? [" · ", part] : [part])));
}

/** A term and a time, where there is one. */
export const at = (term, element) => element && h("span", {}, `${term} `, element);

/** A list that fits on one page. `load` returns the things. */
export function whole({ label, load, toRow, empty }) {
  const list = h("ul", { class: "rows", "aria-label": label });
  const none = h("p", { class: "empty", role: "status", hidden: true });
  const element = h("div", {}, list, none);
  async function reload() {
    try {
      const things = await load();
      refill(list, things.map(toRow));
      none.textContent = empty;
      none.hidden = things.length > 0;
    } catch (problem) {
      tell(none, problem, reload);
    }
  }
  return { element, list, reload };
}

/** A list that is loaded page by page. `load` gets the query of a page. */
export function paged({ label, load, query = () => ({}), toRow, empty }) {
  const list = h("ul", { class: "rows", "aria-label": label });
  const none = h("p", { class: "empty", role: "status", hidden: true });
  const more = button("Load more", () => next(cursor), { hidden: true });
  const element = h("div", {}, list, none, h("p", { class: "more" }, more));
  let cursor = null;
  let turn = 0; // counts loads, so that a slow old answer does not overwrite a new one
  async function next(after = null) {
    const mine = ++turn;
    const wanted = Object.entries({ ...query(), cursor: after }).filter(([, value]) => value);
    try {
      const page = await load(new URLSearchParams(wanted));
      if (mine !== turn) return;
      const rows = page.items.map(toRow);
      if (after) list.append(...rows);
      else refill(list, rows);
      cursor = page.nextCursor;
      more.hidden = !page.hasMore;
      none.textContent = empty;
      none.hidden = list.children.length > 0;
    } catch (problem) {
      if (mine !== turn) return;
      tell(none, problem, () => next(after));
    }
  }
  return { element, list, reload: () => next() };
}

/** A list could not be loaded: say why, and offer another try. */
function tell(place, problem, again) {
  place.replaceChildren(problem.message, " ", button("Try again", again));
  place.hidden = false;
}

/** A part of a page, with its own heading and what can be added to it. */
export function card(title, { hint = null, action = null } = {}, ...children) {
  const id = `card-${title.toLowerCase().replace(/\W+/g, "-")}`;
  return h(
    "section",
    { class: "card", "aria-labelledby": id },
    h("div", { class: "title" }, h("h2", { id }, title), action),
    hint && h("p", { class: "hint" }, hint),
    ...children,
  );
}
