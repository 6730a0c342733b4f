/** Everybody's accounts, for admins: roles, suspension. */

import { act, ask } from "./dialogs.js";
import { button, h, time } from "./dom.js";
import { boxes, choice, field, onFilter, ticked } from "./forms.js";
import * as http from "./http.js";
import { at, badge, facts, paged, row } from "./lists.js";
import * as session from "./session.js";
import { toast } from "./toast.js";

const ROLES = [
  ["user", "User"],
  ["analyst", "Analyst"],
  ["admin", "Admin"],
];

export function show(section) {
  const filters = h(
    "form",
    { class: "filters narrow", role: "search", "aria-label": "Users" },
    field("Search", { name: "q", type: "search", maxlength: 100, autocomplete: "off" }),
    field("Role", { name: "role" }, { control: choice([["", "All"], ...ROLES]) }),
    field("State", { name: "isActive" }, { control: choice([["", "All"], ["true", "Active"], ["false", "Suspended"]]) }),
  );
  const list = paged({
    label: "Users",
    load: (query) => http.get(`/users?${query}`),
    query: () => Object.fromEntries(new FormData(filters)),
    toRow: (user) => userRow(user, list.reload),
    empty: "Nobody matches.",
  });
  onFilter(filters, list.reload);
  section.append(filters, list.element);
  list.reload();
}

function userRow(user, reload) {
  const isMe = user.id === session.account().id;
  const letIn = () => act(async () => (await http.post(`/users/${user.id}/unsuspend`), reload()));
  return row({
    id: user.id,
    title: user.username,
    badges: [
      ...user.roles.filter((role) => role !== "user").map((role) => badge(role, "busy")),
      !user.isActive && badge("suspended", "bad"),
      isMe && badge("you", "good"),
    ],
    lines: [
      facts(user.email, !user.isVerified && "not confirmed", user.fullName, at("since", time(user.createdAt))),
      user.suspendedFor && h("p", { class: "line bad" }, user.suspendedFor),
    ],
    actions: [
      button("Roles", () => changeRoles(user, reload), { "aria-label": `Roles of ${user.username}` }),
      !isMe && user.isActive && button("Suspend", () => suspend(user, reload), { class: "danger", "aria-label": `Suspend ${user.username}` }),
      !user.isActive && button("Let in again", letIn, { "aria-label": `Let ${user.username} in again` }),
      !isMe && button("Reset second factor", () => resetFactor(user), { "aria-label": `Reset the second factor of ${user.username}` }),
    ],
  });
}

function changeRoles(user, reload) {
  ask({
    title: `Roles of ${user.username}`,
    fields: [boxes("Roles", "roles", ROLES, user.roles)],
    submit: "Save",
    action: (_, form) => http.patch(`/users/${user.id}`, { roles: ticked(form, "roles") }),
    async done() {
      if (user.id === session.account().id) await session.reload();
      reload();
    },
  });
}

function suspend(user, reload) {
  ask({
    title: `Suspend ${user.username}?`,
    text: "Their sessions end everywhere within a second. What they own stays.",
    fields: [field("Why", { name: "reason", maxlength: 300 }, { hint: "Admins and the audit log keep it." })],
    submit: "Suspend",
    isDangerous: true,
    action: (values) => http.post(`/users/${user.id}/suspend`, values),
    done: reload,
  });
}

function resetFactor(user) {
  ask({
    title: `Reset the second factor of ${user.username}?`,
    text: "For somebody who has lost device and recovery codes. Be sure that it is they who ask. Their sessions end.",
    submit: "Reset it",
    isDangerous: true,
    action: () => http.remove(`/users/${user.id}/totp`),
    done: () => toast(`${user.username} signs in by password alone now.`),
  });
}
