/** The dialog that makes and changes an item. */

import * as api from "./api.js";
import { add, drop, focusItem, update } from "./catalogue.js";
import { Clash, merged } from "./clash.js";
import { $ } from "./dom.js";
import { attempt, onSubmit, open } from "./forms.js";
import { toast } from "./toast.js";

let editing = null;
let draftKey = "";
let opener = null; // a live change of the item replaces it

function create() {
  editing = null;
  opener = document.activeElement;
  draftKey = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`; // no TLS, no randomUUID
  $("editor-form").reset();
  $("editor-title").textContent = "New item";
  $("editor-delete").hidden = true;
  open($("editor"));
}

export async function edit(id) {
  opener = document.activeElement;
  fill(await api.get(id));
  open($("editor"));
}

/** What the fields say of an item. */
const textsOf = (item) => ({
  name: item.name,
  description: item.description ?? "",
  price: String(item.price),
  discountPercent: String(item.discountPercent || ""),
  tags: item.tags.join(", "),
  visibility: item.visibility,
});

function write(texts) {
  for (const [name, text] of Object.entries(texts)) $("editor-form").elements[name].value = text;
}

function fill(item) {
  editing = item;
  write(textsOf(item));
  $("editor-title").textContent = "Edit item";
  $("editor-delete").hidden = false;
}

async function save(form) {
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
  update(await unlessClashing(() => api.change(editing, item)));
}

/** Change what is as it was when it was opened; else show what came meanwhile, and lose nothing. */
async function unlessClashing(change) {
  try {
    return await change();
  } catch (problem) {
    if (problem.status === 404) throw new Error("Somebody has deleted this item. What you wrote is still here to be copied.");
    if (problem.code !== "PRECONDITION_FAILED") throw problem;
  }
  const now = await api.get(editing.id);
  const mine = Object.fromEntries(new FormData($("editor-form")));
  const { texts, changed, clashing } = merged(textsOf(editing), mine, textsOf(now));
  editing = now;
  write(texts);
  throw new Clash(changed, clashing);
}

async function removeEdited() {
  const item = editing;
  await unlessClashing(() => api.remove(item));
  drop(item.id);
  toast(`Deleted ${item.name}`, async () => add(await api.restore(item.id)));
}

export function start() {
  $("new-item").onclick = create;
  onSubmit($("editor"), save);
  $("editor").addEventListener("close", () => opener.isConnected || focusItem(editing?.id));
  $("editor-delete").onclick = () => attempt($("editor"), removeEdited);
}
