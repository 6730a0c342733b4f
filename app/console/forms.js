/** What forms share: their fields, showing problems beside them, and waiting for the answer. */

import { freshId, h } from "./dom.js";
import { Problem, SignedOut } from "./problem.js";
import { resume } from "./session.js";

const TYPING = 250; // milliseconds

/** A labelled field: an input, or what `control` is. `hint` says what to write. */
export function field(label, attributes, { control = null, hint = null } = {}) {
  const id = freshId(attributes.name ?? "field");
  const element = control ?? h("input", attributes);
  element.id = id;
  if (control) element.setAttribute("name", attributes.name);
  const note = hint && h("p", { class: "hint", id: `${id}-hint` }, hint);
  if (note) element.setAttribute("aria-describedby", note.id);
  return h("div", { class: "field" }, h("label", { for: id }, label), element, note);
}

/** A drop-down from `[[value, text], …]`. */
export function choice(options, chosen = null) {
  return h("select", {}, ...options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
}

/** Boxes to tick under one heading, from `[[value, text], …]`. */
export function boxes(legend, name, options, ticked = []) {
  return h(
    "fieldset",
    { class: "field" },
    h("legend", {}, legend),
    ...options.map(([value, text]) =>
      h("label", { class: "check" }, h("input", { type: "checkbox", name, value, checked: ticked.includes(value) }), text),
    ),
  );
}

/** The values of the boxes of one name that are ticked. */
export const ticked = (form, name) => new FormData(form).getAll(name);

/** Fill the fields of a form that stands on the page, and do `action` when it is sent. */
export function formOf({ fields, submit, action, attributes = {} }) {
  const form = h(
    "form",
    { novalidate: true, ...attributes },
    h("p", { class: "problem", role: "alert", hidden: true }),
    ...fields,
    h("menu", {}, h("button", { type: "submit" }, submit)),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clear(form);
    if (await attempt(form, () => action(Object.fromEntries(new FormData(form)), form))) settle(form);
  });
  return form;
}

/** Look anew once somebody has paused at the fields of a filter, and at once when they send it. */
export function onFilter(form, look) {
  let timer = 0;
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, TYPING);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    look();
  });
}

/** Open a dialog afresh. */
export function open(dialog) {
  clear(dialog);
  dialog.showModal();
}

/** Run `action` when the form is sent; close the dialog when it succeeds, else say what is wrong. */
export function onSubmit(dialog, action, done = () => {}) {
  const form = dialog.querySelector("form");
  for (const button of form.querySelectorAll(".cancel")) button.onclick = () => dialog.close();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clear(dialog);
    const succeeded = await attempt(dialog, () => action(Object.fromEntries(new FormData(form))));
    if (succeeded) done();
  });
}

/** Do something in the name of a dialog, or of a form on the page; say whether it succeeded. */
export async function attempt(place, action) {
  const buttons = [...place.querySelectorAll("button")].filter((button) => !button.disabled);
  for (const button of buttons) button.disabled = true;
  let problem = await failureOf(action);
  if (problem instanceof SignedOut && (await resume())) problem = await failureOf(action);
  for (const button of buttons) button.disabled = false;
  if (problem) show(place, problem);
  else place.close?.();
  return problem === null;
}

async function failureOf(action) {
  try {
    await action();
  } catch (problem) {
    return problem;
  }
  return null;
}

/** What is written now is sent. */
function settle(form) {
  for (const each of form.elements) if ("defaultValue" in each) each.defaultValue = each.value;
}

/** Has somebody written into a form what is not sent yet? */
export const isWritten = (form) =>
  [...form.elements].some((each) =>
    each.type === "checkbox" ? each.checked !== each.defaultChecked : "defaultValue" in each && each.value !== each.defaultValue,
  );

function show(place, problem) {
  let first = null;
  for (const [path, message] of problem.fields ?? []) {
    const name = path.split(".")[0].replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
    const input = place.querySelector(`[name="${CSS.escape(name)}"]`);
    if (!input || input.hasAttribute("aria-invalid")) continue;
    const text = document.createElement("p");
    text.className = "error";
    text.id = `${input.id || freshId("box")}-error`;
    text.textContent = message;
    (input.closest("fieldset")?.lastElementChild ?? input).after(text);
    input.setAttribute("aria-invalid", "true");
    input.dataset.described = input.getAttribute("aria-describedby") ?? "";
    input.setAttribute("aria-describedby", text.id);
    first ??= input;
  }
  const summary = place.querySelector(".problem");
  summary.textContent = first && problem instanceof Problem ? "Please look at what is marked." : problem.message;
  summary.hidden = false;
  first?.focus();
}

function clear(place) {
  place.querySelector(".problem").hidden = true;
  for (const text of place.querySelectorAll(".error")) text.remove();
  for (const input of place.querySelectorAll("[aria-invalid]")) {
    input.removeAttribute("aria-invalid");
    if (input.dataset.described) input.setAttribute("aria-describedby", input.dataset.described);
    else input.removeAttribute("aria-describedby");
  }
}
