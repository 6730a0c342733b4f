/** Accounts elsewhere that sign in here: listed, linked, unlinked. */

import { act, ask } from "./dialogs.js";
import { button, h, time } from "./dom.js";
import * as http from "./http.js";
import { at, card, facts, row, whole } from "./lists.js";

export function part() {
  let labels = new Map();
  const links = h("div", { class: "together" });
  const list = whole({
    label: "Linked identities",
    load: async () => (await http.get("/auth/identities")).items,
    toRow: (each) => identityRow(each, labels.get(each.provider) ?? each.provider, () => list.reload()),
    empty: "None is linked yet.",
  });
  const section = card("Sign-in by others", { hint: "Sign in by an account that you have elsewhere." }, list.element, links);
  section.hidden = true; // until there is somebody to sign in by
  act(async () => {
    const { items } = await http.get("/auth/oidc/providers");
    labels = new Map(items.map(({ name, label }) => [name, label]));
    section.hidden = items.length === 0;
    links.replaceChildren(...items.map(({ name, label }) => button(`Link ${label}`, () => act(() => link(name)))));
    if (items.length) await list.reload();
  });
  return section;
}

async function link(name) {
  const { authorizationUrl } = await http.post(`/auth/oidc/${name}/link`, { redirectTo: "/" });
  location.assign(authorizationUrl);
}

function identityRow(identity, label, reload) {
  const unlink = () =>
    ask({
      title: `Unlink ${label}?`,
      text: `You cannot sign in by ${label} any more.`,
      submit: "Unlink",
      isDangerous: true,
      action: () => http.remove(`/auth/identities/${identity.id}`),
      done: reload,
    });
  return row({
    id: identity.id,
    title: label,
    lines: [facts(identity.email, at("linked", time(identity.createdAt)), at("last used", time(identity.lastUsedAt)))],
    actions: [button("Unlink", unlink, { "aria-label": `Unlink ${label}` })],
  });
}
