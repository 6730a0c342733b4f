/** The dialog that makes and changes an item. */

import * as api from "./api.js";
import { add, drop, update } from "./catalogue.js";
import { $ } from "./dom.js";
import { attempt, onSubmit, open } from "./forms.js";
import { toast } from "./toast.js";

let editing = null;
let draftKey = "";

function create() {
  editing = null;
  draftKey = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`; // no TLS, no randomUUID
  $("editor-form").reset();
  $("editor-title").textContent = "New item";
  $("editor-delete").hidden = true;
  open($("editor"));
}

export async function edit(id) {
  fill(await api.get(id));
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
  try {
    update(await api.change(editing, item));
  } catch (problem) {
    if (problem.code !== "PRECONDITION_FAILED") throw problem;
    fill(await api.get(editing.id));
    throw new Error("Somebody else has changed this item. This is how it is now; edit it again.");
  }
}

async function removeEdited() {
  const item = editing;
  await api.remove(item);
  drop(item.id);
  toast(`Deleted ${item.name}`, async () => add(await api.restore(item.id)));
}

export function start() {
  $("new-item").onclick = create;
  onSubmit($("editor"), save);
  $("editor-delete").onclick = () => attempt($("editor"), removeEdited);
}
