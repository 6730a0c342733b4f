/** The second factor: begun with a QR code, confirmed, given up; and its recovery codes. */

import { act, ask, reveal } from "./dialogs.js";
import { button, h } from "./dom.js";
import { field } from "./forms.js";
import * as http from "./http.js";
import { badge, card } from "./lists.js";
import { toast } from "./toast.js";

const TOTP = "/auth/totp";

const passwordField = () =>
  field("Your password", { name: "password", type: "password", autocomplete: "current-password" });
const codeField = (hint = null) =>
  field("Code", { name: "code", autocomplete: "one-time-code", spellcheck: "false" }, { hint });

export function part() {
  const body = h("div", { class: "together" });
  const reload = () =>
    act(async () => {
      const { isEnabled, recoveryCodesLeft } = await http.get(TOTP);
      body.replaceChildren(...(isEnabled ? enabled(recoveryCodesLeft, reload) : disabled(reload)));
    });
  reload();
  return card("Second factor", { hint: "A code of an authenticator app, besides your password." }, body);
}

const disabled = (reload) => [h("p", {}, badge("off")), button("Set up", () => begin(reload))];

function enabled(left, reload) {
  const codes = `${left} recovery ${left === 1 ? "code" : "codes"} left`;
  return [
    h("p", {}, badge("on", "good"), ` ${codes}`),
    button("New recovery codes", () => renew(reload)),
    button("Turn off", () => disable(reload), { class: "danger" }),
  ];
}

function begin(reload) {
  ask({
    title: "Set up a second factor",
    text: "First, so that nobody else does this:",
    fields: [passwordField()],
    submit: "Continue",
    action: (values) => http.post(TOTP, values),
    done: (enrolment) => confirm(enrolment, reload),
  });
}

function confirm({ qrCode, secret }, reload) {
  const typed = secret.replace(/(.{4})/g, "$1 ").trim();
  ask({
    title: "Scan this with your authenticator app",
    fields: [
      h("img", { class: "qr", src: qrCode, alt: "QR code with the secret", width: 200, height: 200 }),
      h("details", {}, h("summary", {}, "I cannot scan it"), h("p", {}, "Type this secret into the app:"), h("code", { class: "secret" }, typed)),
      codeField("The six digits that the app shows now."),
    ],
    submit: "Confirm",
    action: ({ code }) => http.post(`${TOTP}/confirm`, { code: code.trim() }),
    done: (answer) => showCodes(answer.recoveryCodes, reload),
  });
}

function renew(reload) {
  ask({
    title: "New recovery codes",
    text: "The ones that you have now are void then.",
    fields: [passwordField(), codeField()],
    submit: "Make new ones",
    action: (values) => http.post(`${TOTP}/recovery-codes`, values),
    done: (answer) => showCodes(answer.recoveryCodes, reload),
  });
}

function showCodes(codes, reload) {
  reveal({
    title: "Your recovery codes",
    text: "Each of them works once in place of a code, if you lose your device. They are shown this once: print them, or keep them where your device is not.",
    label: "Recovery codes",
    secret: codes.join("\n"),
    done: reload,
  });
}

function disable(reload) {
  ask({
    title: "Turn off the second factor?",
    text: "Your password alone will be enough. Every other session ends.",
    fields: [passwordField(), codeField("Of your app, or a recovery code.")],
    submit: "Turn off",
    isDangerous: true,
    action: (values) => http.call("DELETE", TOTP, values),
    done() {
      toast("The second factor is off.");
      reload();
    },
  });
}
