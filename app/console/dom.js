/** Making elements, and writing times, sizes and sums for people. */

export const $ = (id) => document.getElementById(id);

/** Make an element: attributes, `on…` listeners, children (texts, elements, or nothing). */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const button = (text, onclick, attributes = {}) =>
  h("button", { type: "button", onclick, ...attributes }, text);

let ids = 0;

/** An id that nothing on the page has yet. */
export const freshId = (prefix) => `${prefix}-${++ids}`;

/** Replace what an element shows; who was in there with the keyboard goes on at its heading. */
export function refill(element, ...children) {
  const hadFocus = element.contains(document.activeElement);
  element.replaceChildren(...children.flat().filter(Boolean));
  if (!hadFocus) return;
  const heading = element.closest("section, dialog")?.querySelector("h1, h2");
  heading?.setAttribute("tabindex", "-1");
  heading?.focus();
}

const money = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const whole = new Intl.NumberFormat();

export const price = (value) => money.format(value);
export const count = (value) => whole.format(value);
export const time = (iso) => h("time", { datetime: iso }, moment.format(new Date(iso)));
export const timeOfDay = (iso) => h("time", { datetime: iso }, clock.format(new Date(iso)));

/** A number of bytes, as people write it. */
export function bytes(size) {
  if (size < 1000) return `${size} ${size === 1 ? "byte" : "bytes"}`;
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
  const power = Math.min(Math.floor(Math.log10(Math.max(size, 1)) / 3), units.length - 1);
  const options = { style: "unit", unit: units[power], unitDisplay: "short", maximumSignificantDigits: 3 };
  return new Intl.NumberFormat(undefined, options).format(size / 1000 ** power);
}

/** A device by its `User-Agent`: what people call it. */
export function device(userAgent) {
  if (!userAgent) return "Unknown device";
  const find = (names) => names.find(([pattern]) => pattern.test(userAgent))?.[1];
  const browser = find(BROWSERS);
  const system = find(SYSTEMS);
  return browser && system ? `${browser} on ${system}` : browser ?? userAgent.slice(0, 60);
}

const BROWSERS = [
  [/Edg\//, "Edge"],
  [/OPR\//, "Opera"],
  [/Firefox\//, "Firefox"],
  [/Chrome\//, "Chrome"],
  [/Safari\//, "Safari"],
];
const SYSTEMS = [
  [/Android/, "Android"],
  [/iPhone|iPad/, "iOS"],
  [/Windows/, "Windows"],
  [/Mac OS/, "macOS"],
  [/Linux/, "Linux"],
];
