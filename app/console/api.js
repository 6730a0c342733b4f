/** The catalogue over the public API: the same calls that any client makes. */

import * as http from "./http.js";

const ITEMS = "/items";

const ifUnchanged = (item) => ({ "If-Match": `"${item.version}"` });

export const list = (query) => http.get(`${ITEMS}?${query}`);
export const get = (id) => http.get(`${ITEMS}/${id}`);
export const create = (item, key) => http.post(ITEMS, item, { "Idempotency-Key": key });
export const change = (item, changes) =>
  http.patch(`${ITEMS}/${item.id}`, changes, {
    "Content-Type": "application/merge-patch+json",
    ...ifUnchanged(item),
  });
export const remove = (item) => http.remove(`${ITEMS}/${item.id}`, ifUnchanged(item));
export const restore = (id) => http.post(`${ITEMS}/${id}/restore`);
