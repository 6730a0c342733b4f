/** A sentence at the bottom of the page, for a while; perhaps with a way back. */

import { $ } from "./dom.js";

const SHOWN = 8000; // milliseconds

let timer = 0;

export function toast(text, undo = null) {
  const button = $("toast").querySelector("button");
  rise();
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
  fade();
}

/** An open dialog covers all that is not in it, from eyes and from screen readers. */
function rise() {
  const top = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
  if ($("toast").parentElement !== top) top.append($("toast"));
}

function fade() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    if ($("toast").matches(":hover, :focus-within")) fade();
    else $("toast").hidden = true;
  }, SHOWN);
}

addEventListener("close", rise, { capture: true }); // a closed dialog is taken away
