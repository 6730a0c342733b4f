/** A sentence at the bottom of the page, for a while; perhaps with a way back. */

import { $ } from "./dom.js";

const SHOWN = 8000; // milliseconds

let timer = 0;

export function toast(text, undo = null) {
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
  clearTimeout(timer);
  timer = setTimeout(() => {
    $("toast").hidden = true;
  }, SHOWN);
}
