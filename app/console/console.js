/** The page: the catalogue, its forms, and what happens live. */

import * as api from "./api.js";
import { attempt, onSubmit, open } from "./forms.js";
import { connect } from "./live.js";
import * as session from "./session.js";

const SHOWN_EVENTS = 100;
const STATES = { connecting: "Connecting", live: "Live", offline: "Reconnecting" };
const KINDS = {
  "item.created": "Created",
  "item.updated": "Changed",
  "item.deleted": "Deleted",
  "item.restored": "Restored",
};

const $ = (id) => document.getElementById(id);
const money = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

const shown = new Map(); // id → item, in the order of the list
let account = null;
let cursor = null;
let search = 0; // counts searches, so that a slow old answer does not overwrite a new one
let editing = null;
let draftKey = "";

// ── The list ──────────────────────────────────────────────────────────────────────────────────

async function load({ more = false } = {}) {
  const mine = ++search;
  $("items").setAttribute("aria-busy", "true");
  const query = new URLSearchParams();
  for (const [name, value] of new FormData($("filters"))) if (value) query.set(name, value);
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
    showEmpty(query.size > 1 ? "Nothing matches." : "No items yet.");
  } catch (problem) {
    if (mine === search) showEmpty(problem.message);
  } finally {
    if (mine === search) $("items").setAttribute("aria-busy", "false");
  }
}

function showEmpty(text) {
  $("empty").textContent = text;
  $("empty").hidden = shown.size > 0;
}

function row(item) {
  const element = $("item-row").content.firstElementChild.cloneNode(true);
  const find = (selector) => element.querySelector(selector);
  element.dataset.id = item.id;
  find("h3").textContent = item.displayName ?? item.name;
  find(".description").textContent = item.description ?? "";
  find(".tags").replaceChildren(...item.tags.map((tag) => label(tag)));
  if (item.visibility === "private") find(".tags").append(label("private", "private"));
  find("s").textContent = item.onSale ? money.format(item.price) : "";
  find("strong").textContent = money.format(item.discountedPrice);
  const mayEdit = account && (account.id === item.ownerId || account.roles.includes("admin"));
  find(".edit").hidden = !mayEdit;
  find(".edit").setAttribute("aria-label", `Edit ${item.name}`);
  find(".edit").onclick = () => edit(item.id);
  return element;
}

function label(text, kind = "") {
  const element = document.createElement("li");
  element.textContent = text;
  element.className = kind;
  return element;
}

/** Show an item as it is now, where it already stands in the list. */
function update(item) {
  const known = shown.get(item.id);
  if (!known || known.version >= item.version) return;
  shown.set(item.id, item);
  const fresh = row(item);
  fresh.classList.add("changed");
  const old = rowOf(item.id);
  const hadFocus = old?.contains(document.activeElement);
  old?.replaceWith(fresh);
  if (hadFocus) fresh.querySelector(".edit").focus();
}

function add(item) {
  if (shown.has(item.id)) return;
  shown.set(item.id, item);
  const fresh = row(item);
  fresh.classList.add("changed");
  $("items").prepend(fresh);
  showEmpty("");
}

function drop(id) {
  if (shown.delete(id)) rowOf(id)?.remove();
  showEmpty("No items left here.");
}

const rowOf = (id) => $("items").querySelector(`[data-id="${id}"]`);

// ── Live ──────────────────────────────────────────────────────────────────────────────────────

function happened(event) {
  log(event);
  const item = fromWire(event.data);
  switch (event.type) {
    case "item.updated":
      update({ ...shown.get(item.id), ...item });
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

/** Events speak snake_case, as v1 does. */
function fromWire(data) {
  const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(data).map(([name, value]) => [camel(name), value]));
}

function isUnfiltered() {
  const filled = [...new FormData($("filters"))].filter(([, value]) => value);
  return filled.length === 1 && filled[0][1] === "-id";
}

function log(event) {
  const entry = document.createElement("li");
  const time = document.createElement("time");
  time.dateTime = event.time;
  time.textContent = clock.format(new Date(event.time));
  const kind = document.createElement("span");
  kind.className = "kind";
  kind.textContent = KINDS[event.type] ?? event.type;
  const subject = document.createElement("span");
  subject.className = "subject";
  subject.textContent = event.data.name ?? event.subject;
  entry.append(time, kind, subject);
  $("events").prepend(entry);
  while ($("events").children.length > SHOWN_EVENTS) $("events").lastElementChild.remove();
  $("quiet").hidden = true;
}

const live = connect({
  channels: ["items"],
  token: session.token,
  onEvent: happened,
  onGap: load,
  onState(state) {
    $("connection").dataset.state = state;
    $("connection").textContent = STATES[state];
  },
});
session.onRenewal(() => live.renew());

// ── Account ───────────────────────────────────────────────────────────────────────────────────

let isSigningUp = false;

function openAccount(signUp) {
  isSigningUp = signUp;
  for (const field of $("account").querySelectorAll("[data-only]")) field.hidden = !signUp;
  $("account-title").textContent = signUp ? "Sign up" : "Sign in";
  $("account-form").querySelector("[type=submit]").textContent = signUp ? "Sign up" : "Sign in";
  $("account-username-label").textContent = signUp ? "Username" : "Username or e-mail";
  $("account-password").autocomplete = signUp ? "new-password" : "current-password";
  $("account-switch").textContent = signUp ? "I have an account" : "I have no account yet";
  if ($("account").open) return;
  $("account-form").reset();
  open($("account"));
}

$("sign-in-open").onclick = () => openAccount(false);
$("sign-up-open").onclick = () => openAccount(true);
$("account-switch").onclick = () => openAccount(!isSigningUp);
$("sign-out").onclick = () => session.signOut();

onSubmit($("account"), async ({ email, username, password, confirmPassword }) => {
  if (isSigningUp) await session.signUp({ email, username, password, confirmPassword });
  else await session.signIn(username, password);
});

session.onChange((user) => {
  account = user;
  $("who").textContent = user?.username ?? "";
  for (const id of ["who", "sign-out", "new-item"]) $(id).hidden = !user;
  for (const id of ["sign-in-open", "sign-up-open"]) $(id).hidden = Boolean(user);
  live.restart();
  load();
});

// ── Editing ───────────────────────────────────────────────────────────────────────────────────

$("new-item").onclick = () => {
  editing = null;
  draftKey = crypto.randomUUID();
  $("editor-form").reset();
  $("editor-title").textContent = "New item";
  $("editor-delete").hidden = true;
  open($("editor"));
};

async function edit(id) {
  try {
    fill(await api.get(id));
  } catch (problem) {
    toast(problem.message);
    return;
  }
  open($("editor"));
}

function fill(item) {
  editing = item;
  const fields = $("editor-form").elements;
  fields.name.value = item.name;
  fields.description.value = item.description ?? "";
  fields.price.value = item.price;
  fields.discountPercent.value = item.discountPercent || "";
  fields.tags.value = item.tags.join(", ");
  fields.visibility.value = item.visibility;
  $("editor-title").textContent = "Edit item";
  $("editor-delete").hidden = false;
}

onSubmit($("editor"), async (form) => {
  const item = {
    name: form.name,
    description: form.description || null,
    price: form.price === "" ? null : form.price,
    discountPercent: form.discountPercent || 0,
    tags: form.tags.split(",").map((tag) => tag.trim()).filter(Boolean),
    visibility: form.visibility,
  };
  if (!editing) {
    add(await api.create(item, draftKey));
    return;
  }
  try {
    update(await api.change(editing, item));
  } catch (problem) {
    if (problem.code !== "PRECONDITION_FAILED") throw problem;
    fill(await api.get(editing.id));
    throw new Error("Somebody else has changed this item. This is how it is now; edit it again.");
  }
});

$("editor-delete").onclick = () =>
  attempt($("editor"), async () => {
    const item = editing;
    await api.remove(item);
    drop(item.id);
    toast(`Deleted ${item.name}`, async () => add(await api.restore(item.id)));
  });

let toastTimer = 0;

function toast(text, undo = null) {
  const button = $("toast").querySelector("button");
  $("toast").querySelector("span").textContent = text;
  button.hidden = !undo;
  button.onclick = async () => {
    $("toast").hidden = true;
    try {
      await undo();
    } catch (problem) {
      toast(problem.message);
    }
  };
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => {
    $("toast").hidden = true;
  }, 8000);
}

// ── Start ─────────────────────────────────────────────────────────────────────────────────────

let typing = 0;
$("filters").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(load, 250);
});
$("filters").addEventListener("submit", (event) => {
  event.preventDefault();
  load();
});
$("more").onclick = () => load({ more: true });

session.restore();
