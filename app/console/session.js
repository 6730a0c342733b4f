/**
 * Who is signed in. The access token stays in memory; the refresh token in this tab's
 * sessionStorage, so that a reload does not sign out.
 */

import { Problem, read } from "./problem.js";

const KEY = "kingpost.refresh";
const AUTH = "/api/v2/auth";
const MARGIN = 30_000; // milliseconds before the end at which a token is renewed

let access = null; // {token, until}
let renewing = null; // one renewal at a time: a refresh token is good once
let timer = 0;
let user = null;
const listeners = new Set();
let renewed = () => {};

/** Call back with the account, or null, whenever that changes. */
export function onChange(callback) {
  listeners.add(callback);
}

/** Who is signed in; null where nobody is. */
export const account = () => user;

export const isAdmin = () => user?.roles.includes("admin") ?? false;

function become(somebody) {
  user = somebody;
  for (const each of listeners) each(user);
}

/** Call back whenever there is a newer token for the same account. */
export function onRenewal(callback) {
  renewed = callback;
}

/** Take up the session of before a reload. */
export async function restore() {
  if (sessionStorage.getItem(KEY)) await renew().catch(() => {});
  become(access ? await me() : null);
}

export async function signIn(username, password) {
  const body = new URLSearchParams({ username, password });
  await begin(await read(await fetch(`${AUTH}/token`, { method: "POST", body })));
}

/** Answer the question for a second factor, which a sign-in by password ended with. */
export async function answerChallenge(challenge, code) {
  await begin(await anonymous("/token/second-factor", { challenge, code }));
}

/** Take up the sign-in that a provider has sent the browser back with. */
export async function exchange(code) {
  await begin(await anonymous("/oidc/exchange", { code }));
}

/** Call an operation that takes no token. */
export async function anonymous(path, values) {
  const headers = { "Content-Type": "application/json" };
  return read(await fetch(AUTH + path, { method: "POST", headers, body: JSON.stringify(values) }));
}

async function begin(pair) {
  keep(pair);
  become(await me());
}

export async function signUp(account) {
  await anonymous("/register", account);
  await signIn(account.username, account.password);
}

export async function signOut() {
  const headers = await authorization();
  end();
  await fetch(`${AUTH}/logout`, { method: "POST", headers }).catch(() => {});
}

/** The session has ended, here and there. */
export function end() {
  forget();
  become(null);
}

/** The account itself was changed. */
export async function reload() {
  become(await me());
}

/** The access token, renewed where it is about to run out; null where nobody is signed in. */
export async function token() {
  if (access && access.until - Date.now() > MARGIN) return access.token;
  if (!sessionStorage.getItem(KEY)) return null;
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
  if (!sessionStorage.getItem(KEY)) return false;
  try {
    await renew();
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
  }
  return access !== null;
}

async function me() {
  return read(await fetch("/api/v2/users/me", { headers: await authorization() }));
}

function renew() {
  renewing ??= spend().finally(() => {
    renewing = null;
  });
  return renewing;
}

async function spend() {
  try {
    keep(await anonymous("/refresh", { refresh_token: sessionStorage.getItem(KEY) }));
    renewed();
  } catch (problem) {
    if (problem instanceof Problem && problem.status === 401) end();
    throw problem;
  }
}

function keep(pair) {
  access = { token: pair.access_token, until: Date.now() + pair.expires_in * 1000 };
  sessionStorage.setItem(KEY, pair.refresh_token);
  clearTimeout(timer);
  timer = setTimeout(() => renew().catch(() => {}), Math.max(1000, pair.expires_in * 1000 - 2 * MARGIN));
}

function forget() {
  access = null;
  sessionStorage.removeItem(KEY);
  clearTimeout(timer);
}
