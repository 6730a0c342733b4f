/** Two people at one item: what each of them wrote, brought together field by field. */

const NAMES = {
  name: "name",
  description: "description",
  price: "price",
  discountPercent: "discount",
  tags: "tags",
  visibility: "visibility",
};

/** Somebody else was faster. Says what they changed, and beside a field what it became. */
export class Clash extends Error {
  constructor(changed, clashing) {
    const what = changed.map((name) => NAMES[name]).join(", ");
    super(`Somebody else has changed this item${what && ` (${what})`}. What you wrote is kept: look at it and send it again.`);
    this.fields = new Map(clashing.map(([name, text]) => [name, text ? `They made it: ${text}` : "They made it empty."]));
  }
}

/**
 * What the fields are to say: mine where I wrote, else theirs. `clashing` has what they wrote where
 * I wrote as well.
 */
export function merged(before, mine, theirs) {
  const names = Object.keys(before);
  const changed = names.filter((name) => theirs[name] !== before[name] && theirs[name] !== mine[name]);
  const isMine = (name) => mine[name] !== before[name];
  return {
    texts: Object.fromEntries(names.map((name) => [name, isMine(name) ? mine[name] : theirs[name]])),
    changed,
    clashing: changed.filter(isMine).map((name) => [name, theirs[name]]),
  };
}
