/** The place of one's own account: profile, password, address, and the parts of other modules. */

import { act, ask } from "./dialogs.js";
import { button, h, refill } from "./dom.js";
import { field, formOf } from "./forms.js";
import * as http from "./http.js";
import * as identities from "./identities.js";
import * as keys from "./keys.js";
import { badge, card } from "./lists.js";
import * as secondFactor from "./second-factor.js";
import * as session from "./session.js";
import * as sessions from "./sessions.js";
import { toast } from "./toast.js";

export function show(section) {
  const address = h("div");
  const showAddress = (user) => user && refill(address, addressOf(user));
  showAddress(session.account());
  section.append(
    profile(),
    card("E-mail", {}, address),
    password(),
    secondFactor.part(),
    identities.part(),
    sessions.part(),
    keys.part(),
    data(),
  );
  return session.onChange(showAddress);
}

function profile() {
  const { username, fullName } = session.account();
  return card(
    "Profile",
    {},
    formOf({
      attributes: { class: "pair" },
      fields: [
        field("Username", { name: "username", value: username, autocomplete: "username", spellcheck: "false" }),
        field("Full name", { name: "fullName", value: fullName ?? "", autocomplete: "name" }),
      ],
      submit: "Save profile",
      async action(values) {
        await http.patch("/users/me", { username: values.username, fullName: values.fullName || null });
        await session.reload();
        toast("Your profile is saved.");
      },
    }),
  );
}

function addressOf({ email, isVerified }) {
  return h(
    "div",
    { class: "together" },
    h("p", { class: "address" }, email, " ", isVerified ? badge("confirmed", "good") : badge("not confirmed")),
    !isVerified && button("Send the confirmation again", () => act(() => confirmAgain(email))),
    button("Change e-mail", changeAddress),
  );
}

async function confirmAgain(email) {
  toast((await session.anonymous("/email/resend", { email })).detail);
}

function changeAddress() {
  ask({
    title: "Change the e-mail address",
    text: "Both addresses get a mail, and it changes when both have agreed.",
    fields: [
      field("New e-mail", { name: "email", type: "email", autocomplete: "email" }),
      field("Your password", { name: "password", type: "password", autocomplete: "current-password" }),
    ],
    submit: "Send the mails",
    action: (values) => http.post("/auth/email/change", values),
    done: (answer) => toast(answer.detail),
  });
}

function password() {
  const sendLink = () =>
    act(async () => toast((await session.anonymous("/password/forgot", { email: session.account().email })).detail));
  return card(
    "Password",
    {
      hint: "Changing it signs you out everywhere else. Whoever has none yet gets a link by mail, too.",
      action: button("I do not know it", sendLink, { class: "link" }),
    },
    formOf({
      fields: [
        field("Current password", { name: "currentPassword", type: "password", autocomplete: "current-password" }),
        h(
          "div",
          { class: "pair" },
          field("New password", { name: "newPassword", type: "password", autocomplete: "new-password" }),
          field("New password again", { name: "confirmPassword", type: "password", autocomplete: "new-password" }),
        ),
      ],
      submit: "Change password",
      async action(values, form) {
        await http.post("/auth/password/change", values);
        form.reset();
        toast("Your password is changed.");
      },
    }),
  );
}

function data() {
  const leave = () =>
    ask({
      title: "Delete your account?",
      text: "Your items go with it, and your name is free for others at once. There is no way back.",
      fields: [field("To be sure, write your username", { name: "sure", autocomplete: "off", spellcheck: "false" })],
      submit: "Delete my account",
      isDangerous: true,
      async action({ sure }) {
        if (sure !== session.account().username) throw new Error("That is not your username.");
        await http.remove("/users/me");
        session.end();
        location.hash = "#/";
        toast("Your account is deleted.");
      },
    });
  const take = () => act(() => http.save("/users/me/export", "kingpost-account.json"));
  return card(
    "Your data",
    { hint: "All that is kept of you, as one JSON document; or nothing any more." },
    h(
      "div",
      { class: "together" },
      button("Download my data", take),
      button("Delete my account", leave, { class: "danger" }),
    ),
  );
}
