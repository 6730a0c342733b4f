/** The lines of an import that were refused, and why. */

import { h } from "./dom.js";
import * as http from "./http.js";

const SHOWN = 50;

export const saveRejected = (jobId) => http.save(`/jobs/${jobId}/rejected`, `rejected-${jobId}.ndjson`);

/** The first of them, to be read on the page. */
export async function rejectedLines(jobId) {
  const text = await (await http.blob(`/jobs/${jobId}/rejected`)).text();
  const lines = text.split("\n").filter(Boolean).map((line) => JSON.parse(line));
  return h(
    "ol",
    { class: "rejected", "aria-label": "Refused lines" },
    ...lines.slice(0, SHOWN).map(({ line, errors }) =>
      h("li", {}, h("strong", {}, `Line ${line}`), ` ${errors.map(({ field, message }) => (field ? `${field}: ${message}` : message)).join("; ")}`),
    ),
    lines.length > SHOWN && h("li", {}, `and ${lines.length - SHOWN} more`),
  );
}
