/** What stands behind the `#` when somebody comes from a mail or a provider. */

import { ask } from "./dialogs.js";
import { field } from "./forms.js";
import * as http from "./http.js";
import * as session from "./session.js";
import { askCode, openAccount } from "./sign-in.js";
import { toast } from "./toast.js";

const ERRORS = {
  SIGN_IN_EXPIRED: "That took too long, or was begun in another browser. Please try again.",
  INVALID_ID_TOKEN: "The provider's answer could not be believed. Please try again.",
  PROVIDER_REFUSED: "The provider did not let you in.",
  ACCOUNT_SUSPENDED: "This account is suspended.",
  EMAIL_TAKEN: "There is an account with this e-mail address. Sign in as before, and link the provider there.",
  EMAIL_NEEDED: "The provider told no e-mail address. Sign up by one here.",
  IDENTITY_TAKEN: "This identity is linked to another account.",
  PROVIDER_FAILED: "The provider does not answer. Please try again later.",
};

const ACTIONS = {
  async sign_in_code(code) {
    try {
      await session.exchange(code);
    } catch (problem) {
      if (problem.code !== "SECOND_FACTOR_REQUIRED") throw problem;
      askCode(problem.body.challenge);
    }
  },
  async linked(provider) {
    location.hash = "#/account";
    const { items } = await http.get("/auth/oidc/providers");
    const { label } = items.find(({ name }) => name === provider) ?? { label: provider };
    toast(`Linked. You can sign in by ${label} from now on.`);
  },
  sign_in_error(code) {
    toast(ERRORS[code] ?? "Signing in did not work. Please try again.");
  },
  // A click is asked for: who opens a mail by mistake has not said that the account is theirs.
  "verify-email"(token) {
    ask({
      title: "Confirm your e-mail address",
      text: "Confirm it if you signed up here. If you did not, close this page, and nothing happens.",
      submit: "Confirm",
      action: () => session.anonymous("/email/verify", { token }),
      done: () => told("Your e-mail address is confirmed."),
    });
  },
  "confirm-email-change"(token) {
    ask({
      title: "Change the e-mail address",
      text: "The address changes once both have agreed, the old one and the new one.",
      submit: "Agree",
      action: () => session.anonymous("/email/change/confirm", { token }),
      done: ({ isChanged }) =>
        told(isChanged ? "The e-mail address is changed." : "Agreed. The other address has to agree too."),
    });
  },
  "cancel-email-change"(token) {
    ask({
      title: "Stop the change of your e-mail address",
      text: "Your account keeps the address that it has. If you did not ask for the change, change your password too.",
      submit: "Stop the change",
      action: () => session.anonymous("/email/change/cancel", { token }),
      done: () => told("The change is stopped."),
    });
  },
  "reset-password"(token) {
    const shared = { type: "password", autocomplete: "new-password" };
    ask({
      title: "Set a new password",
      text: "You are signed out everywhere, and sign in with the new one.",
      fields: [
        field("New password", { name: "password", ...shared }),
        field("New password again", { name: "confirmPassword", ...shared }),
      ],
      submit: "Set it",
      action: (values) => session.anonymous("/password/reset", { token, ...values }),
      done() {
        session.end();
        toast("Your password is set.");
        openAccount(false);
      },
    });
  },
};

async function told(text) {
  toast(text);
  if (session.account()) await session.reload();
}

/** Do what the address asks for, once, and take it out of the address and the history. */
export async function follow() {
  const [name, value] = [...new URLSearchParams(location.hash.slice(1))][0] ?? [];
  if (!Object.hasOwn(ACTIONS, name ?? "")) return;
  history.replaceState(null, "", location.pathname + location.search);
  try {
    await ACTIONS[name](value);
  } catch (problem) {
    toast(problem.message);
  }
}
