/** Where one is signed in, and ending that. */

import { act, ask } from "./dialogs.js";
import { button, device, time } from "./dom.js";
import * as http from "./http.js";
import { at, badge, card, facts, row, whole } from "./lists.js";
import * as session from "./session.js";
import { toast } from "./toast.js";

export function part() {
  const list = whole({
    label: "Sessions",
    load: async () => (await http.get("/auth/sessions")).items,
    toRow: (each) => sessionRow(each, () => act(() => endOne(each))),
    empty: "No sessions.",
  });
  const endOne = async ({ id }) => {
    await http.remove(`/auth/sessions/${id}`);
    toast("That session has ended.");
    await list.reload();
  };
  list.reload();
  const everywhere = button("Sign out everywhere", endAll, { class: "danger" });
  return card("Sessions", { hint: "Where you are signed in.", action: everywhere }, list.element);
}

function sessionRow(each, end) {
  const name = device(each.userAgent);
  return row({
    id: each.id,
    title: name,
    badges: [each.isCurrent && badge("this one", "good")],
    lines: [facts(each.address, at("last used", time(each.lastUsedAt)), at("since", time(each.createdAt)))],
    actions: [!each.isCurrent && button("Sign out", end, { "aria-label": `Sign out ${name}` })],
  });
}

function endAll() {
  ask({
    title: "Sign out everywhere?",
    text: "Every session ends, this one too. API keys go on working.",
    submit: "Sign out everywhere",
    isDangerous: true,
    async action() {
      await http.post("/auth/logout-all");
      session.end();
      location.hash = "#/";
    },
  });
}
