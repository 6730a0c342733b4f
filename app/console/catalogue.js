/** The list of items: searched, filtered, page by page, and as it changes live. */

import * as api from "./api.js";
import { act } from "./dialogs.js";
import { $, button, price, timeOfDay } from "./dom.js";
import { edit } from "./editor.js";
import { openFiles } from "./files.js";
import { onFilter } from "./forms.js";
import * as session from "./session.js";
import { fromWire, listen, onLive } from "./stream.js";

const SHOWN_EVENTS = 100;
const KINDS = {
  "item.created": "Created",
  "item.updated": "Changed",
  "item.deleted": "Deleted",
  "item.restored": "Restored",
  "file.added": "File added",
  "file.removed": "File removed",
};

const shown = new Map(); // id → item, in the order of the list
let cursor = null;
let hasFailed = false; // what is shown is not what was asked for
let search = 0; // counts searches, so that a slow old answer does not overwrite a new one

/** What the list is filtered and sorted by, as the API's query. */
export function filters() {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData($("filters"))) if (value) query.set(name, value);
  return query;
}

export async function load({ more = false } = {}) {
  const mine = ++search;
  $("items").setAttribute("aria-busy", "true");
  const query = filters();
  if (more && cursor) query.set("cursor", cursor);
  try {
    const page = await api.list(query);
    if (mine !== search) return;
    if (!more) shown.clear();
    for (const item of page.items) shown.set(item.id, item);
    cursor = page.nextCursor;
    const kept = more ? [...$("items").children] : [];
    $("items").replaceChildren(...kept, ...page.items.map(row));
    $("more").hidden = !page.hasMore;
    hasFailed = false;
    showEmpty(isUnfiltered() ? "No items yet." : "Nothing matches.");
  } catch (problem) {
    if (mine !== search) return;
    hasFailed = true;
    showEmpty(problem.message);
  } finally {
    if (mine === search) $("items").setAttribute("aria-busy", "false");
  }
}

function showEmpty(text) {
  $("empty").textContent = text;
  $("empty").hidden = shown.size > 0 && !hasFailed;
}

function row(item) {
  const element = $("item-row").content.firstElementChild.cloneNode(true);
  const find = (selector) => element.querySelector(selector);
  element.dataset.id = item.id;
  const title = item.displayName ?? item.name;
  find("h3").textContent = title;
  find(".description").textContent = item.description ?? "";
  find(".tags").replaceChildren(...item.tags.map((tag) => label(tag)));
  if (item.visibility === "private") find(".tags").append(label("private", "private"));
  find("s").textContent = item.onSale ? price(item.price) : "";
  find("strong").textContent = price(item.discountedPrice);
  find(".actions").append(
    button("Files", () => openFiles(item, mayEdit(item)), { "aria-label": `Files of ${title}` }),
  );
  if (mayEdit(item)) {
    const open = () => act(() => edit(item.id));
    find(".actions").append(button("Edit", open, { class: "edit", "aria-label": `Edit ${title}` }));
  }
  return element;
}

const mayEdit = (item) => session.isAdmin() || session.account()?.id === item.ownerId;

function label(text, kind = "") {
  const element = document.createElement("li");
  element.textContent = text;
  element.className = kind;
  return element;
}

/** Show an item as it is now, where it already stands in the list. */
export function update(item) {
  const known = shown.get(item.id);
  if (!known || known.version >= item.version) return;
  shown.set(item.id, item);
  const fresh = row(item);
  fresh.classList.add("changed");
  const old = rowOf(item.id);
  const focused = [...(old?.querySelectorAll("button") ?? [])].indexOf(document.activeElement);
  old?.replaceWith(fresh);
  fresh.querySelectorAll("button")[focused]?.focus();
}

export function add(item) {
  if (shown.has(item.id)) return;
  shown.set(item.id, item);
  const fresh = row(item);
  fresh.classList.add("changed");
  $("items").prepend(fresh);
  showEmpty("");
}

export function drop(id) {
  if (shown.delete(id)) rowOf(id)?.remove();
  showEmpty("No items left here.");
}

const rowOf = (id) => $("items").querySelector(`[data-id="${id}"]`);

/** Events tell no name to show: it is the item's own, unless another was given. */
function titleOf({ id, name }) {
  const known = shown.get(id);
  return known && known.displayName !== known.name ? known.displayName : name;
}

/** Put the keyboard where an item stands, or where it stood. */
export function focusItem(id) {
  (rowOf(id)?.querySelector(".edit") ?? $("catalogue-title")).focus();
}

function happened(event) {
  if (event.type in KINDS) log(event);
  const item = fromWire(event.data);
  switch (event.type) {
    case "item.updated":
      update({ ...shown.get(item.id), ...item, displayName: titleOf(item) });
      break;
    case "item.deleted":
      drop(item.id);
      break;
    case "item.created":
    case "item.restored":
      if (isUnfiltered()) add(item);
      break;
  }
}

function isUnfiltered() {
  const filled = [...filters()];
  return filled.length === 1 && filled[0][1] === "-id";
}

function log(event) {
  const entry = document.createElement("li");
  const kind = document.createElement("span");
  kind.className = "kind";
  kind.textContent = KINDS[event.type];
  const subject = document.createElement("span");
  subject.className = "subject";
  subject.textContent = event.data.name ?? event.subject;
  entry.append(timeOfDay(event.time), kind, subject);
  $("events").prepend(entry);
  while ($("events").children.length > SHOWN_EVENTS) $("events").lastElementChild.remove();
  $("quiet").hidden = true;
}

export function start() {
  listen(happened, load);
  onLive(() => hasFailed && load());
  let shownTo = "";
  session.onChange((user) => {
    const reader = JSON.stringify([user?.id, user?.roles]);
    if (reader !== shownTo) load();
    shownTo = reader;
  });
  onFilter($("filters"), load);
  $("more").onclick = () => load({ more: true });
}
