/** Calls of the public API as whoever is signed in. */

import { Problem, SignedOut, reach, read } from "./problem.js";
import { authorization, refused } from "./session.js";

export const ROOT = "/api/v2";

export const get = (path) => call("GET", path);
export const post = (path, body, headers) => call("POST", path, body, headers);
export const patch = (path, body, headers) => call("PATCH", path, body, headers);
export const remove = (path, headers) => call("DELETE", path, undefined, headers);

/** Call an operation; return its JSON. `body` is JSON, or a Blob that carries its own type. */
export async function call(method, path, body, headers = {}) {
  return read(await send(method, path, body, headers));
}

/** Call an operation; return the answer as it is. */
export async function send(method, path, body, headers = {}) {
  const once = async () => {
    const isJson = body !== undefined && !(body instanceof Blob);
    const type = isJson ? { "Content-Type": "application/json" } : {};
    return reach(ROOT + path, {
      method,
      headers: { ...type, ...headers, ...(await authorization()) },
      body: isJson ? JSON.stringify(body) : body,
    });
  };
  const answer = await once();
  if (!(await isTokenRefused(answer))) return answer;
  if (await refused()) return once();
  throw new SignedOut();
}

/** A wrong code is 401 as well, and must not be sent twice. */
async function isTokenRefused(answer) {
  if (answer.status !== 401) return false;
  const problem = await answer.clone().json().catch(() => ({}));
  return ["UNAUTHENTICATED", "INVALID_TOKEN"].includes(problem.error_code);
}

/** Fetch a file as whoever is signed in, and hand it to the browser's downloads. */
export async function save(path, name) {
  const url = URL.createObjectURL(await blob(path));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

export async function blob(path) {
  const answer = await send("GET", path);
  if (!answer.ok) await read(answer);
  return answer.blob();
}

/** Send a form with files; `onProgress` gets a share from 0 to 1. Only XMLHttpRequest tells that. */
export async function upload(path, form, onProgress) {
  const headers = await authorization();
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", ROOT + path);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onerror = () => reject(new Error("The connection was lost. Nothing was added."));
    request.onload = () => {
      if (request.status < 300) resolve(request.response);
      else if (request.status === 401) reject(new SignedOut());
      else reject(new Problem(request.status, request.response ?? {}));
    };
    request.send(form);
  });
}
