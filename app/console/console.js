/** Puts the page together. */

import * as account from "./account.js";
import * as audit from "./audit.js";
import * as catalogue from "./catalogue.js";
import * as editor from "./editor.js";
import * as fragment from "./fragment.js";
import * as jobs from "./jobs.js";
import * as session from "./session.js";
import * as signIn from "./sign-in.js";
import * as stream from "./stream.js";
import * as transfer from "./transfer.js";
import * as users from "./users.js";
import { place, start as startViews } from "./views.js";
import * as webhooks from "./webhooks.js";

place("account", "Account", account.show);
place("jobs", "Jobs", jobs.show);
place("webhooks", "Webhooks", webhooks.show);
place("users", "Users", users.show, { isForAdmins: true });
place("audit", "Audit log", audit.show, { isForAdmins: true });

for (const part of [signIn, catalogue, editor, transfer, stream]) part.start();
startViews();

await session.restore();
addEventListener("hashchange", fragment.follow);
await fragment.follow();
