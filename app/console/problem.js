/** Answers of the service: JSON, or an RFC 9457 problem as an exception. */

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? body.title ?? "Something went wrong");
    this.status = status;
    this.code = body.error_code ?? "";
    this.body = body;
    this.fields = new Map((body.errors ?? []).map((each) => [each.field, each.message]));
  }
}

/** `fetch`, whose failure says what a person can do. */
export async function reach(url, options) {
  try {
    return await fetch(url, options);
  } catch {
    throw new Error("The service cannot be reached. Please try again in a moment.");
  }
}

/** The session has ended meanwhile. */
export class SignedOut extends Error {
  constructor() {
    super("You are signed out. Sign in and send it again: nothing is lost.");
  }
}

export async function read(answer) {
  if (answer.status === 204) return null;
  const isJson = (answer.headers.get("content-type") ?? "").includes("json");
  const body = isJson ? await answer.json() : {};
  if (!answer.ok) throw new Problem(answer.status, body);
  return body;
}
