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
let listener = () => {};
let renewed = () => {};

/** Call back with the account, or null, whenever that changes. */
export function onChange(callback) {
  listener = callback;
}

/** Call back whenever there is a newer token for the same account. */
export function onRenewal(callback) {
  renewed = callback;
}

/** Take up the session of before a reload. */
export async function restore() {
  if (sessionStorage.getItem(KEY)) await renew().catch(() => {});
  listener(access ? await me() : null);
}

export async function signIn(username, password) {
  const body = new URLSearchParams({ username, password });
  keep(await read(await fetch(`${AUTH}/token`, { method: "POST", body })));
  listener(await me());
}

export async function signUp(account) {
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify(account);
  await read(await fetch(`${AUTH}/register`, { method: "POST", headers, body }));
  await signIn(account.username, account.password);
}

export async function signOut() {
  const headers = await authorization();
  forget();
  listener(null);
  await fetch(`${AUTH}/logout`, { method: "POST", headers }).catch(() => {});
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
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify({ refresh_token: sessionStorage.getItem(KEY) });
  try {
    keep(await read(await fetch(`${AUTH}/refresh`, { method: "POST", headers, body })));
    renewed();
  } catch (problem) {
    if (problem instanceof Problem && problem.status === 401) {
      forget();
      listener(null);
    }
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
