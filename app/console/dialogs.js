/** Dialogs that are made when they are needed: a question, a form, a panel, a secret. */

import { button, freshId, h } from "./dom.js";
import { onSubmit } from "./forms.js";
import { toast } from "./toast.js";

/** Open a dialog with a title; it goes away when it is closed. */
function opened(title, ...children) {
  const id = freshId("title");
  const dialog = h("dialog", { "aria-labelledby": id }, h("h2", { id }, title), ...children);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  return dialog;
}

/**
 * Ask something: a sentence, fields, and what happens on "yes". It stays open while that fails and
 * says why; `done` gets what `action` returned, once it is closed.
 */
export function ask({ title, text, fields = [], submit, isDangerous = false, action, done = () => {} }) {
  let result;
  const form = h(
    "form",
    { method: "dialog", novalidate: true },
    h("p", { class: "problem", role: "alert", hidden: true }),
    text && h("p", {}, text),
    ...fields,
    h(
      "menu",
      {},
      h("button", { type: "button", class: "cancel" }, "Cancel"),
      h("button", { type: "submit", class: isDangerous ? "primary dangerous" : "primary" }, submit),
    ),
  );
  const dialog = opened(title, form);
  onSubmit(
    dialog,
    async (values) => {
      result = await action(values, form);
    },
    () => done(result),
  );
  dialog.showModal();
  form.querySelector("input, select, textarea, .cancel").focus();
  return dialog;
}

/** Open a panel to look at and work in. */
export function panel(title, ...children) {
  const close = button("Close", () => dialog.close());
  const dialog = opened(title, ...children, h("menu", {}, close));
  dialog.classList.add("panel");
  dialog.showModal();
  return dialog;
}

/** Show what is shown this once, with a button that copies it. */
export function reveal({ title, text, label, secret, done = () => {} }) {
  const id = freshId("secret");
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(secret);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(output); // no permission, or no TLS: ready for Ctrl-C
      copy.textContent = "Press Ctrl+C";
    }
  });
  const output = h("output", { class: "secret", id, tabindex: "0" }, secret);
  const close = button("I have kept it", () => dialog.close(), { class: "primary" });
  const dialog = opened(
    title,
    h("p", {}, text),
    h("div", { class: "field" }, h("label", { for: id }, label), output),
    h("menu", {}, copy, close),
  );
  dialog.addEventListener("close", done);
  dialog.showModal();
  copy.focus();
  return dialog;
}

/** Do something that has no form: what goes wrong is told in the corner. */
export async function act(action) {
  try {
    return await action();
  } catch (problem) {
    toast(problem.message);
    return undefined;
  }
}
