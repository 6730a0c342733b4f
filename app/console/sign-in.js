/** Signing up, in and out: by password, by a second factor, by a provider, by a mail. */

import { ask } from "./dialogs.js";
import { $, button, h } from "./dom.js";
import { field, onSubmit, open } from "./forms.js";
import * as http from "./http.js";
import * as session from "./session.js";
import { toast } from "./toast.js";

let isSigningUp = false;
let asked = null; // the dialog that asks for a second factor
let settle = () => {}; // tells who waits for somebody to sign in again

function openAccount(signUp, { isAgain = false } = {}) {
  isSigningUp = signUp;
  for (const element of $("account").querySelectorAll("[data-only]")) {
    element.hidden = element.dataset.only !== (signUp ? "sign-up" : "sign-in");
  }
  $("account-title").textContent = signUp ? "Sign up" : "Sign in";
  $("account-form").querySelector("[type=submit]").textContent = signUp ? "Sign up" : "Sign in";
  $("account-username-label").textContent = signUp ? "Username" : "Username or e-mail";
  $("account-password").autocomplete = signUp ? "new-password" : "current-password";
  $("account-switch").textContent = signUp ? "I have an account" : "I have no account yet";
  if ($("account").open) return;
  $("account-form").reset();
  $("account-why").hidden = !isAgain;
  open($("account"));
  showProviders();
}

/** Have somebody sign in once more, over what they were doing; ends when they did, or would not. */
async function signInAgain({ username }) {
  openAccount(false, { isAgain: true });
  $("account-username").value = username;
  $("account-password").focus();
  await new Promise((resolve) => {
    settle = resolve;
  });
}

async function showProviders() {
  const aside = $("account-why").hidden ? {} : { target: "_blank" }; // this tab keeps what is written
  const answer = await http.get("/auth/oidc/providers").catch(() => ({ items: [] }));
  const links = answer.items.map(({ label, loginPath }) =>
    h("a", { class: "provider", href: `${loginPath}?redirect_to=/`, ...aside }, `Continue with ${label}`),
  );
  $("providers").replaceChildren(...links);
  $("providers").hidden = links.length === 0;
}

async function signInOrUp({ email, username, password, confirmPassword }) {
  if (isSigningUp) {
    await session.signUp({ email, username, password, confirmPassword });
    return;
  }
  try {
    await session.signIn(username, password);
  } catch (problem) {
    if (problem.code !== "SECOND_FACTOR_REQUIRED") throw problem;
    askCode(problem.body.challenge);
    $("account").close();
  }
}

export function askCode(challenge) {
  asked = ask({
    title: "Second factor",
    text: "Enter the six digits that your authenticator app shows now, or a recovery code.",
    fields: [field("Code", { name: "code", autocomplete: "one-time-code", spellcheck: "false" })],
    submit: "Sign in",
    action: ({ code }) => session.answerChallenge(challenge, code),
  });
  asked.addEventListener("close", () => {
    asked = null;
    settle();
  });
}

function askForMail() {
  const email = $("account-username").value;
  $("account").close();
  ask({
    title: "Set a new password",
    text: "We send you a link. It is good for an hour.",
    fields: [
      field("E-mail", {
        name: "email",
        type: "email",
        autocomplete: "email",
        value: email.includes("@") ? email : "",
      }),
    ],
    submit: "Send the link",
    action: (values) => session.anonymous("/password/forgot", values),
    done: (answer) => toast(answer.detail),
  });
}

export function start() {
  $("sign-in-open").onclick = () => openAccount(false);
  $("sign-up-open").onclick = () => openAccount(true);
  $("account-switch").onclick = () => openAccount(!isSigningUp);
  $("account-forgot").onclick = askForMail;
  $("sign-out").onclick = () => session.signOut();
  onSubmit($("account"), signInOrUp);
  $("account").addEventListener("close", () => asked ?? settle());
  session.onNeeded(signInAgain);
  session.onChange((user, hasExpired) => {
    if (hasExpired) toast("Your session has ended.");
    if (user) $("account").close(); // they may have signed in in another tab
    $("who").textContent = user?.username ?? "";
    const held = document.activeElement;
    for (const id of ["who", "sign-out", "new-item", "import-open"]) $(id).hidden = !user;
    for (const id of ["sign-in-open", "sign-up-open"]) $(id).hidden = Boolean(user);
    if (held.hidden) $(user ? "who" : "sign-in-open").focus(); // or the keyboard begins anew
  });
}

export { openAccount };
