/** The places of the page, one behind each `#/name`, and the links between them. */

import { $, button, h } from "./dom.js";
import { isWritten } from "./forms.js";
import * as session from "./session.js";

const places = new Map(); // name → {title, isForAdmins, show}
let leave = () => {};
let current = "";

/**
 * Add a place. `show(section)` fills it when somebody goes there, and may return what is to be done
 * when they leave.
 */
export function place(name, title, show, { isForAdmins = false } = {}) {
  places.set(name, { title, show, isForAdmins });
}

const wanted = () => (location.hash.startsWith("#/") ? location.hash.slice(2) : "");

function go() {
  const name = places.has(wanted()) ? wanted() : "";
  const hasMoved = name !== current;
  current = name;
  leave();
  leave = () => {};
  $("catalogue").hidden = $("activity").hidden = name !== "";
  $("place").hidden = name === "";
  $("place").replaceChildren();
  document.title = name ? `${places.get(name).title} · Kingpost` : "Kingpost console";
  for (const link of document.querySelectorAll("[data-place]")) {
    const isHere = link.dataset.place === name;
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    if (isHere) link.scrollIntoView({ block: "nearest", inline: "center" }); // on a phone they scroll
  }
  if (name) show(places.get(name));
  if (!hasMoved) return;
  scrollTo(0, 0);
  if (!document.querySelector("dialog[open]")) heading()?.focus();
}

function show({ title, show, isForAdmins }) {
  const section = h(
    "section",
    { class: "place", "aria-labelledby": "place-title" },
    h("div", { class: "title" }, h("h1", { id: "place-title", tabindex: "-1" }, title)),
  );
  $("place").append(section);
  if (!session.account()) {
    section.append(h("p", { class: "empty" }, "Sign in to see this. ", button("Sign in", () => $("sign-in-open").click())));
  } else if (isForAdmins && !session.isAdmin()) {
    section.append(h("p", { class: "empty" }, "This is for admins."));
  } else {
    leave = show(section) ?? leave;
  }
}

const hasUnsent = () => [...$("place").querySelectorAll("form:not(.filters)")].some(isWritten);

const heading = () => $(current ? "place-title" : "catalogue-title");

function links() {
  const user = session.account();
  $("places").hidden = !user;
  for (const link of $("places").querySelectorAll("[data-admins]")) link.hidden = !session.isAdmin();
}

let mayStay; // with the rights of an admin
let shownFor; // a renewed profile of the same person does not tear down what they are doing

export function start() {
  addEventListener("hashchange", () => {
    if (location.hash.startsWith("#/") || location.hash === "") go();
  });
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    heading().focus();
  });
  session.onChange((user, hasExpired) => {
    links();
    if (hasExpired && hasUnsent()) return; // they sign in again when they send it
    const isSame = shownFor === (user?.id ?? null);
    if (isSame && mayStay === session.isAdmin()) return;
    const isClosed = places.get(current)?.isForAdmins;
    shownFor = user?.id ?? null;
    mayStay = session.isAdmin();
    if (!isSame || isClosed) go();
  });
}
