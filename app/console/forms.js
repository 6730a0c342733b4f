/** What the dialogs share: showing problems beside their fields, and waiting for the answer. */

/** Open a dialog afresh. */
export function open(dialog) {
  clear(dialog);
  dialog.showModal();
}

/** Run `action` when the form is sent; close the dialog when it succeeds, else say what is wrong. */
export function onSubmit(dialog, action) {
  const form = dialog.querySelector("form");
  for (const button of form.querySelectorAll(".cancel")) button.onclick = () => dialog.close();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clear(dialog);
    await attempt(dialog, () => action(Object.fromEntries(new FormData(form))));
  });
}

/** Do something in a dialog's name. */
export async function attempt(dialog, action) {
  const buttons = dialog.querySelectorAll("button");
  for (const button of buttons) button.disabled = true;
  try {
    await action();
    dialog.close();
  } catch (problem) {
    show(dialog, problem);
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

function show(dialog, problem) {
  let first = null;
  for (const [path, message] of problem.fields ?? []) {
    const field = dialog.querySelector(`[name="${CSS.escape(path.split(".")[0])}"]`);
    if (!field || field.hasAttribute("aria-describedby")) continue;
    const text = document.createElement("p");
    text.className = "error";
    text.id = `${field.id}-error`;
    text.textContent = message;
    field.after(text);
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", text.id);
    first ??= field;
  }
  const summary = dialog.querySelector(".problem");
  summary.textContent = first ? "Please look at what is marked." : problem.message;
  summary.hidden = false;
  first?.focus();
}

function clear(dialog) {
  dialog.querySelector(".problem").hidden = true;
  for (const text of dialog.querySelectorAll(".error")) text.remove();
  for (const field of dialog.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  }
}
