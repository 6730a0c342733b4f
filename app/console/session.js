/**
 * Who is signed in. The access token stays in memory; the refresh token in a cookie that no script
 * can read. What is stored says only whose cookie there is, if any.
 */

import { Problem, reach, read } from "./problem.js";

const KEY = "kingpost.account"; // an id: where it is missing, there is nothing to ask for
const AUTH = "/api/v2/auth";
const ENDED = new Set([401, 422]); // the session is over, or its cookie is gone
const MARGIN = 30_000; // milliseconds before the end at which a token is renewed

let access = null; // {token, until}
let renewing = null; // one renewal at a time: a refresh token is good once
let timer = 0;
let user = null;
let last = null; // who was signed in last
let signInAgain = async () => {};
let isLeaving = false; // the socket is closed before the answer to signing out is here
const listeners = new Set();
let renewed = () => {};

/** Call back with the account, or null, whenever that changes; and whether its session ran out. Returns how to stop that. */
export function onChange(callback) {
  listeners.add(callback);
  return () => listeners.delete(callback);
}

/** Who is signed in; null where nobody is. */
export const account = () => user;

export const isAdmin = () => user?.roles.includes("admin") ?? false;

function become(somebody, { hasExpired = false } = {}) {
  user = somebody;
  last = user ?? last;
  for (const each of listeners) each(user, hasExpired);
}

/** Call this to have somebody, whose session has ended, sign in once more. */
export function onNeeded(callback) {
  signInAgain = callback;
}

/** Go on after the session has ended; say whether the same person is signed in again. */
export async function resume() {
  const { id } = last;
  if (await refused()) return true;
  if (!user) await signInAgain(last);
  return user?.id === id;
}

/** Call back whenever there is a newer token for the same account. */
export function onRenewal(callback) {
  renewed = callback;
}

/** Take up the session of before a reload, or of another tab. */
export async function restore() {
  if (localStorage.getItem(KEY)) await renew().catch(() => {});
  become(access ? await me() : null);
}

// All tabs share one cookie: when somebody else signs in in one, or out, the others must follow.
addEventListener("storage", ({ key }) => {
  if (key !== KEY && key !== null) return;
  access = null;
  clearTimeout(timer);
  restore();
});

export async function signIn(username, password) {
  const body = new URLSearchParams({ username, password });
  await begin(await read(await reach(`${AUTH}/token?cookie=true`, { method: "POST", body })));
}

/** Answer the question for a second factor, which a sign-in by password ended with. */
export async function answerChallenge(challenge, code) {
  await begin(await anonymous("/token/second-factor?cookie=true", { challenge, code }));
}

/** Take up the sign-in that a provider has sent the browser back with. */
export async function exchange(code) {
  await begin(await anonymous("/oidc/exchange?cookie=true", { code }));
}

/** Call an operation that takes no token. */
export async function anonymous(path, values) {
  const headers = { "Content-Type": "application/json" };
  return read(await reach(AUTH + path, { method: "POST", headers, body: JSON.stringify(values) }));
}

async function begin(pair) {
  keep(pair);
  const somebody = await me();
  localStorage.setItem(KEY, somebody.id);
  become(somebody);
}

export async function signUp(account) {
  await anonymous("/register", account);
  await signIn(account.username, account.password);
}

/** Only the service can take the cookie back: without an answer nobody is signed out. */
export async function signOut() {
  isLeaving = true;
  try {
    await reach(`${AUTH}/logout`, { method: "POST", headers: await authorization() });
  } finally {
    isLeaving = false;
  }
  end();
}

/** The session has ended, here and there. */
export function end(how) {
  access = null;
  localStorage.removeItem(KEY);
  clearTimeout(timer);
  become(null, how);
}

/** The account itself was changed. */
export async function reload() {
  if (user) become(await me());
}

/** The access token, renewed where it is about to run out; null where nobody is signed in. */
export async function token() {
  if (access && access.until - Date.now() > MARGIN) return access.token;
  if (!localStorage.getItem(KEY)) return null;
  await renew();
  return access?.token ?? null;
}

/** Headers for a request of whoever is signed in. */
export async function authorization() {
  const current = await token();
  return current ? { Authorization: `Bearer ${current}` } : {};
}

/** The service refused the token: get another one, or learn that the session has ended. */
export async function refused() {
  access = null;
  if (isLeaving || !localStorage.getItem(KEY)) return false;
  await renew();
  return access !== null;
}

async function me() {
  return read(await reach("/api/v2/users/me", { headers: await authorization() }));
}

function renew() {
  renewing ??= spend().finally(() => {
    renewing = null;
  });
  return renewing;
}

async function spend() {
  try {
    keep(await read(await reach(`${AUTH}/refresh`, { method: "POST" })));
    renewed();
  } catch (problem) {
    if (!(problem instanceof Problem && ENDED.has(problem.status))) throw problem;
    end({ hasExpired: user !== null });
  }
}

function keep(pair) {
  access = { token: pair.access_token, until: Date.now() + pair.expires_in * 1000 };
  clearTimeout(timer);
  timer = setTimeout(() => renew().catch(() => {}), Math.max(1000, pair.expires_in * 1000 - 2 * MARGIN));
}
