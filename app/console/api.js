/** The catalogue over the public API: the same calls that any client makes. */

import { read } from "./problem.js";
import { authorization, refused } from "./session.js";

const ITEMS = "/api/v2/items";

export const list = (query) => call("GET", `${ITEMS}?${query}`);
export const get = (id) => call("GET", `${ITEMS}/${id}`);
export const create = (item, key) => call("POST", ITEMS, item, { "Idempotency-Key": key });
export const change = (item, changes) =>
  call("PATCH", `${ITEMS}/${item.id}`, changes, {
    "Content-Type": "application/merge-patch+json",
    "If-Match": `"${item.version}"`,
  });
export const remove = (item) =>
  call("DELETE", `${ITEMS}/${item.id}`, undefined, { "If-Match": `"${item.version}"` });
export const restore = (id) => call("POST", `${ITEMS}/${id}/restore`);

async function call(method, path, body, headers = {}) {
  const send = async () => {
    const type = body === undefined ? {} : { "Content-Type": "application/json" };
    return fetch(path, {
      method,
      headers: { ...type, ...headers, ...(await authorization()) },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  };
  let answer = await send();
  if (answer.status === 401 && (await refused())) answer = await send();
  return read(answer);
}
